"""Jagged nested tensors through the layer, against one sequence after the other."""

import doctest
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import fastrnn
from fastrnn import LSTMState
from fastrnn.nn import jagged

OPTIONS = [
    {},
    {"batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"bidirectional": True, "proj_size": 3},
]


def nested_of(lengths: list[int], *, dtype: torch.dtype | None = None) -> Tensor:
    sequences = [torch.randn(n, 2, dtype=dtype) for n in lengths]
    return torch.nested.nested_tensor(sequences, layout=torch.jagged)


def one_by_one(
    layer: fastrnn.LSTM, sequences: tuple[Tensor, ...], hx: LSTMState
) -> tuple[Tensor, LSTMState]:
    """What the layer gives for each sequence on its own, one after the other."""
    outputs, h_n, c_n = [], [], []
    for b, x in enumerate(sequences):
        state = hx.sequences(b)
        if len(x) > 0:
            y, state = layer(x, state)
            outputs.append(y)
        h_n.append(state.h)
        c_n.append(state.c)
    return torch.cat(outputs), LSTMState(torch.stack(h_n, 1), torch.stack(c_n, 1))


def gradients(outputs: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(sum((o * torch.randn_like(o)).sum() for o in outputs), inputs)


def assert_as_one_by_one(layer: fastrnn.LSTM, nested: Tensor, *, with_state: bool) -> None:
    """Compare outputs, states, and the gradients of values, states and weights."""
    sequences = nested.unbind()
    dtype = nested.dtype
    nested = nested.detach().requires_grad_()
    hx = layer.initial_state(len(sequences))
    if with_state:
        hx = LSTMState(*(torch.randn_like(part).requires_grad_() for part in hx))
    y, state = layer(nested, hx if with_state else None)
    assert type(state) is LSTMState
    assert y.dtype == dtype
    inputs = [*layer.parameters(), *(hx if with_state else ())]
    filled = torch.cat([part for part in y.unbind() if len(part) > 0])
    *got, grad_nested = gradients([filled, *state], [*inputs, nested])
    leaves = tuple(x.detach().requires_grad_() for x in sequences)
    want_y, want_state = one_by_one(layer, leaves, hx)
    read = [x for x in leaves if len(x) > 0]
    want = gradients([want_y, *want_state], [*inputs, *read])
    got_x = [part for part in grad_nested.unbind() if len(part) > 0]
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {}
    for a, b in zip([filled, *state, *got, *got_x], [want_y, *want_state, *want], strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("with_state", [False, True])
def test_it_is_every_sequence_on_its_own(options: dict[str, int], with_state: bool) -> None:
    layer = fastrnn.LSTM(2, 5, dtype=torch.float64, **options)
    nested = nested_of([3, 0, 6, 1, 0], dtype=torch.float64)
    assert_as_one_by_one(layer, nested, with_state=with_state)


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(any),
    with_state=st.booleans(),
)
def test_any_lengths(lengths: list[int], with_state: bool) -> None:
    layer = fastrnn.LSTM(2, 5, bidirectional=True, dtype=torch.float64)
    assert_as_one_by_one(layer, nested_of(lengths, dtype=torch.float64), with_state=with_state)


@st.composite
def windows(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Start and length of a part of each sequence of 7 steps; not all are empty."""
    starts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=6))
    parts = [(start, draw(st.integers(0, 7 - start))) for start in starts]
    return [*parts, (2, 3)]


@given(parts=windows())
def test_any_parts_of_longer_sequences(parts: list[tuple[int, int]]) -> None:
    layer = fastrnn.LSTM(2, 5, dtype=torch.float64)
    base = torch.randn(len(parts), 7, 2, dtype=torch.float64, requires_grad=True)
    # Made by hand: torch.nested.narrow mistakes some parts for ones without holes between them.
    starts, lengths = torch.tensor(parts).unbind(1)
    offsets = torch.cat([starts + 7 * torch.arange(len(parts)), torch.tensor([7 * len(parts)])])
    nested = torch.nested.nested_tensor_from_jagged(base.flatten(0, 1), offsets, lengths)
    y, state = layer(nested)
    sequences = tuple(base[b, start : start + n] for b, (start, n) in enumerate(parts))
    want, want_state = one_by_one(layer, sequences, layer.initial_state(len(parts)))
    got = torch.cat([part for part in y.unbind() if len(part) > 0])
    for a, b in zip([got, *state], [want, *want_state], strict=True):
        torch.testing.assert_close(a, b)
    inputs = [base, *layer.parameters()]
    for a, b in zip(
        gradients([got, *state], inputs), gradients([want, *want_state], inputs), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_what_lies_between_sequences_is_not_read_and_comes_out_as_zero() -> None:
    layer = fastrnn.LSTM(2, 5)
    values = torch.full((9, 2), torch.nan)
    values[1:3], values[4:7] = torch.randn(2, 2), torch.randn(3, 2)
    values.requires_grad_()
    offsets, lengths = torch.tensor([1, 4, 8]), torch.tensor([2, 3])
    nested = torch.nested.nested_tensor_from_jagged(values, offsets, lengths)
    y, state = layer(nested)
    torch.testing.assert_close(y.values()[4:7], layer(values[4:7])[0])
    assert y.values()[[0, 3, 7, 8]].eq(0).all()
    (y.values().sum() + state.c.sum()).backward()
    assert values.grad[[0, 3, 7, 8]].eq(0).all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_output_has_the_structure_of_the_input() -> None:
    layer = fastrnn.LSTM(2, 2)
    part = torch.nested.narrow(
        torch.randn(2, 6, 2), 1, torch.tensor([2, 1]), torch.tensor([3, 5]), layout=torch.jagged
    )
    for nested in (nested_of([3, 0, 5]), part):
        y, _ = layer(nested)
        assert y.layout == torch.jagged
        assert y.shape == nested.shape
        assert y.offsets() is nested.offsets()
        assert y.lengths() is nested.lengths()
        for total, a, b in zip((nested + y).unbind(), nested.unbind(), y.unbind(), strict=True):
            assert torch.equal(total, a + b)


def test_the_last_state_alone() -> None:
    layer, nested = fastrnn.LSTM(2, 5, bidirectional=True), nested_of([3, 0, 6])
    y, state = layer(nested, last_state_only=True)
    assert [part.shape for part in y.unbind()] == [(0, 10)] * 3
    torch.testing.assert_close(state, layer(nested)[1], rtol=0, atol=0)


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
def test_nothing_at_all(offsets: list[int]) -> None:
    layer = fastrnn.LSTM(2, 5)
    values = torch.randn(0, 2, requires_grad=True)
    y, state = layer(torch.nested.nested_tensor_from_jagged(values, torch.tensor(offsets)))
    batch_size = len(offsets) - 1
    assert y.values().shape == (0, 5)
    assert state.h.shape == (1, batch_size, 5)
    assert state.h.eq(0).all()
    (y.values().sum() + state.h.sum()).backward()
    assert values.grad.shape == (0, 2)


def test_without_gradients_it_is_the_same() -> None:
    layer, nested = fastrnn.LSTM(2, 5, 2), nested_of([3, 0, 6])
    want, want_state = layer(nested)
    with torch.no_grad():
        y, state = layer(nested)
    assert not y.requires_grad
    torch.testing.assert_close((y.values(), state), (want.values().detach(), want_state.detach()))


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_sixteen_bits_and_both_kinds_of_offsets(index_dtype: torch.dtype) -> None:
    layer = fastrnn.LSTM(2, 5).bfloat16()
    values = torch.randn(7, 2, dtype=torch.bfloat16)
    offsets = torch.tensor([0, 3, 7], dtype=index_dtype)
    y, _ = layer(torch.nested.nested_tensor_from_jagged(values, offsets))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.values()[3:], layer(values[3:])[0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: m(torch.nested.nested_tensor([torch.zeros(3, 2)], layout=torch.strided)),
            ValueError,
            "layout torch.strided; it should have layout=torch.jagged",
        ),
        (lambda m: m(nested_of([3, 1]).transpose(1, 2)), ValueError, r"should be \[B, j, I\]"),
        (lambda m: m(nested_of([3, 1]).unsqueeze(-1)), ValueError, r"should be \[B, j, I\]"),
        (lambda m: m(nested_of([3, 1]), lengths=[3, 1]), ValueError, "lengths is given for a nest"),
        (lambda m: m(nested_of([3, 1]).double()), ValueError, "dtype"),
        (lambda m: m(nested_of([3, 1]), m.initial_state(3)), RuntimeError, r"hx\[0\] size"),
        (lambda _: fastrnn.LSTM(3, 5)(nested_of([3, 1])), RuntimeError, "Expected 3, got 2"),
    ],
)
def test_wrong_arguments(
    call: Callable[[fastrnn.LSTM], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(fastrnn.LSTM(2, 5))


class Residual(nn.Module):
    """A layer among others that know jagged tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 6)
        self.lstm = fastrnn.LSTM(6, 3, bidirectional=True)

    def forward(self, nested: Tensor) -> tuple[Tensor, LSTMState]:
        x = self.embed(nested)
        y, state = self.lstm(x)
        return x + y, state


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_model_compiles_once_for_all_lengths(backend: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    model = Residual()
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    # Torch keeps the smallest length with the tensor, and compiles anew where that is 0 or 1.
    for lengths in ([3, 2, 5], [4, 2], [2, 9, 7, 3]):
        nested = nested_of(lengths)
        y, state = compiled(nested)
        want, want_state = model(nested)
        torch.testing.assert_close((y.values(), state), (want.values(), want_state))
        inputs = list(model.parameters())
        for got, expected in zip(
            gradients([y.values(), *state], inputs),
            gradients([want.values(), *want_state], inputs),
            strict=True,
        ):
            torch.testing.assert_close(got, expected)
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("has_holes", [False, True])
def test_a_jagged_tensor_made_in_a_compiled_function(has_holes: bool) -> None:
    torch._dynamo.reset()
    layer = fastrnn.LSTM(2, 5)

    def run(values: Tensor, offsets: Tensor) -> tuple[Tensor, LSTMState]:
        lengths = offsets.diff() - 1 if has_holes else None
        y, state = layer(torch.nested.nested_tensor_from_jagged(values, offsets, lengths))
        return y.values(), state

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True, dynamic=True)
    for offsets in ([0, 3, 8], [0, 4, 5, 12]):
        inputs = torch.randn(offsets[-1], 2), torch.tensor(offsets)
        torch.testing.assert_close(compiled(*inputs), run(*inputs))


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(jagged).failed == 0
