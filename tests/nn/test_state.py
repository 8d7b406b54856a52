"""The state that callers keep between two calls."""

import doctest
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import scatter_gather
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn import LSTMState
from fastrnn.nn import state as state_module


def any_state(batch_size: int = 4, *, requires_grad: bool = False) -> LSTMState:
    h, c = torch.randn(2, batch_size, 3), torch.randn(2, batch_size, 5)
    return LSTMState(h.requires_grad_(requires_grad), c.requires_grad_(requires_grad))


def assert_equal(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> None:
    assert type(got) is LSTMState
    torch.testing.assert_close(tuple(got), tuple(want), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}])
def test_the_layer_returns_it_for_every_form_of_input(options: dict[str, int]) -> None:
    layer = fastrnn.LSTM(2, 5, **options)
    rows, size = (4, 3) if options else (1, 5)
    sequences = [torch.randn(n, 2) for n in (3, 6, 1)]
    padded = nn.utils.rnn.pad_sequence(sequences)
    _, state = layer(padded, lengths=[3, 6, 1])
    assert type(state) is LSTMState
    assert (state.h.shape, state.c.shape) == ((rows, 3, size), (rows, 3, 5))
    _, packed = layer(pack_sequence(sequences, enforce_sorted=False))
    assert_equal(packed, state)
    for i, x in enumerate(sequences):
        _, alone = layer(x)
        assert type(alone) is LSTMState
        assert (alone.h.shape, alone.c.shape) == ((rows, size), (rows, 5))
        torch.testing.assert_close(alone, state.sequences(i))


def test_a_run_in_pieces_is_the_whole_run() -> None:
    layer = fastrnn.LSTM(2, 5, 2)
    x = torch.randn(9, 3, 2)
    want, want_state = layer(x)
    first, state = layer(x[:4])
    second, state = layer(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), want)
    torch.testing.assert_close(state, want_state)
    plain, _ = layer(x[4:], tuple(layer(x[:4])[1]))
    assert torch.equal(plain, second)


def test_it_is_a_pair() -> None:
    state = any_state()
    h, c = state
    assert h is state.h is state[0]
    assert c is state.c is state[1]
    assert isinstance(state, tuple)
    assert len(state) == 2


def test_the_initial_state_changes_nothing_and_follows_the_module() -> None:
    layer = fastrnn.LSTM(2, 5, 2, bidirectional=True, proj_size=3, dtype=torch.float64)
    state = layer.initial_state(4)
    assert (state.h.shape, state.c.shape) == ((4, 4, 3), (4, 4, 5))
    assert state.h.dtype == state.c.dtype == torch.float64
    assert not state.h.requires_grad
    x = torch.randn(6, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x, state), layer(x))
    assert layer.to("meta").initial_state(0).c.device.type == "meta"
    with pytest.raises(ValueError, match="batch_size is -1"):
        layer.initial_state(-1)


def test_detach_ends_the_graph_and_clone_does_not() -> None:
    state = any_state(requires_grad=True)
    assert not any(part.requires_grad for part in state.detach())
    copy = state.clone()
    assert_equal(copy, state)
    assert copy.h.data_ptr() != state.h.data_ptr()
    assert torch.autograd.grad(copy.c.sum(), state.c)[0].eq(1).all()


def test_to_takes_what_tensors_take() -> None:
    state = any_state()
    assert state.to(torch.float64).c.dtype == torch.float64
    assert state.to("meta", dtype=torch.bfloat16).h.device.type == "meta"
    assert state.to(torch.zeros(1, dtype=torch.float16)).h.dtype == torch.float16


def test_sequences_are_views_of_the_batch() -> None:
    state = any_state()
    assert_equal(state.sequences(slice(1, 3)), (state.h[:, 1:3], state.c[:, 1:3]))
    assert_equal(state.sequences(slice(None, None, 2)), (state.h[:, ::2], state.c[:, ::2]))
    assert_equal(state.sequences(-1), (state.h[:, 3], state.c[:, 3]))
    assert state.sequences(slice(0)).h.shape == (2, 0, 3)
    assert state.sequences(0).h.data_ptr() == state.h.data_ptr()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_reorder_selects_and_repeats_and_sums_gradients(dtype: torch.dtype) -> None:
    state = any_state(requires_grad=True)
    index = torch.tensor([3, 3, 0, 3, 1], dtype=dtype)
    new = state.reorder(index)
    assert_equal(new, (state.h[:, [3, 3, 0, 3, 1]], state.c[:, [3, 3, 0, 3, 1]]))
    grads = torch.autograd.grad(new.h.sum() + new.c.sum(), list(state))
    for grad in grads:
        assert grad[0, :, 0].tolist() == [1, 1, 0, 3]


