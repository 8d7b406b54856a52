"""The profile of a training call: its parts are all there is, and each is what its name says."""

import pytest
import torch

import fastrnn
from benchmarks import cpu_profile
from benchmarks.cases import LayerCase
from benchmarks.cpu_profile import CASES, PARTS, Clock

CASE = LayerCase(3, 32, 4, 64)


def test_the_parts_add_up_to_the_whole() -> None:
    cell = cpu_profile.measure(CASE, seconds=0.2)
    assert set(cell["parts_ms"]) == set(PARTS)
    assert sum(cell["parts_ms"].values()) == pytest.approx(cell["whole_ms"], rel=0.01)
    assert 0 < cell["arithmetic_ms"] < cell["whole_ms"] < 100 * cell["torch_ms"]


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
        "parts_ms": dict.fromkeys(PARTS, 1.0) | {"keep": -0.1},
        "environment": {"cpu": "C", "threads": 2, "isa": "i", "torch": "2", "commit": "abc"},
    }
    monkeypatch.setattr(cpu_profile, "load", lambda path: {case.name: cell for case in CASES})
    row = cpu_profile.profile_table().splitlines()[2]
    assert row == (
        f"| {CASES[0].name} | **2.00** | 10 ms | 25% | 10% | 10% | 10% | 0% | 10% | 10% |"
    )
