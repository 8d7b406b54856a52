"""Every way in which torch asks for gradients, against `torch.nn.LSTM`."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import fastrnn
from fastrnn.recurrence.backends.base import WantedGrads

from .stock import INPUT_SIZE, assert_same_run, gradients, pair

OPTIONS: dict[str, Any] = {"num_layers": 2, "bidirectional": True}


@pytest.fixture
def layers() -> tuple[nn.LSTM, fastrnn.LSTM]:
    return pair(**OPTIONS)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, INPUT_SIZE, requires_grad=True)


def assert_close(got: Any, want: Any) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def grads_of(layer: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in layer.parameters()]


def test_backward_in_eval_mode(layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor) -> None:
    got, want = (gradients(layer.eval()(x), [x, *layer.parameters()]) for layer in reversed(layers))
    assert_close(got, want)


def test_a_graph_that_is_kept_gives_the_same_gradients_again(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor
) -> None:
    _, ours = layers
    y, _ = ours(x)
    inputs = [x, *ours.parameters()]
    first = torch.autograd.grad(y.sum(), inputs, retain_graph=True)
    second = torch.autograd.grad(y.sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(y.sum(), inputs)


def test_a_weight_changed_before_backward_is_noticed(x: Tensor) -> None:
    for layer in pair():
        y, _ = layer(x)
        with torch.no_grad():
            layer.weight_hh_l0.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in .*Backward:UserWarning")
def test_anomaly_mode_lets_good_gradients_pass_and_stops_at_nan(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor
) -> None:
    with torch.autograd.detect_anomaly():
        got, want = (gradients(layer(x), [x, *layer.parameters()]) for layer in reversed(layers))
        assert_close(got, want)
        y, _ = layers[1](x * torch.nan)
        with pytest.raises(RuntimeError, match="returned nan values"):
            y.sum().backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor, use_reentrant: bool
) -> None:
    stock, ours = layers

    # Of what lies deeper than one tuple the reentrant kind loses the gradients, so say its docs.
    def flat(x: Tensor) -> tuple[Tensor, ...]:
        y, (h_n, c_n) = ours(x)
        return y, h_n, c_n

    y, *state = checkpoint(flat, x, use_reentrant=use_reentrant)
    want = stock(x)
    assert_same_run((y, tuple(state)), want)
    (y.square().sum() + state[1].sum()).backward()
    got, x.grad = [x.grad, *grads_of(ours)], None
    (want[0].square().sum() + want[1][1].sum()).backward()
    assert_close(got, [x.grad, *grads_of(stock)])


def test_checkpointing_repeats_the_dropout(x: Tensor) -> None:
    layer = fastrnn.LSTM(INPUT_SIZE, 5, 2, dropout=0.5)
    torch.manual_seed(0)
    checkpoint(layer, x, use_reentrant=False)[0].sum().backward()
    got, x.grad = x.grad, None
    torch.manual_seed(0)
    layer(x)[0].sum().backward()
    assert torch.equal(got, x.grad)


class Asked(TorchDispatchMode):
    """Notes which gradients each call of the backward operator is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[set[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.fastrnn.lstm_backward.default:
            asked = zip(WantedGrads._fields, args[-1], strict=True)
            self.wanted.append({name for name, is_wanted in asked if is_wanted})
        return func(*args, **(kwargs or {}))


WEIGHTS = {"w_ih", "w_hh", "bias"}


@pytest.mark.parametrize(
    ("frozen", "input_grad", "wanted"),
    [
        ("", True, WEIGHTS | {"x"}),
        ("", False, WEIGHTS),
        ("weight|bias", True, {"x"}),
        ("weight_hh", False, {"w_ih", "bias"}),
        ("weight_ih|bias", True, {"w_hh", "x"}),
    ],
)
def test_no_gradient_is_computed_that_nobody_asked_for(
    x: Tensor, frozen: str, input_grad: bool, wanted: set[str]
) -> None:
    stock, ours = pair()
    for layer in (stock, ours):
        for name, parameter in layer.named_parameters():
            parameter.requires_grad_(not any(part and part in name for part in frozen.split("|")))
    x = x.detach().requires_grad_(input_grad)
    with Asked() as asked:
        ours(x)[0].sum().backward()
    assert asked.wanted == [wanted]
    got, x.grad = x.grad, None
    stock(x)[0].sum().backward()
    assert [g is None for g in grads_of(ours)] == [g is None for g in grads_of(stock)]
    assert (got is None) == (x.grad is None)
    assert_close(
        [g for g in [got, *grads_of(ours)] if g is not None],
        [g for g in [x.grad, *grads_of(stock)] if g is not None],
    )


def test_a_frozen_first_layer_is_left_out_of_backward(x: Tensor) -> None:
    layer = fastrnn.LSTM(INPUT_SIZE, 5, 2)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_("_l1" in name)
    with Asked() as asked:
        layer(x.detach())[0].sum().backward()
    assert asked.wanted == [WEIGHTS]


def test_only_what_was_used_needs_a_gradient(x: Tensor) -> None:
    stock, ours = pair(**OPTIONS)
    for use in (
        lambda run: run[0].sum(),
        lambda run: run[0][0].sum(),
        lambda run: run[1][0].sum(),
        lambda run: run[1][1].sum(),
    ):
        got, want = (
            torch.autograd.grad(use(layer(x)), [x, *layer.parameters()]) for layer in (ours, stock)
        )
        assert_close(got, want)


def test_gradients_accumulate_over_calls_and_into_what_is_there(
    layers: tuple[nn.LSTM, fastrnn.LSTM],
) -> None:
    batches = [torch.randn(t, 4, INPUT_SIZE) for t in (6, 3, 9)]
    kept = []
    for layer in layers:
        layer(batches[0])[0].sum().backward()
        kept.append([grad.data_ptr() for grad in grads_of(layer)])
        (layer(batches[1])[0].sum() + layer(batches[2])[0].square().sum()).backward()
    assert_close(grads_of(layers[1]), grads_of(layers[0]))
    assert [grad.data_ptr() for grad in grads_of(layers[1])] == kept[1]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_clipping_scales_every_gradient_once(x: Tensor, bidirectional: bool) -> None:
    layers = pair(num_layers=2, bidirectional=bidirectional)
    for layer in layers:
        layer(x)[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
    assert_close(grads_of(layers[1]), grads_of(layers[0]))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_one_layer_used_twice_in_a_graph(x: Tensor) -> None:
    stock, ours = pair(proj_size=INPUT_SIZE)
    for layer in (stock, ours):
        y, state = layer(x)
        layer(y, state)[0].sum().backward()
    assert_close(grads_of(ours), grads_of(stock))


def test_hooks_see_gradients_where_torch_calls_them(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor
) -> None:
    seen: list[list[Tensor]] = []
    for layer in layers:
        seen.append([])
        y, _ = layer(x)
        y.register_hook(lambda grad, seen=seen[-1]: seen.append(grad) or grad * 2)
        layer.weight_ih_l0.register_hook(seen[-1].append)
        layer.weight_ih_l1.register_post_accumulate_grad_hook(
            lambda weight, seen=seen[-1]: seen.append(weight.grad)
        )
        y.square().sum().backward()
    assert len(seen[0]) == 3
    by_shape = [sorted(grads, key=lambda grad: tuple(grad.shape)) for grads in seen]
    assert_close(by_shape[1], by_shape[0])


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("lengths", [None, [0, 6, 3, 1]], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_deterministic_algorithms_give_the_same_bits_and_read_nothing_unset(
    lengths: list[int] | None, dtype: torch.dtype
) -> None:
    layer = fastrnn.LSTM(INPUT_SIZE, 5, **OPTIONS, dtype=dtype)
    x = torch.randn(6, 4, INPUT_SIZE, dtype=dtype, requires_grad=True)
    assert torch.empty(3).isnan().all()  # so that reading it would be seen
    runs = []
    for _ in range(2):
        run = layer(x, lengths=lengths)
        runs.append([run[0], *run[1], *gradients(run, [x, *layer.parameters()])])
    for a, b in zip(*runs, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)
    torch.use_deterministic_algorithms(False)
    for a, b in zip(runs[0][:3], (layer(x, lengths=lengths)[0], *run[1]), strict=True):
        assert torch.equal(a, b)
