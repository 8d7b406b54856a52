import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.models import explain
from fastrnn.models.explain import spread
from fastrnn.nn.pooling import POOLINGS

from .explained import MODELS, is_complete, noise


@pytest.mark.parametrize(
    ("scan", "stack"), [("auto", 1), ("columns", 5), ("profile", 2), ("pixels", 1), ("pixels", 3)]
)
@pytest.mark.parametrize("width", [1, 8, 23])
def test_attention_sums_to_one_over_the_columns(scan, stack, width):
    model = MODELS["lstm"](scan=scan, stack=stack)
    strip = noise(width=width)
    attention = explain(model, strip, steps=1).attention
    assert attention.shape == (width,)
    assert attention.sum() == pytest.approx(1, abs=1e-6)
    _, weights = model(strip[None], return_attention=True)
    if (scan, stack) == ("auto", 1):
        np.testing.assert_allclose(attention, weights[0].detach(), atol=1e-6)
    if (scan, stack) == ("pixels", 1):
        per_column = weights[0].detach().reshape(width, 8).sum(1)
        np.testing.assert_allclose(attention, per_column, atol=1e-6)


@pytest.mark.parametrize("scan", ["rows", "auto", "profile", "pixels"])
def test_vertical_strips_are_followed_from_top_to_bottom(scan):
    model = MODELS["lstm"](scan=scan)
    explanation = explain(model, noise(height=15, width=8), steps=2)
    assert explanation.vertical
    assert explanation.attention.shape == explanation.along().shape == (15,)
    assert explanation.attention.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(explanation.along(), explanation.saliency().sum(1))


def test_no_attention_where_the_steps_do_not_follow_the_strip():
    assert explain(MODELS["lstm"](scan="channels", width=12), noise(), steps=1).attention is None


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "attention"])
def test_no_attention_without_attention_pooling(pooling):
    explanation = explain(MODELS["lstm"](pooling=pooling), noise(), steps=500)
    assert explanation.attention is None
    assert is_complete(explanation)


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    pixels_per_step=st.sampled_from([1, 2, 5, 32, 1 / 8, 3 / 28]),
    data=st.data(),
)
def test_spreading_keeps_the_sum_and_the_place(shares, pixels_per_step, data):
    longest = math.ceil(len(shares) * pixels_per_step - 1e-9)
    shortest = math.floor((len(shares) - 1) * pixels_per_step + 1e-9) + 1
    length = data.draw(st.integers(min(shortest, longest), longest))
    if math.ceil(length / pixels_per_step - 1e-9) != len(shares):
        return  # no strip of whole pixels has so many steps
    found = spread(shares, pixels_per_step, length)
    assert found.shape == (length,)
    assert found.sum() == pytest.approx(sum(shares), abs=1e-4)
    assert (found >= 0).all()
    most = int(np.argmax(shares))
    if pixels_per_step >= 1 and shares[most] > 0:
        # the last step has fewer pixels, each with more
        place = found[most * pixels_per_step : (most + 1) * pixels_per_step]
        assert place.sum() == pytest.approx(shares[most], abs=1e-5)
