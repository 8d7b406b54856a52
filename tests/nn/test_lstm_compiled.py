"""`torch.compile` of the layer: `torch.nn.LSTM`'s numbers, one graph, no second compilation."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import fastrnn
from fastrnn import LSTMState

from .stock import INPUT_SIZE, assert_same_run, gradients, inputs_for, padded_pair

pytestmark = [
    # Raised by torch's own tracing of any autograd.Function, and by its import of inductor.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

ONE: dict[str, Any] = {}
BOTH = {"num_layers": 2, "bidirectional": True}
SIZES = [(6, 4), (9, 3), (2, 7), (5, 5)]
"""T and B of calls one after the other."""


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def check(
    compiled: nn.Module,
    layers: tuple[nn.Module, nn.Module],
    size: tuple[int, int],
    *,
    with_lengths: bool,
    training: bool,
) -> None:
    """Compare a compiled call with stock, in training also its gradients."""
    stock, ours = layers
    x, lengths = inputs_for(ours.lstm, *size, with_lengths=with_lengths)
    x.requires_grad_(training)
    with torch.set_grad_enabled(training):
        got, want = compiled(x, lengths), stock(x, lengths)
    assert_same_run(got, want)
    assert got[0].requires_grad == training
    if training:
        theirs = gradients(want, [x, *stock.parameters()])
        for a, b in zip(gradients(got, [x, *ours.parameters()]), theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("backend", "options", "with_lengths"),
    [
        ("aot_eager", ONE, False),
        ("aot_eager", {"num_layers": 2, "batch_first": True}, True),
        ("aot_eager", {"bidirectional": True, "proj_size": 2}, True),
        ("aot_eager", BOTH, False),
        ("inductor", ONE, True),
        ("inductor", BOTH, False),
    ],
    ids=str,
)
def test_one_program_serves_every_length_and_batch(
    backend: str, options: dict[str, Any], with_lengths: bool, training: bool
) -> None:
    layers = padded_pair(**options)
    compiled = torch.compile(layers[1], backend=backend, fullgraph=True, dynamic=True)
    check(compiled, layers, SIZES[0], with_lengths=with_lengths, training=training)
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in SIZES[1:]:
            check(compiled, layers, size, with_lengths=with_lengths, training=training)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize(
    ("backend", "options", "with_lengths", "training"),
    [
        ("aot_eager", ONE, False, False),
        ("aot_eager", BOTH, True, True),
        ("inductor", BOTH, True, False),
        ("inductor", ONE, False, True),
    ],
    ids=str,
)
def test_fixed_sizes_are_one_program_each(
    backend: str, options: dict[str, Any], with_lengths: bool, training: bool
) -> None:
    layers = padded_pair(**options)
    compiled = torch.compile(layers[1], backend=backend, fullgraph=True, dynamic=False)
    for size in ((6, 4), (1, 1)):
        check(compiled, layers, size, with_lengths=with_lengths, training=training)
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in ((6, 4), (1, 1)):
            check(compiled, layers, size, with_lengths=with_lengths, training=training)
    assert counters["stats"]["unique_graphs"] == 2


def test_by_default_the_second_size_makes_sizes_dynamic() -> None:
    layers = padded_pair()
    compiled = torch.compile(layers[1], backend="aot_eager", fullgraph=True)
    for size in ((6, 4), (9, 3)):
        check(compiled, layers, size, with_lengths=False, training=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        check(compiled, layers, (4, 8), with_lengths=False, training=True)


def test_training_and_evaluation_are_a_program_each_and_no_more() -> None:
    _, ours = padded_pair(num_layers=2, dropout=0.5)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=True)
    x = torch.randn(6, 4, INPUT_SIZE)
    compiled(x)
    compiled.eval()
    assert_same_run(compiled(x), ours.lstm.eval()(x))
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled.train()
        assert not torch.equal(compiled(x)[0], compiled(x)[0])


def test_a_state_goes_from_call_to_call() -> None:
    stock, ours = padded_pair(num_layers=2)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=True)
    state, stock_state = ours.lstm.initial_state(4), None
    for piece in torch.randn(12, 4, INPUT_SIZE).split(4):
        got, want = compiled(piece, None, state), stock(piece, None, stock_state)
        assert_same_run(got, want)
        assert type(got[1]) is LSTMState
        state, stock_state = got[1].detach(), want[1]
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("options", [ONE, BOTH], ids=str)
def test_gradients_add_up_and_are_clipped_one_by_one(backend: str, options: dict[str, Any]) -> None:
    stock, ours = padded_pair(**options)
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    x = torch.randn(6, 4, INPUT_SIZE)
    for layer in (stock, compiled):
        for _ in range(2):
            layer(x)[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
    for a, b in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


class Model(nn.Module):
    """The layer among others, with gradients from the last state."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.norm, self.lstm, self.head = nn.LayerNorm(3), lstm, nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, (h_n, _) = self.lstm(self.norm(x))
        return self.head(y.mean(0) + torch.cat([h_n[-2], h_n[-1]], 1)).log_softmax(1)


def test_an_optimiser_takes_the_same_way() -> None:
    torch.manual_seed(0)
    ours = Model(fastrnn.LSTM(3, 5, 2, bidirectional=True))
    stock = Model(nn.LSTM(3, 5, 2, bidirectional=True))
    stock.load_state_dict(ours.state_dict())
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=True)
    x, target = torch.randn(6, 4, 3), torch.tensor([0, 1, 1, 0])
    losses: list[list[float]] = []
    for model in (compiled, stock):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        losses.append([])
        for _ in range(5):
            loss = nn.functional.nll_loss(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_an_empty_batch_compiles() -> None:
    layer = fastrnn.LSTM(INPUT_SIZE, 5)
    x = torch.randn(6, 0, INPUT_SIZE)
    assert_same_run(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
