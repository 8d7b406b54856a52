"""Wrong calls raise what stock raises; where that is known to differ, the test says so."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

from .side_by_side import error_of, make_pair, make_state

Call = Callable[[nn.RNNBase], Any]
X = torch.zeros(6, 4, 3)


def state(*shape: int, **options: Any) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape, **options), torch.zeros(shape, **options)


def differs(what: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=what)


# How a call is wrong, the call, and what ours should tell.
CALLS = [
    pytest.param(lambda m: m(torch.zeros(3)), "got 1D", id="one dimension"),
    pytest.param(lambda m: m(torch.zeros(1, 6, 4, 3)), "got 4D", id="four dimensions"),
    pytest.param(lambda m: m(X.double()), "dtype", id="dtype of x"),
    pytest.param(lambda m: m(X.long()), "dtype", id="whole numbers"),
    pytest.param(lambda m: m(X[..., :2]), "Expected 3, got 2", id="features of x"),
    pytest.param(lambda m: m(X, state(4, 5)), "hx", id="state of one sequence for a batch"),
    pytest.param(lambda m: m(X[:, 0], state(2, 1, 5)), "hx", id="state of a batch for one"),
    pytest.param(lambda m: m(X[:, 0], state(3, 5)), r"hx\[0\]", id="rows, one sequence"),
    pytest.param(lambda m: m(X, torch.zeros(2, 4, 5)), "hx", id="one tensor as state"),
    pytest.param(lambda m: m(X, (None, None)), "", id="a state of None"),
    pytest.param(lambda m: m(None), "", id="no input"),
    pytest.param(lambda m: m(X, wrong_name=1), "wrong_name", id="unknown argument"),
    pytest.param(
        lambda m: m(pack_padded_sequence(X, [6, 4, 2, 1]), state(2, 3, 5)),
        r"hx\[0\]",
        id="batch of a state, packed",
    ),
    pytest.param(
        lambda m: m(pack_padded_sequence(torch.zeros(6, 4, 2), [6, 4, 2, 1])),
        "Expected 3, got 2",
        id="features, packed",
    ),
    pytest.param(
        lambda m: m(X[:0]),
        "no time steps",
        id="no steps",
        marks=differs("stock raises RuntimeError, ours ValueError"),
    ),
    pytest.param(
        lambda m: m(X, (*state(2, 4, 5), torch.zeros(2, 4, 5))),
        "hx",
        id="three states",
    ),
    pytest.param(
        lambda m: m(X, (torch.zeros(2, 4, 5),)),
        "hx has 1 tensors",
        id="half a state",
        marks=differs("stock raises IndexError, ours RuntimeError"),
    ),
    pytest.param(
        lambda m: m(X, state(2, 4, 5, dtype=torch.float64)),
        "h_0",
        id="dtype of a state",
        marks=differs("stock raises RuntimeError, ours TypeError"),
    ),
    pytest.param(
        lambda m: m(X, state(2, 4, 5, device="meta")),
        "h_0",
        id="device of a state",
        marks=differs("stock raises RuntimeError, ours ValueError"),
    ),
    pytest.param(
        lambda m: m(X.to("meta")),
        "x is on meta",
        id="device of x",
        marks=differs("stock raises RuntimeError, ours ValueError"),
    ),
    pytest.param(
        lambda m: m(pack_padded_sequence(X.double(), [6, 4, 2, 1])),
        "dtype",
        id="dtype, packed",
        marks=differs("stock raises RuntimeError, out of a product; ours ValueError"),
    ),
]


@pytest.mark.parametrize(("call", "told"), CALLS)
def test_the_type_of_the_error_is_that_of_stock(call: Call, told: str) -> None:
    stock, ours = make_pair(3, 5, num_layers=2)
    errors = [error_of(lambda m=m: call(m)) for m in (stock, ours)]
    assert re.search(told, str(errors[1]))
    assert type(errors[1]) is type(errors[0])


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"hidden_size": 0},
    {"input_size": 0},
    {"input_size": 3.0},
    {"hidden_size": "5"},
    {"num_layers": 0},
    {"num_layers": 2.0},
    {"bias": 0},
    {"batch_first": 1},
    {"dropout": 2},
    {"dropout": True},
    {"dropout": "much"},
    {"proj_size": -1},
    {"proj_size": 5},
    {"proj_size": 2.0},
    {"nonsense": 1},
]


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=str)
def test_wrong_options_raise_what_stock_raises(wrong: dict[str, Any]) -> None:
    options = {"input_size": 3, "hidden_size": 5, **wrong}
    stock, ours = (error_of(lambda k=k: k(**options)) for k in (nn.LSTM, fastrnn.LSTM))
    assert type(ours) is type(stock)
    assert next(iter(wrong)) in str(ours) or str(ours) == str(stock)


def test_options_may_be_given_by_position() -> None:
    given = (3, 5, 2, False, True, 0.25, True, 2, "cpu", torch.float64)
    stock, ours = nn.LSTM(*given), fastrnn.LSTM(*given)
    assert repr(ours) == repr(stock)
    assert [p.dtype for p in ours.parameters()] == [p.dtype for p in stock.parameters()]


def test_the_input_may_be_given_by_its_name() -> None:
    stock, ours = make_pair(3, 5)
    torch.testing.assert_close(ours(input=X)[0], stock(input=X)[0])


def test_the_state_may_be_given_by_its_name() -> None:
    stock, ours = make_pair(3, 5)
    hx = make_state(ours, 4)
    torch.testing.assert_close(ours(X, hx=hx), stock(X, hx=hx))
    torch.testing.assert_close(ours(X, hx=list(hx)), stock(X, hx=list(hx)))


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.get_expected_cell_size(X, None),
        lambda m: m.get_expected_hidden_size(X, None),
        lambda m: m.check_input(X, None),
        lambda m: m.check_forward_args(X, state(2, 4, 5), None),
        lambda m: m.permute_hidden(state(2, 4, 5), torch.tensor([1, 0, 2, 3]))[1].shape,
        lambda m: m.flatten_parameters(),
        lambda m: [[p.shape for p in layer] for layer in m.all_weights],
    ],
    ids=[
        *("get_expected_cell_size", "get_expected_hidden_size", "check_input"),
        *("check_forward_args", "permute_hidden", "flatten_parameters", "all_weights"),
    ],
)
def test_methods_answer_as_those_of_stock(call: Call) -> None:
    stock, ours = make_pair(3, 5, num_layers=2)
    assert call(ours) == call(stock)


@differs("complex numbers, which stock computes with on the CPU, are refused")
def test_complex_numbers() -> None:
    stock, ours = make_pair(3, 5, dtype=torch.complex64)
    x = torch.randn(6, 4, 3, dtype=torch.complex64)
    torch.testing.assert_close(ours(x), stock(x))


class Model(nn.Module):
    """TorchScript wants a layer inside of a model."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_of_stock() -> None:
    """Without this, a torch that has none would look like the failure below."""
    stock, _ = make_pair(3, 5)
    torch.testing.assert_close(torch.jit.script(Model(stock))(X), stock(X)[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@differs("forward takes keywords and calls what TorchScript cannot compile")
def test_torchscript() -> None:
    _, ours = make_pair(3, 5)
    torch.testing.assert_close(torch.jit.script(Model(ours))(X), ours(X)[0])
