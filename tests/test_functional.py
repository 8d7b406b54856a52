"""The function below the module."""

import doctest

import pytest
import torch

import fastrnn
from fastrnn import functional
from fastrnn.functional import LayerWeights, lstm


def layer_of(module: torch.nn.RNNBase, index: int) -> LayerWeights:
    suffixes = [f"_l{index}", f"_l{index}_reverse"][: 2 if module.bidirectional else 1]

    def stack(name: str) -> torch.Tensor:
        return torch.stack([getattr(module, name + suffix) for suffix in suffixes])

    return LayerWeights(stack("weight_ih"), stack("weight_hh"), stack("bias_ih") + stack("bias_hh"))


def test_layers_stack_as_in_torch() -> None:
    module = torch.nn.LSTM(4, 6, num_layers=2, bidirectional=True)
    x, hx = torch.randn(5, 3, 4), (torch.randn(4, 3, 6), torch.randn(4, 3, 6))
    want, want_state = module(x, hx)
    got, got_state = lstm(x, [layer_of(module, 0), layer_of(module, 1)], hx)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got_state, want_state)


def test_backend_argument_forces() -> None:
    weights = LayerWeights(torch.randn(1, 8, 3), torch.randn(1, 8, 2))
    with pytest.raises(ValueError, match="backend is 'none'"):
        lstm(torch.randn(4, 2, 3), [weights], backend="none")


def test_no_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match="layers is empty"):
        lstm(torch.randn(4, 2, 3), [])


def test_state_with_the_wrong_number_of_layers() -> None:
    weights = LayerWeights(torch.randn(1, 8, 3), torch.randn(1, 8, 2))
    with pytest.raises(ValueError, match=r"h_0 has shape \[2, 2, 2\].*= 1"):
        lstm(torch.randn(4, 2, 3), [weights], (torch.zeros(2, 2, 2), torch.zeros(1, 2, 2)))


@pytest.mark.parametrize(
    "module",
    [functional, fastrnn.nn.lstm, fastrnn.recurrence.dispatch, fastrnn.recurrence.problem],
    ids=lambda module: module.__name__,
)
def test_examples_in_docstrings_run(module: object) -> None:
    result = doctest.testmod(module, extraglobs={"torch": torch})  # type: ignore[arg-type]
    assert result.failed == 0
