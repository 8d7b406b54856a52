"""The profile of a training call: each part is what its name says."""

import pytest
import torch

import fastrnn
from benchmarks import cpu_profile
from benchmarks.cases import LayerCase
from benchmarks.cpu_profile import CASES, PARTS, Clock


def turn(ms: float, forward: float = 0.0, backward: float = 0.0) -> dict[str, float]:
    return {"ms": ms, "forward": forward, "backward": backward}


def test_what_a_call_leaves_out_counts_for_the_part_that_it_is() -> None:
    rounds = {
        "whole": [turn(20, 6, 10)] * 3,
        "inference": [turn(2, 2)] * 3,
        "forward": [turn(4, 4)] * 3,
        "backward, no weights": [turn(6, 0, 6)] * 3,
        "backward": [turn(8, 0, 8)] * 3,
    }
    assert cpu_profile.parts(rounds) == {
        "around the kernels": 4,
        "forward": 3,
        "keep": 3,
        "backward": 7.5,
        "weight gradients": 2.5,
    }


def test_a_large_layer_has_its_time_in_products_and_a_small_one_around_the_kernels() -> None:
    small = cpu_profile.measure(LayerCase(3, 8, 1, 20), seconds=0.2)
    large = cpu_profile.measure(LayerCase(28, 256, 8, 32), seconds=1)
    assert small["parts_ms"]["around the kernels"] > 0.5 * small["whole_ms"]
    for part in ("forward", "backward", "weight gradients"):
        assert large["parts_ms"][part] > 0.05 * large["whole_ms"]
    for cell in (small, large):
        assert set(cell["parts_ms"]) == set(PARTS)
        assert 0 < cell["arithmetic_ms"] < cell["whole_ms"]


def test_the_clock_counts_what_the_kernels_take_and_only_while_it_watches() -> None:
    layer, x, clock = fastrnn.LSTM(3, 32), torch.randn(64, 4, 3), Clock()
    with clock.watching():
        layer(x)[0].sum().backward()
    forward, backward = clock.forward, clock.backward
    assert forward > 0
    assert backward > 0
    layer(x)[0].sum().backward()
    assert (clock.forward, clock.backward) == (forward, backward)


def test_the_table_shows_shares_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = {
        "ratio": 2.0,
        "whole_ms": 10.0,
        "arithmetic_ms": 2.5,
        "parts_ms": dict.fromkeys(PARTS, 2.0),
        "environment": {"cpu": "C", "threads": 2, "isa": "i", "torch": "2", "commit": "abc"},
    }
    monkeypatch.setattr(cpu_profile, "load", lambda path: {case.name: cell for case in CASES})
    row = cpu_profile.profile_table().splitlines()[2]
    assert row == (f"| {CASES[0].name} | **2.00** | 10 ms | 25% | 20% | 20% | 20% | 20% | 20% |")