def test_a_beam_search_goes_on_with_the_chosen_beams() -> None:
    layer = fastrnn.LSTM(2, 5)
    x, more = torch.randn(4, 3, 2), torch.randn(1, 3, 2)
    beams = torch.tensor([2, 0, 2])
    _, state = layer(x)
    got, _ = layer(more, state.reorder(beams))
    want, _ = layer(torch.cat([x[:, beams], more]))
    torch.testing.assert_close(got[0], want[-1])


def test_reset_forgets_values_and_gradients_and_nan() -> None:
    state = any_state(requires_grad=True)
    with torch.no_grad():
        state.h[:, 1] = torch.nan
        state.c[:, 1] = torch.inf
    mask = torch.tensor([False, True, False, True])
    new = state.reset(mask)
    for part, old in zip(new, state, strict=True):
        assert part[:, mask].eq(0).all()
        assert torch.equal(part[:, ~mask], old[:, ~mask])
        (grad,) = torch.autograd.grad((part * 2).sum(), old)
        assert grad[:, mask].eq(0).all()
        assert grad[:, ~mask].eq(2).all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_reset_to_another_initial_state_trains_that_one(batch_size: int) -> None:
    state, initial = any_state(), any_state(batch_size, requires_grad=True)
    mask = torch.tensor([False, True, False, True])
    new = state.reset(mask, tuple(initial))
    for part, old, start in zip(new, state, initial, strict=True):
        assert torch.equal(part[:, mask], start.expand_as(old)[:, mask])
        assert torch.equal(part[:, ~mask], old[:, ~mask])
        (grad,) = torch.autograd.grad(part.sum(), start)
        assert grad[0, :, 0].tolist() == ([2] if batch_size == 1 else [0, 1, 0, 1])


def test_a_reset_sequence_runs_as_a_new_one() -> None:
    layer = fastrnn.LSTM(2, 5, bidirectional=True)
    x, more = torch.randn(4, 2, 2), torch.randn(3, 2, 2)
    _, state = layer(x)
    got, _ = layer(more, state.reset(torch.tensor([False, True])))
    torch.testing.assert_close(got[:, 1], layer(more)[0][:, 1])
    torch.testing.assert_close(got[:, 0], layer(more, state)[0][:, 0])


