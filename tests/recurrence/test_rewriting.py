"""Layers written as other layers: the same results, on kernels that could not run the first."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fastrnn
from fastrnn.recurrence.backends import CpuBackend, EagerBackend
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.reference import lstm_reference
from fastrnn.recurrence.rewriting import can_merge_projection, uncoupled
from fastrnn.recurrence.verification import verify

from .conftest import Case

WITH_PROJECTION = Problem(8, 2, 3, 6, 1, 4, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("num_directions", [1, 2])
def test_coupled_gates_are_four_gates_with_negated_weights(num_directions: int) -> None:
    """So run kernels that have no coupled gates of their own."""
    case = Case(5, 3, 4, 6, num_directions, dtype=torch.float64, variants=("coupled_gates",))
    args, grads = case.build()
    problem = Problem.from_args(args, training=True)
    four, plain = uncoupled(args, problem)
    assert problem.variants == ("coupled_gates",)
    assert plain.variants == ()
    inputs = [t for t in args.differentiable if t is not None]
    runs = [
        (*outputs, *torch.autograd.grad(outputs, inputs, grads))
        for outputs in (lstm_reference(args), lstm_layer(four, "cpu"))
    ]
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def with_projection(case: Case, proj_size: int) -> tuple[LayerArgs, list[Tensor]]:
    """A case's layer with a projection to `proj_size`, and gradients of its results."""
    args, grads = case.build()
    rng = torch.Generator().manual_seed(case.seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=rng, dtype=torch.float64) * scale
        return values.to(case.dtype).requires_grad_()

    directions, rows, hidden_size = args.w_hh.shape
    state = (directions, case.batch_size, proj_size)
    args = args._replace(
        w_hh=random(directions, rows, proj_size, scale=proj_size**-0.5),
        w_hr=random(directions, proj_size, hidden_size, scale=hidden_size**-0.5),
        h_0=random(*state) if case.states else None,
    )
    y = random(case.seq_len, case.batch_size, directions * proj_size)
    return args, [y.detach(), random(*state).detach(), grads.c_n]


@given(
    seq_len=st.integers(1, 9),
    batch_size=st.integers(1, 6),
    hidden_size=st.integers(2, 20),
    num_directions=st.sampled_from([1, 2]),
    lengths=st.sampled_from(["none", "random", "zeros", "equal"]),
    states=st.booleans(),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    variants=st.sampled_from([(), ("coupled_gates",), ("reset",), ("coupled_gates", "reset")]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_projection_runs_on_the_kernels_as_exactly_as_any_layer(
    seq_len: int,
    batch_size: int,
    hidden_size: int,
    num_directions: int,
    lengths: str,
    states: bool,
    bias: bool,
    dtype: torch.dtype,
    variants: tuple[str, ...],
    seed: int,
    data: st.DataObject,
) -> None:
    """With the bound of every backend, of all results and gradients, against float64."""
    proj_size = data.draw(st.integers(1, hidden_size - 1))
    sizes = (seq_len, batch_size, 3, hidden_size, num_directions)
    options = (lengths, states, bias)
    case = Case(*sizes, *options, dtype=dtype, seed=seed, variants=variants)
    args, grads = with_projection(case, proj_size)
    checks = verify("auto", args, OutputGrads(*grads))
    assert not [str(check) for check in checks if not check.ok]


@pytest.mark.parametrize("states", [False, True])
def test_the_state_of_an_empty_sequence_is_its_first_one(states: bool) -> None:
    args, _ = with_projection(Case(5, 4, 2, 6, 2, "zeros", states=states), 3)
    assert args.lengths is not None
    is_empty = args.lengths == 0
    assert is_empty.any()
    first = args.h_0 if states else torch.zeros(2, 4, 3)
    assert torch.equal(lstm_layer(args)[1][:, is_empty], first[:, is_empty])


def test_nan_in_a_state_that_is_reset_at_once_is_gone() -> None:
    args, _ = with_projection(Case(5, 4, 2, 6, 1, states=True, variants=("reset",)), 3)
    assert args.reset is not None
    args.reset[0] = True
    gone = args._replace(h_0=torch.full_like(args.h_0, torch.nan))
    assert all(torch.equal(a, b) for a, b in zip(lstm_layer(gone), lstm_layer(args), strict=True))


@pytest.mark.parametrize("num_directions", [1, 2])
def test_gradients_are_contiguous(num_directions: int) -> None:
    args, grads = with_projection(Case(5, 4, 2, 6, num_directions, "random", states=True), 3)
    leaves = [t for t in args.differentiable if t is not None]
    assert all(g.is_contiguous() for g in torch.autograd.grad(lstm_layer(args), leaves, grads))


def run_by(monkeypatch: pytest.MonkeyPatch, layer: fastrnn.LSTM, *inputs: Tensor) -> list[str]:
    """Names of the backends that run a layer's call, and its backward."""
    ran: list[str] = []
    for backend in (CpuBackend, EagerBackend):
        for method in ("forward", "backward"):
            plain = getattr(backend, method)

            def spy(self, *args, plain=plain, method=method):
                ran.append(f"{self.name} {method}")
                return plain(self, *args)

            monkeypatch.setattr(backend, method, spy)
    y, _ = layer(*inputs)
    y.sum().backward()
    return ran


def test_a_layer_with_a_projection_runs_on_the_cpus_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = fastrnn.LSTM(3, 8, bidirectional=True, proj_size=2)
    ran = run_by(monkeypatch, layer, torch.randn(5, 2, 3))
    assert ran == ["cpu forward", "cpu backward"]


def test_forced_to_run_step_by_step_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = fastrnn.LSTM(3, 8, proj_size=2)
    with fastrnn.use_backend("eager"):
        ran = run_by(monkeypatch, layer, torch.randn(5, 2, 3))
    assert ran == ["eager forward", "eager backward"]


@pytest.mark.parametrize("option", ["layer_norm", "recurrent_dropout", "zoneout"])
def test_what_the_state_meets_before_the_weights_prevents_merging(option: str) -> None:
    assert can_merge_projection(WITH_PROJECTION)
    assert not can_merge_projection(replace(WITH_PROJECTION, variants=(option,)))


def test_only_the_last_state_is_projected_where_nothing_else_is_wanted() -> None:
    args, _ = with_projection(Case(5, 4, 2, 6, 2, "random", states=True), 3)
    with torch.no_grad():
        y, h_n, c_n = lstm_layer(args, last_state_only=True)
        whole = lstm_layer(args)
    assert y.shape == (0, 4, 6)
    torch.testing.assert_close((h_n, c_n), whole[1:])


def test_under_autocast_nothing_is_rounded_but_what_goes_in_and_out() -> None:
    args, _ = with_projection(Case(5, 4, 2, 6, 2, "random", states=True), 3)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = lstm_layer(args)
        want = lstm_layer(args.map(lambda t: t.bfloat16() if t.is_floating_point() else t))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
