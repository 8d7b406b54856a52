import doctest
import sys

import pytest
from torch import nn

from fastrnn.nn.mode import mode


def model():
    layers = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(1, 1), nn.Dropout()))
    layers[1].eval()
    return layers


@pytest.mark.parametrize("training", [True, False])
def test_every_module_gets_its_own_mode_back(training):
    layers = model()
    before = [module.training for module in layers.modules()]
    with mode(layers, training=training):
        assert {module.training for module in layers.modules()} == {training}
    assert [module.training for module in layers.modules()] == before


def test_after_an_error_too():
    layers = model()
    with pytest.raises(RuntimeError, match="inside"), mode(layers, training=False):
        raise RuntimeError("inside")
    assert layers.training
    assert not layers[1].training


def test_example_in_docstring_runs():
    assert doctest.testmod(sys.modules["fastrnn.nn.mode"]).failed == 0
