"""Pixel statistics of a data set."""

import numpy as np
import pytest

from fastrnn.data import StripArrays, StripDigits, StripSubset
from fastrnn.data.statistics import pixel_statistics


def test_equals_numpy_over_all_pixels() -> None:
    strips = StripDigits("train", size=20)
    pixels = np.concatenate([strips[i][0].numpy().ravel() for i in range(20)]) / 255
    mean, std = pixel_statistics(strips)
    assert mean == pytest.approx(pixels.mean(), abs=1e-9)
    assert std == pytest.approx(pixels.std(), abs=1e-9)


def test_a_sample_is_close_and_the_same_for_one_seed() -> None:
    strips = StripDigits("train", size=400)
    whole, part = pixel_statistics(strips, sample=400), pixel_statistics(strips, sample=64)
    assert part == pixel_statistics(strips, sample=64)
    assert part != whole
    assert part == pytest.approx(whole, rel=0.1)


def test_one_colour_has_a_positive_spread() -> None:
    strips = StripArrays([np.zeros((3, 5), np.uint8), np.zeros((3, 4), np.uint8)], [0, 1])
    assert pixel_statistics(strips) == (0.0, pytest.approx(1 / 255))


def test_nothing_to_measure_is_an_error() -> None:
    strips = StripDigits("train", size=20)
    with pytest.raises(ValueError, match="the data set is empty"):
        pixel_statistics(StripSubset(strips, []))
    with pytest.raises(ValueError, match="sample is 0"):
        pixel_statistics(strips, sample=0)
