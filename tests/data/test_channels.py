import numpy as np
import pytest
import torch

from fastrnn.data import StripArrays
from fastrnn.data.channels import StripChannels


def coloured() -> StripArrays:
    random = np.random.default_rng(0)
    strips = [random.integers(0, 256, (4, 6, width), dtype=np.uint8) for width in (9, 5)]
    return StripArrays(strips, ["cat", "dog"])


def test_gives_the_channels_in_the_order_wanted():
    dataset = coloured()
    view = StripChannels(dataset, [3, 1])
    for number, (strip, target) in enumerate(view):
        whole, same = dataset[number]
        assert torch.equal(strip, whole[[3, 1]])
        assert target == same
    assert (view.channels, view.height, view.labels) == (2, 6, ("cat", "dog"))
    assert view.lengths.tolist() == [9, 5]


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ([], ValueError, "channels is empty"),
        ([4], ValueError, r"channels\[0\] is 4, but must be in 0 .. 3"),
        ([0, -1], ValueError, r"channels\[1\] is -1"),
        ([0.5], TypeError, "channels has dtype float64"),
    ],
)
def test_wrong_channels(channels, error, message):
    with pytest.raises(error, match=message):
        StripChannels(coloured(), channels)
