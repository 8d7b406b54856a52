"""Features: how each outcome is told, that checks can fail, and what the document says."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastrnn
from benchmarks.features.feature import Feature, Make, WrongResultError, compare, flat, require
from benchmarks.features.processes import ChildError, run_in_child
from benchmarks.features.runs import COLUMNS, FEATURES, NOT_RUN, Column, outcome, run_column
from benchmarks.features.steps import Cell, by_steps
from benchmarks.features.table import FEATURES_FILE, features_table
from benchmarks.report import DROP_IN, with_tables
from benchmarks.results_file import load

CPU = torch.device("cpu")
STOCK = Column("stock", nn.LSTM, CPU)
OURS = Column("ours", fastrnn.LSTM, CPU)


class Slanted(fastrnn.LSTM):
    """Gives slightly wrong outputs."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        y, state = super().forward(*arguments, **options)
        return y * 1.01, state


class Blind(fastrnn.LSTM):
    """Gives right outputs, and gradients that are short of a share."""

    def forward(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        return super().forward(x * 0.9 + x.detach() * 0.1, *arguments, **options)


def named(name: str) -> Feature:
    (found,) = (f for f in FEATURES if name in f.name)
    return found


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len({f.name for f in FEATURES}) == len(FEATURES) > 50
    assert not any("|" in f.name for f in FEATURES)


def test_what_works_is_told_so() -> None:
    assert outcome(named("Batches, states"), STOCK) == "yes"
    assert outcome(named("Lengths with"), OURS) == "yes"


def test_an_error_is_told_by_type_and_first_words() -> None:
    text = outcome(named("Lengths with"), STOCK)
    assert text.startswith("no: TypeError: ")
    assert "lengths" in text

    def broken(make: Make, device: torch.device) -> None:
        raise ValueError(f"/home/someone/torch/file.py:12: in line one {'x ' * 100}\nline two")

    text = outcome(Feature("broken", "", broken), OURS)
    assert text.startswith("no: ValueError: in line one x")
    assert text.endswith("x ...")
    assert len(text) < 120
    assert "home" not in text
    assert "two" not in text


@pytest.mark.parametrize("name", ["Batches, states", "Lengths with", "Spectral norm"])
@pytest.mark.parametrize("layer", [Slanted, Blind])
def test_wrong_numbers_are_told(name: str, layer: type[nn.Module]) -> None:
    text = outcome(named(name), Column("wrong", layer, CPU))
    assert text.startswith("wrong: ")
    assert "differs by" in text


def test_a_promise_that_is_not_kept_is_wrong() -> None:
    class Deaf(fastrnn.LSTM):
        """Ignores its noise."""

        def __init__(self, *sizes: int, recurrent_dropout: float = 0, **options: Any) -> None:
            super().__init__(*sizes, **options)

    text = outcome(named("Recurrent dropout"), Column("deaf", Deaf, CPU))
    assert text == "wrong: two calls have the same noise"


def test_a_column_without_its_gpu_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for column in COLUMNS:
        if column.device.type == "cuda":
            assert {text for _, text in run_column(column, FEATURES)} == {NOT_RUN}


def test_a_run_leaves_the_random_state_and_settings_alone() -> None:
    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    outcome(named("Deterministic"), OURS)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_comparisons_can_fail() -> None:
    ones = torch.ones(3)
    compare("y", [ones], [ones.double()])
    for other in (torch.ones(4), ones + 1e-3, ones * torch.nan):
        with pytest.raises(WrongResultError, match="y 0"):
            compare("y", [ones], [other])
    with pytest.raises(WrongResultError, match="because"):
        require(False, "because")


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}], ids=str
)
def test_steps_are_those_of_stock(options: dict[str, Any]) -> None:
    layer = nn.LSTM(3, 5, dtype=torch.float64, **options)
    rows = layer.num_layers * (1 + layer.bidirectional)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    hx = (torch.randn(rows, 2, 5).double(), torch.randn(rows, 2, 5).double())
    compare("output", by_steps(layer, x, hx), flat(layer(x, hx)), tolerance=1e-12)


def test_variants_of_a_step() -> None:
    layer, x = nn.LSTM(3, 5), torch.randn(4, 2, 3)
    still = by_steps(layer, x, cell=Cell(zoneout=(1.0, 1.0)))
    assert not any(t.any() for t in still)
    alone = by_steps(layer, x, cell=Cell(keep=torch.zeros(5)))
    without = copy.deepcopy(layer)
    with torch.no_grad():
        without.weight_hh_l0.zero_()
    compare("output", alone, by_steps(without, x))


def test_an_error_in_a_child_reaches_the_parent() -> None:
    with pytest.raises(ChildError, match="RuntimeError"):
        run_in_child("fork", fastrnn.LSTM(3, 5), torch.zeros(4, 2, 7))


def test_the_document_says_what_is_stored() -> None:
    assert DROP_IN.read_text() == with_tables(DROP_IN)
    for column, cell in load(FEATURES_FILE).items():
        assert column in {c.name for c in COLUMNS}
        assert set(cell["outcomes"]) == {f.name for f in FEATURES}
        assert all(
            text.split(":")[0] in ("yes", "no", "wrong", "not run")
            for text in cell["outcomes"].values()
        )
    table = features_table()
    for feature in FEATURES:
        assert f"| {feature.name} |" in table


def test_chosen_features_are_run_and_not_stored() -> None:
    before = FEATURES_FILE.read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.features", "retain_graph"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(`retain_graph=True`): yes") == 2
    assert FEATURES_FILE.read_bytes() == before
