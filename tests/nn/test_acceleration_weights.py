"""`accelerate` and `restore` where weights are computed: norms, pruning, parametrizations."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import fastrnn

from .before_and_after import (
    assert_close,
    assert_same_accelerated_and_stock_again,
    outputs_and_gradients,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def old_weight_norm(lstm: nn.LSTM) -> None:
    nn.utils.weight_norm(lstm, "weight_hh_l0")


def old_spectral_norm(lstm: nn.LSTM) -> None:
    nn.utils.spectral_norm(lstm, "weight_hh_l0")


def pruning(lstm: nn.LSTM) -> None:
    prune.l1_unstructured(lstm, "weight_hh_l0", amount=0.5)


def weight_norm(lstm: nn.LSTM) -> None:
    nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")
    nn.utils.parametrizations.weight_norm(lstm, "weight_ih_l0_reverse")


def spectral_norm(lstm: nn.LSTM) -> None:
    nn.utils.parametrizations.spectral_norm(lstm, "weight_hh_l0")


def orthogonal(lstm: nn.LSTM) -> None:
    nn.utils.parametrizations.orthogonal(lstm, "weight_hh_l0")


PARAMETRIZATIONS = [weight_norm, spectral_norm, orthogonal]


def both_directions() -> nn.LSTM:
    return nn.LSTM(5, 6, bidirectional=True).eval()  # spectral norm iterates in training mode


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "compute", [old_weight_norm, old_spectral_norm, pruning, *PARAMETRIZATIONS]
)
def test_computed_weights(compute: object) -> None:
    lstm = both_directions()
    compute(lstm)
    assert_same_accelerated_and_stock_again(lstm, torch.randn(4, 3, 5))


class WeightDrop(nn.Module):
    """Dropout on recurrent weights, as language models do it: a tensor where a parameter was."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.raw = nn.Parameter(lstm.weight_hh_l0.detach())
        del lstm.weight_hh_l0
        self.lstm = lstm

    def forward(self, x: Tensor) -> object:
        self.lstm.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5)
        return self.lstm(x)


def test_weights_that_are_set_by_a_wrapper() -> None:
    model, x = WeightDrop(nn.LSTM(5, 6)), torch.randn(4, 3, 5)
    torch.manual_seed(3)
    want = outputs_and_gradients(model, x)
    fastrnn.accelerate(model)
    torch.manual_seed(3)
    assert_close(outputs_and_gradients(model, x), want)


def test_parametrized_modules_have_the_classes_that_torch_would_give_them() -> None:
    lstm = both_directions()
    weight_norm(lstm)
    stock_class = type(lstm)
    fastrnn.accelerate(lstm)
    assert isinstance(lstm, fastrnn.LSTM)
    assert type(lstm).__name__ == stock_class.__name__ == "ParametrizedLSTM"
    assert nn.utils.parametrize.type_before_parametrizations(lstm) is fastrnn.LSTM
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(lstm)
    fastrnn.restore(lstm)
    assert type(lstm).__mro__[1:] == stock_class.__mro__[1:]
    assert vars(type(lstm)).keys() == vars(stock_class).keys()
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(lstm)


@pytest.mark.parametrize("parametrize", PARAMETRIZATIONS)
def test_copies_of_parametrized_modules_are_independent(parametrize: object) -> None:
    lstm, x = both_directions(), torch.randn(4, 3, 5)
    parametrize(lstm)
    fastrnn.accelerate(lstm)
    twin = copy.deepcopy(lstm)
    want = outputs_and_gradients(lstm, x)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(2)
    assert_close(outputs_and_gradients(twin, x), want)
    fastrnn.restore(twin)
    assert_close(outputs_and_gradients(twin, x), want)
    assert isinstance(lstm, fastrnn.LSTM)


def test_parametrizations_can_be_removed_while_accelerated() -> None:
    lstm, x = both_directions(), torch.randn(4, 3, 5)
    weight_norm(lstm)
    want, _ = lstm(x)
    fastrnn.accelerate(lstm)
    for name in ("weight_hh_l0", "weight_ih_l0_reverse"):
        nn.utils.parametrize.remove_parametrizations(lstm, name)
        assert isinstance(getattr(lstm, name), nn.Parameter)
    assert type(lstm) is fastrnn.LSTM
    torch.testing.assert_close(lstm(x)[0], want, rtol=1e-4, atol=1e-5)
    fastrnn.restore(lstm)
    assert type(lstm) is nn.LSTM
    torch.testing.assert_close(lstm(x)[0], want, rtol=1e-4, atol=1e-5)


def test_parametrizations_can_be_added_while_accelerated() -> None:
    lstm, x = both_directions(), torch.randn(4, 3, 5)
    fastrnn.accelerate(lstm)
    spectral_norm(lstm)
    want = outputs_and_gradients(lstm, x)
    fastrnn.restore(lstm)
    assert nn.utils.parametrize.type_before_parametrizations(lstm) is nn.LSTM
    assert_close(outputs_and_gradients(lstm, x), want)
    nn.utils.parametrize.remove_parametrizations(lstm, "weight_hh_l0")
    assert type(lstm) is nn.LSTM
