"""The benchmark of light models: what is right is timed, and the guide shows what is stored."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import light_models
from benchmarks.light_models import MODES, PLAIN, VARIANTS
from benchmarks.report import MODELS, with_tables
from benchmarks.results_file import load, store
from benchmarks.timing import Comparison, Spread
from fastrnn.data import StripDigits
from fastrnn.data.batching import collate


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Everything as small as it gets; gives the file that results go to."""
    monkeypatch.setattr(light_models, "SECONDS", dict.fromkeys(MODES, 0.0))
    monkeypatch.setattr(light_models, "BATCH_SIZE", 2)
    monkeypatch.setattr(light_models, "SEEDS", (0, 1))
    monkeypatch.setattr(light_models, "TRAIN_STRIPS", 10)
    monkeypatch.setattr(light_models, "TEST_STRIPS", 10)
    monkeypatch.setattr(light_models, "TRAINING", replace(light_models.TRAINING, epochs=1))
    monkeypatch.setattr(light_models, "LIGHT_FILE", tmp_path / "light.json")
    return tmp_path / "light.json"


def test_variants_are_lighter_than_the_plain_model() -> None:
    def size(name: str) -> int:
        return sum(parameter.numel() for parameter in light_models.build(name).parameters())

    for name in VARIANTS:
        if name not in (PLAIN, "stack=2"):  # which has wider steps, and half as many
            assert size(name) < size(PLAIN)
    assert size("all together (2 heads)") == min(map(size, VARIANTS))


def test_a_named_variant_is_measured_stored_and_shown(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["light_models", PLAIN, "all but proj_size (2 heads)"])
    light_models.main()
    cells = load(tiny)
    assert set(cells) == {PLAIN, "all but proj_size (2 heads)"}
    for cell in cells.values():
        assert set(cell["times"]) == set(MODES)
        assert all(times["ours_ms"]["p50"] > 0 for times in cell["times"].values())
        assert len(cell["accuracy"]) == 2
    output = capsys.readouterr().out
    assert f"| plain | {cells[PLAIN]['parameters']:,} | **" in output
    assert "| `stack=2` | not measured | not measured | not measured | not measured |" in output
    assert "mean of 2 seeds" in output


def test_the_table_shows_every_cell(tiny: Path) -> None:
    times = {"p20": 0.5, "p50": 0.61, "p80": 0.7}
    cell = {
        "parameters": 12345,
        "times": {mode: {"plain_ms": {"p50": 21.0}, "times_the_time": times} for mode in MODES},
        "accuracy": [0.9, 0.8, 0.94],
        "environment": {"cpu": "C", "threads": 2, "torch": "3"},
    }
    store(dict.fromkeys(VARIANTS, cell), tiny)
    table = light_models.table()
    row = "12,345 | **0.61** (0.50 to 0.70) | **0.61** (0.50 to 0.70) | **88.0%** (80.0% to 94.0%)"
    assert table.count(row) == len(VARIANTS)
    assert "21 ms (inference) and 21 ms (training step)" in table
    assert "C, 2 threads, torch 3" in table


def test_before_the_first_run_the_table_says_so(tiny: Path) -> None:
    table = light_models.table()
    assert table.count("| not measured") == 4 * len(VARIANTS)
    assert "which has not been run yet" in table


@pytest.mark.parametrize("value", [2.0, torch.nan])
def test_wrong_results_are_not_timed(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    batch = collate(StripDigits("train"), range(2))
    model = light_models.build("coupled_gates=True")
    light_models.check_first("coupled_gates=True", model, batch)
    calls = []

    def wrong_once(logits: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return logits + value if len(calls) == 1 else logits

    model.head.register_forward_hook(lambda _, args, logits: wrong_once(logits))
    with pytest.raises(SystemExit, match=r"logits differ by .*, so its speed means nothing"):
        light_models.check_first("coupled_gates=True", model, batch)


def test_times_are_the_inverse_of_ratios() -> None:
    one = Spread(1.0, 1.0, 1.0)
    times = Comparison(one, one, ratio=Spread(0.5, 1.0, 4.0), rounds=5).times_the_time
    assert times == Spread(0.25, 1.0, 2.0)


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["light_models", "tiny"])
    with pytest.raises(SystemExit, match="unknown: tiny; choose from plain, bidirectional=False"):
        light_models.main()


def test_the_guide_has_the_stored_table() -> None:
    assert MODELS.read_text() == with_tables(MODELS)
