"""Where torch transforms a call, the specification computes it: forward mode, and `torch.func`."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs

from .conftest import Case, detached

# Torch's own: it scripts the derivatives of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

LENGTHS = ["none", "zeros"]


def layer(lengths: str = "none", **options: object) -> LayerArgs:
    case = Case(4, 3, 2, 3, 2, lengths, states=True, dtype=torch.float64, **options)  # type: ignore[arg-type]
    return detached(case.build()[0])


def loss(outputs: tuple[Tensor, ...]) -> Tensor:
    return sum((o.sin() * (i + 1)).sum() for i, o in enumerate(outputs))  # type: ignore[return-value]


def gradients(args: LayerArgs) -> list[Tensor]:
    leaves = args.map(lambda t: t.clone().requires_grad_(t.is_floating_point()))
    inputs = [t for t in leaves.differentiable if t is not None]
    return list(torch.autograd.grad(loss(lstm_layer(leaves)), inputs))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_grad(lengths: str) -> None:
    args = layer(lengths)

    def run(x: Tensor, w_hh: Tensor, h_0: Tensor) -> Tensor:
        return loss(lstm_layer(args._replace(x=x, w_hh=w_hh, h_0=h_0)))

    found = grad(run, argnums=(0, 1, 2))(args.x, args.w_hh, args.h_0)
    wanted = gradients(args)
    for got, i in zip(found, (0, 2, 4), strict=True):
        torch.testing.assert_close(got, wanted[i])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_gradients_of_each_sequence_alone(lengths: str) -> None:
    args = layer(lengths)
    rows = torch.arange(3) if args.lengths is None else args.lengths

    def run(w_ih: Tensor, x: Tensor, h_0: Tensor, c_0: Tensor, length: Tensor) -> Tensor:
        own = None if args.lengths is None else length[None]
        one = args._replace(
            x=x[:, None], w_ih=w_ih, h_0=h_0[:, None], c_0=c_0[:, None], lengths=own
        )
        return loss(lstm_layer(one))

    each = vmap(grad(run), (None, 1, 1, 1, 0))(args.w_ih, args.x, args.h_0, args.c_0, rows)
    for b, got in enumerate(each):
        row = slice(b, b + 1)
        alone = args._replace(x=args.x[:, row], h_0=args.h_0[:, row], c_0=args.c_0[:, row])  # type: ignore[index]
        if args.lengths is not None:
            alone = alone._replace(lengths=args.lengths[row])
        torch.testing.assert_close(got, gradients(alone)[1])


def test_an_ensemble_of_weights() -> None:
    members = [layer(seed=seed) for seed in range(3)]
    x = members[0].x
    w_ih, w_hh = (torch.stack([m[i] for m in members]) for i in (1, 2))  # type: ignore[arg-type]
    y = vmap(lambda a, b: lstm_layer(LayerArgs(x, a, b))[0])(w_ih, w_hh)
    for member, got in zip(members, y, strict=True):
        torch.testing.assert_close(got, lstm_layer(LayerArgs(x, member.w_ih, member.w_hh))[0])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_jacobians_forward_and_backward_agree(lengths: str) -> None:
    args = layer(lengths)

    def run(x: Tensor) -> Tensor:
        return lstm_layer(args._replace(x=x))[0]

    wanted = torch.autograd.functional.jacobian(run, args.x)
    torch.testing.assert_close(jacrev(run)(args.x), wanted)
    torch.testing.assert_close(jacfwd(run)(args.x), wanted)


def test_forward_mode() -> None:
    args, direction = layer("zeros"), torch.randn(4, 3, 2, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        return lstm_layer(args._replace(x=x))[0]

    wanted = torch.autograd.functional.jvp(run, args.x, direction)[1]
    torch.testing.assert_close(jvp(run, (args.x,), (direction,))[1], wanted)
    with forward_ad.dual_level():
        dual = run(forward_ad.make_dual(args.x, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, wanted)


def test_a_check_of_gradients_in_forward_mode() -> None:
    args = Case(3, 2, 2, 2, 1, "random", states=True, dtype=torch.float64).build()[0]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, w_ih, w_hh, bias, h_0, c_0 = tensors
        return lstm_layer(LayerArgs(x, w_ih, w_hh, bias, None, h_0, c_0, lengths=args.lengths))

    inputs = [t for t in args.differentiable if t is not None]
    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True)


def test_transforms_are_compiled_without_a_graph_break() -> None:
    args = layer()

    def each(w_ih: Tensor, x: Tensor) -> Tensor:
        one = LayerArgs(x[:, None], w_ih, args.w_hh)
        return loss(lstm_layer(one))

    run = vmap(grad(each), (None, 1))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(args.w_ih, args.x), run(args.w_ih, args.x))


def test_wrong_arguments_are_named_as_ever() -> None:
    args = layer()
    with pytest.raises(ValueError, match="x has 1 features"):
        vmap(lambda x: lstm_layer(args._replace(x=x))[0], 2)(args.x[..., None])