def test_cat_is_undone_by_sequences() -> None:
    state = any_state()
    parts = [state.sequences(slice(0, 1)), tuple(state.sequences(slice(1, 4)))]
    assert_equal(LSTMState.cat(parts), state)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.sequences(torch.tensor([0])), TypeError, "which is a Tensor"),
        (lambda s: s.sequences(True), TypeError, "which is a bool"),
        (lambda s: s.sequences(4), IndexError, "which is 4, but the state has 4 sequences"),
        (lambda s: s.sequences(slice(3, 0, -1)), ValueError, "which has step -1"),
        (lambda s: s.sequences(0).sequences(0), ValueError, "it should have a batch"),
        (lambda s: s.reorder([0, 1]), TypeError, "index is a list"),
        (lambda s: s.reorder(torch.ones(4, dtype=torch.bool)), TypeError, "index has dtype"),
        (lambda s: s.reorder(torch.tensor(1)), ValueError, r"index has shape \[\]"),
        (lambda s: s.reorder(torch.tensor([0, 4])), IndexError, "index goes from 0 to 4"),
        (lambda s: s.reorder(torch.tensor([-1])), IndexError, "index goes from -1 to -1"),
        (lambda s: s.sequences(0).reorder(torch.tensor([0])), ValueError, "have a batch"),
        (lambda s: s.reset([True] * 4), TypeError, "mask is a list"),
        (lambda s: s.reset(torch.ones(4)), TypeError, "mask has dtype torch.float32"),
        (
            lambda s: s.reset(torch.ones(3, dtype=torch.bool)),
            ValueError,
            r"mask has shape \[3\]; it should be \[4\]",
        ),
        (
            lambda s: s.reset(torch.ones(4, dtype=torch.bool), any_state(3)),
            ValueError,
            r"initial has shape \[2, 3, 3\] for h",
        ),
        (
            lambda s: s.reset(torch.ones(4, dtype=torch.bool), (s.h, s.h)),
            ValueError,
            r"initial has shape \[2, 4, 3\] for c",
        ),
        (lambda _: LSTMState.cat([]), ValueError, "states is empty"),
        (lambda s: LSTMState.cat([s, (s.c, s.c)]), ValueError, r"states\[1\] has shapes"),
        (lambda s: LSTMState.cat([s.sequences(0)]), ValueError, "it should have a batch"),
    ],
)
def test_wrong_arguments(
    call: Callable[[LSTMState], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(any_state())


def use_every_method(state: LSTMState, mask: Tensor, index: Tensor) -> tuple[LSTMState, LSTMState]:
    new = state.clone().to(torch.float64).reorder(index).reset(mask)
    new = new.reset(mask, new.detach().sequences(slice(0, 1)))
    return LSTMState.cat([new, new.sequences(slice(1, None))]), new.sequences(0)


@pytest.mark.parametrize("dynamic", [False, True])
def test_methods_compile_without_a_graph_break(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(use_every_method, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    inputs = (
        any_state(requires_grad=True),
        torch.tensor([True, False, True, False]),
        torch.tensor([3, 0, 3, 1]),
    )
    for got, want in zip(compiled(*inputs), use_every_method(*inputs), strict=True):
        assert type(got) is LSTMState
        torch.testing.assert_close(got, want)


class Streaming(nn.Module):
    """Takes a state and gives one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = fastrnn.LSTM(2, 5, 2)

    def forward(self, x: Tensor, state: LSTMState, starts: Tensor) -> tuple[Tensor, LSTMState]:
        return self.lstm(x, state.reset(starts))


def streaming_inputs(seq_len: int, batch_size: int) -> tuple[Tensor, LSTMState, Tensor]:
    x = torch.randn(seq_len, batch_size, 2)
    _, state = fastrnn.LSTM(2, 5, 2)(x)
    return x, state.detach(), torch.arange(batch_size) % 2 == 0


def test_an_exported_program_takes_and_returns_it_after_saving_and_loading() -> None:
    model = Streaming()
    steps, batch = torch.export.Dim("steps"), torch.export.Dim("batch")
    shapes = ({0: steps, 1: batch}, LSTMState({1: batch}, {1: batch}), {0: batch})  # type: ignore[arg-type]
    program = torch.export.export(model, streaming_inputs(6, 4), dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    inputs = streaming_inputs(9, 3)
    got, state = loaded(*inputs)
    assert type(state) is LSTMState
    torch.testing.assert_close((got, state), model(*inputs))


def test_functional_call_passes_it_through() -> None:
    model = Streaming()
    x, state, starts = streaming_inputs(6, 4)
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    _, state = torch.func.functional_call(model, zeros, (x, state, torch.ones_like(starts)))
    assert type(state) is LSTMState
    assert state.h.eq(0).all()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_a_traced_layer_takes_it_and_gives_a_pair() -> None:
    layer = fastrnn.LSTM(2, 5, 2).eval()
    x, state, _ = streaming_inputs(6, 4)
    traced = torch.jit.trace(layer, (x, state), check_trace=False)
    x, state, _ = streaming_inputs(9, 3)
    got, (h_n, c_n) = traced(x, state)
    torch.testing.assert_close((got, LSTMState(h_n, c_n)), layer(x, state))


def test_it_survives_pickle_and_loading_of_weights_only() -> None:
    state = any_state()
    assert_equal(pickle.loads(pickle.dumps(state)), state)
    file = io.BytesIO()
    torch.save({"state": state}, file)
    file.seek(0)
    assert_equal(torch.load(file, weights_only=True)["state"], state)


def test_default_collate_stacks_it() -> None:
    states = [any_state().sequences(i) for i in range(3)]
    batch = torch.utils.data.default_collate(states)
    assert_equal(batch, (torch.stack([s.h for s in states]), torch.stack([s.c for s in states])))


def test_data_parallel_scatters_and_gathers_along_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The copies between GPUs are replaced; what is tested is how torch takes the pair apart.
    monkeypatch.setattr(
        scatter_gather.Scatter,
        "apply",
        lambda devices, _sizes, dim, tensor: tensor.chunk(len(devices), dim),
    )
    monkeypatch.setattr(
        scatter_gather.Gather, "apply", lambda _device, dim, *tensors: torch.cat(tensors, dim)
    )
    layer = fastrnn.LSTM(2, 5)
    x = torch.randn(6, 4, 2)
    state = layer(x)[1].detach()
    inputs = scatter_gather.scatter((x, state), [0, 1], dim=1)
    assert [type(hx) for _, hx in inputs] == [LSTMState, LSTMState]
    outputs = [layer(*one) for one in inputs]
    got, got_state = scatter_gather.gather(outputs, "cpu", dim=1)
    assert type(got_state) is LSTMState
    torch.testing.assert_close((got, got_state), layer(x, state))


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(state_module).failed == 0
