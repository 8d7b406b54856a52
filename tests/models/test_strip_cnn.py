"""Convolutions alone: what is far from each other meets in the pooling only."""

from typing import Any

import pytest
import torch

from fastrnn.models import CNNLSTMClassifier, StripCNN, StripCNNConfig


def small(**settings: Any) -> StripCNN:
    """The same weights at each call, where the same are asked for; in evaluation mode."""
    torch.manual_seed(0)
    wanted = {"conv_channels": [4, 6], "conv_features": 8, "width_factor": 2}
    return StripCNN(2, 5, 3, **(wanted | settings), dtype=torch.float64).eval()


@pytest.mark.parametrize(("depth", "kernel_size"), [(0, 3), (1, 3), (2, 5)])
def test_a_step_sees_as_far_as_the_convolutions_reach(depth, kernel_size):
    model = small(depth=depth, kernel_size=kernel_size)
    strips = torch.rand(1, 2, 5, 120, dtype=torch.float64)
    changed = strips.clone()
    changed[..., 60] += 1
    before, after = (model.encoder(x).steps for x in (strips, changed))
    moved = (before != after).any(2)[:, 0].nonzero().flatten() - 30
    front = 2  # of columns that are two to a step
    assert moved.min() >= -front - depth * (kernel_size // 2)
    assert moved.max() <= front + depth * (kernel_size // 2)
    assert 0 in moved
    if depth:
        assert len(moved) > 2 * depth * (kernel_size // 2)


def test_depth_and_kernel_size_set_the_parameters():
    def count(**settings: int) -> int:
        return sum(parameter.numel() for parameter in small(**settings).parameters())

    block = 8 * 8 * 3 + 8 + 2 * 8  # convolution, its bias, the norm before it
    assert count(depth=3, kernel_size=3) - count(depth=0) == 3 * block
    assert count(depth=1, kernel_size=5) - count(depth=1, kernel_size=3) == 8 * 8 * 2


def test_the_baseline_is_about_as_large_as_what_it_is_held_against():
    sizes = [
        sum(p.numel() for p in model_class(1, 28, 10, device="meta").parameters())
        for model_class in (StripCNN, CNNLSTMClassifier)
    ]
    assert 0.8 < sizes[0] / sizes[1] < 1.25


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"depth": -1}, ValueError, "depth must be from 0 to 256, got -1"),
        ({"depth": True}, TypeError, "depth must be an integer, got True"),
        ({"kernel_size": 4}, ValueError, "kernel_size must be odd, got 4"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be from 1 to 65536, got 0"),
    ],
)
def test_refuses(changes, error, message):
    with pytest.raises(error, match=message):
        StripCNNConfig(1, 8, 3, **changes)


def test_an_lstms_settings_are_unknown():
    with pytest.raises(TypeError, match=r"no setting 'hidden_size'; it has .*depth, k"):
        StripCNN(1, 8, 3, hidden_size=4)
