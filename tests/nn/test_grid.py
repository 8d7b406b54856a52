"""1,280 configurations of an LSTM, ours against stock: outputs, and the gradient of every input."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn

from .side_by_side import assert_equal, gradients, make_pair, make_state

# Torch says once that oneDNN, which it uses on the CPU, has no projections.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported"),
]

T, B, FEATURES, HIDDEN, P = 4, 3, 3, 5, 2
# One sequence, padded, packed by falling length and in any order, and padded with `lengths=`,
# which stock is given packed.
FORMS = ("one", "padded", "sorted", "unsorted", "lengths")
LENGTHS = {"sorted": [4, 3, 1], "unsorted": [2, 4, 1], "lengths": [2, 4, 1]}


class Configuration(NamedTuple):
    num_layers: int
    bidirectional: bool
    proj_size: int
    dtype: torch.dtype
    bias: bool
    batch_first: bool
    form: str
    with_state: bool
    training: bool
    frozen: str = "nothing"

    def layers(self) -> tuple[nn.LSTM, fastrnn.LSTM]:
        """Stock and ours with the options that a constructor takes."""
        options = self._asdict()
        for name in ("form", "with_state", "training", "frozen"):
            del options[name]
        pair = make_pair(FEATURES, HIDDEN, **options)
        for layer in pair:
            layer.train(self.training).requires_grad_(self.frozen != "weights")
        return pair


def configurations(*frozen: str, forms: tuple[str, ...] = FORMS) -> list[Configuration]:
    flags = (False, True)
    axes = ((1, 2), flags, (0, P), (torch.float32, torch.float64), flags, flags, forms, flags)
    return [Configuration(*c) for c in itertools.product(*axes, flags, frozen)]


EVERY_GRADIENT = configurations("nothing")
PARTLY_FROZEN = configurations("weights", "inputs", forms=("unsorted",))


def run(layer: nn.RNNBase, c: Configuration, x: Tensor, hx: object) -> list[Tensor]:
    """Outputs padded and time first, whatever form the call has."""
    if c.form == "lengths" and isinstance(layer, fastrnn.LSTM):
        y, state = layer(x, hx, lengths=LENGTHS[c.form])
    elif c.form in LENGTHS:
        lengths = torch.tensor(LENGTHS[c.form])
        packed = pack_padded_sequence(x, lengths, c.batch_first, enforce_sorted=c.form == "sorted")
        y, state = layer(packed, hx)
        assert isinstance(y, PackedSequence)
        y, _ = pad_packed_sequence(y, c.batch_first)
    else:
        y, state = layer(x, hx)
    return [y, *state]


def assert_same_as_stock(c: Configuration) -> None:
    stock, ours = c.layers()
    batch = () if c.form == "one" else (B,)
    shape = (B, T, FEATURES) if batch and c.batch_first else (T, *batch, FEATURES)
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=rng, dtype=c.dtype)
    inputs = [x, *(make_state(ours, *batch) if c.with_state else ())]
    for tensor in inputs:
        tensor.requires_grad_(c.frozen != "inputs")
    hx = tuple(inputs[1:]) or None
    results = []
    for layer in (stock, ours):
        outputs = run(layer, c, x, hx)
        leaves = [t for t in (*inputs, *layer.parameters()) if t.requires_grad]
        results.append([*outputs, *gradients(outputs, leaves)])
    assert_equal(results[1], results[0], c)


def test_the_grid_has_more_than_1024_configurations() -> None:
    assert len(set(EVERY_GRADIENT)) == 1280
    assert len(set(PARTLY_FROZEN)) == 512


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("proj_size", [0, P])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_every_gradient_are_the_same(
    form: str, proj_size: int, dtype: torch.dtype
) -> None:
    share = [
        c for c in EVERY_GRADIENT if (c.form, c.proj_size, c.dtype) == (form, proj_size, dtype)
    ]
    assert len(share) * len(FORMS) * 4 == len(EVERY_GRADIENT)
    for configuration in share:
        assert_same_as_stock(configuration)


@pytest.mark.parametrize("proj_size", [0, P])
@pytest.mark.parametrize("frozen", ["weights", "inputs"])
def test_what_is_not_frozen_gets_the_same_gradients(frozen: str, proj_size: int) -> None:
    share = [c for c in PARTLY_FROZEN if (c.frozen, c.proj_size) == (frozen, proj_size)]
    assert len(share) * 4 == len(PARTLY_FROZEN)
    for configuration in share:
        assert_same_as_stock(configuration)
