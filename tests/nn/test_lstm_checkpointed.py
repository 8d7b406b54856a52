"""`LSTM(checkpoint_every=)`: the same module, with the same draws, in less memory."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.export import Dim
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn.functional import LayerWeights, lstm

T, B, FEATURES = 11, 4, 3
LENGTHS = [11, 0, 4, 7]

traced = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:.*torch.jit.* is deprecated:DeprecationWarning",
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def run(layer: Any, parameters: list[Tensor], x: Tensor, **options: Any) -> list[Tensor]:
    """Outputs and gradients of a call, always with the same random numbers."""
    x = x.detach().requires_grad_()
    torch.manual_seed(3)
    y, (h_n, c_n) = layer(x, **options)
    loss = y.square().sum() + h_n.sin().sum() + c_n.cos().sum()
    return [y, h_n, c_n, *torch.autograd.grad(loss, [x, *parameters])]


def assert_same(got: list[Tensor], want: list[Tensor], rtol: float = 1e-12) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


def pair(checkpoint_every: int = 3, **options: Any) -> tuple[fastrnn.LSTM, fastrnn.LSTM]:
    """A layer without and one with the option, of the same weights."""
    torch.manual_seed(0)
    plain = fastrnn.LSTM(FEATURES, 5, **options)
    changed = fastrnn.LSTM(FEATURES, 5, checkpoint_every=checkpoint_every, **options)
    changed.load_state_dict(plain.state_dict())
    return plain, changed


@pytest.mark.parametrize("last_state_only", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "variable"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 3, "dropout": 0.4, "bidirectional": True},
        {"num_layers": 2, "recurrent_dropout": 0.4, "bidirectional": True, "batch_first": True},
        {"zoneout": 0.3, "bidirectional": True},
        {"layer_norm": True, "coupled_gates": True, "num_layers": 2, "dropout": 0.2},
        {"proj_size": 2, "bidirectional": True, "num_layers": 2},
    ],
    ids=str,
)
def test_results_are_those_without(
    options: dict[str, Any], lengths: list[int] | None, last_state_only: bool
) -> None:
    plain, changed = pair(dtype=torch.float64, **options)
    x = torch.randn(T, B, FEATURES, dtype=torch.float64)
    x = x.transpose(0, 1) if plain.batch_first else x
    call = {"lengths": lengths, "last_state_only": last_state_only}
    want = run(plain, list(plain.parameters()), x, **call)
    assert_same(run(changed, list(changed.parameters()), x, **call), want)


def test_packed_sequences_states_and_resets() -> None:
    plain, changed = pair(dtype=torch.float64, bidirectional=True)
    packed = pack_sequence([torch.randn(n, FEATURES).double() for n in (4, 11, 7)], False)
    x, state = torch.randn(T, B, FEATURES).double(), torch.randn(2, 2, B, 5).double().unbind()
    reset = torch.rand(T, B) < 0.3
    results = []
    for layer in (plain, changed):
        y = layer(packed)[0].data
        z, (h_n, _) = layer(x, state, lengths=LENGTHS, reset=reset)
        loss = y.square().sum() + z.square().sum() + h_n.sum()
        results.append([y, z, h_n, *torch.autograd.grad(loss, list(layer.parameters()))])
    assert_same(*results)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3"], ids=repr)
def test_wrong_values_are_named(value: Any) -> None:
    wrong = rf"checkpoint_every is {value!r}; it should be None or a whole number"
    with pytest.raises(ValueError, match=wrong):
        fastrnn.LSTM(2, 3, checkpoint_every=value)
    with pytest.raises(ValueError, match=wrong):
        lstm(
            torch.zeros(4, 1, 2),
            [LayerWeights(torch.zeros(1, 8, 2), torch.zeros(1, 8, 2))],
            checkpoint_every=value,
        )


def test_it_is_shown_and_copied_and_not_part_of_a_checkpoint() -> None:
    plain, changed = pair(checkpoint_every=64)
    assert "checkpoint_every" not in repr(plain)
    assert repr(changed) == "LSTM(3, 5, checkpoint_every=64)"
    assert plain.state_dict().keys() == changed.state_dict().keys()
    assert copy.deepcopy(changed).checkpoint_every == 64
    assert pickle.loads(pickle.dumps(changed)).checkpoint_every == 64


def test_an_accelerated_module_can_be_given_it() -> None:
    stock = nn.Sequential(nn.LSTM(FEATURES, 5, bidirectional=True, dtype=torch.float64))
    x = torch.randn(T, B, FEATURES, dtype=torch.float64)
    want = run(stock, list(stock.parameters()), x)
    fastrnn.accelerate(stock)
    assert stock[0].checkpoint_every is None
    stock[0].checkpoint_every = 3
    assert_same(run(stock, list(stock.parameters()), x), want)
    fastrnn.restore(stock)
    assert_same(run(stock, list(stock.parameters()), x), want)


@traced
def test_one_compiled_program_trains_on_every_length() -> None:
    _, layer = pair(num_layers=2, bidirectional=True)
    parameters = list(layer.parameters())
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in [(11, 4), (9, 3), (2, 7), (3, 5)]:
        x = torch.randn(*size, FEATURES)
        assert_same(run(compiled, parameters, x), run(layer, parameters, x), rtol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1


@traced
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of every number in a trace
def test_exported_and_traced_programs_train() -> None:
    _, layer = pair(bidirectional=True)
    x, parameters = torch.randn(T, B, FEATURES), list(layer.parameters())
    program = torch.export.export(layer, (x,), dynamic_shapes={"input": {0: Dim("steps")}})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    script = torch.jit.trace(layer, (x,))
    for seq_len in (T, 2, 7):
        x = torch.randn(seq_len, B, FEATURES)
        want = run(layer, parameters, x)
        own = dict(loaded.named_parameters())
        ordered = [own[name] for name, _ in layer.named_parameters()]
        assert_same(run(loaded, ordered, x), want, rtol=1e-6)
        assert_same(run(script, list(script.parameters()), x), want, rtol=1e-6)
