"""What is stored of the comparison, and what is made of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import LayerCase
from benchmarks.peers import plot, table
from benchmarks.peers.cases import GROUPS, Cell, Selection
from benchmarks.peers.results import Results
from benchmarks.peers.runner import Budget
from benchmarks.peers.session import Session

PLACE = {"cpu": "C", "cores": 2, "isa": "avx2", "python": "3.11.7", "commit": "a1"}
LAYER = {
    "input_size": 28,
    "hidden_size": 64,
    "batch_size": 32,
    "seq_len": 1024,
    "bidirectional": False,
    "variable": False,
}


def spread(value: float) -> dict[str, float]:
    return {"p20": value, "p50": value, "p80": value}


def entry(environment: str, ms: float = 10.0, ratio: float | None = None) -> dict[str, Any]:
    measured = {"ms": spread(ms), "rounds": 3, "gflops": 100.0, "peak_mb": 12.0}
    measured |= {"sgemm_share": 0.5, "gap": 1.5, "environment": environment}
    return measured if ratio is None else {**measured, "ratio": spread(ratio)}


def cell(peers: dict[str, Any], mode: str = "inference", **layer: Any) -> dict[str, Any]:
    return {
        "layer": {**LAYER, **layer},
        "mode": mode,
        "threads": 2,
        "group": GROUPS[0],
        "flops": 10**9,
        "limit": {"ms": 6.5, "bound": "computing"},
        "busy": 0.02,
        "peers": peers,
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two cells: the centre of the cross, and a small batch."""
    made = Results(tmp_path / "peers.json")
    key = made.add_environment({**PLACE, "versions": {"torch": "2.13"}, "date": "2026-01-01"})
    made.machines["C, 2 cores; 2 threads"] = {
        "sgemm_gflops": {"square": 200.0},
        "bandwidth_gb_s": {"L2": 200.0, "L3": 100.0, "DRAM": 20.0},
        "activation_ns": {"tanh": 0.5},
    }
    both = {"fastrnn": entry(key), "torch": entry(key, 20.0, 2.0)}
    refused = {"openvino": {"reason": "no memory", "environment": key}}
    made.store("I=28, H=64, B=32, T=1024; inference; 2 threads", cell({**both, **refused}))
    both = {"fastrnn": entry(key), "torch": entry(key, 80.0, 8.0)}
    made.store("I=28, H=64, B=1, T=1024; inference; 2 threads", cell(both, batch_size=1))
    return made


def test_they_are_the_same_after_reading(results: Results) -> None:
    again = Results(results.path)
    assert again.cells == results.cells
    assert again.environments == results.environments
    assert again.machines == results.machines
    assert len(results.path.read_text().splitlines()) == 8 + 4  # an entry a line
    assert json.loads(results.path.read_text())["cells"] == results.cells
    assert list(results.path.parent.iterdir()) == [results.path]


def test_a_cell_keeps_the_peers_that_are_not_measured_anew(results: Results) -> None:
    name = next(iter(results.cells))
    results.store(name, cell({"fastrnn": entry("b2", 9.0), "jax": entry("b2", 18.0, 2.0)}))
    peers = Results(results.path).cells[name]["peers"]
    assert list(peers) == ["fastrnn", "torch", "openvino", "jax"]
    assert peers["fastrnn"]["ms"]["p50"] == 9.0
    assert peers["torch"]["ms"]["p50"] == 20.0


def test_an_environment_is_kept_once_whatever_the_date(results: Results) -> None:
    known = next(iter(results.environments))
    versions = {"torch": "2.13"}
    assert results.add_environment({**PLACE, "versions": versions, "date": "2026-02"}) == known
    assert results.add_environment({**PLACE, "versions": {"torch": "2.14"}}) != known


@pytest.mark.parametrize(
    ("place", "any_commit", "missing"),
    [
        ({}, False, ("jax",)),
        ({"commit": "b2"}, False, ("torch", "openvino", "jax")),
        ({"commit": "b2"}, True, ("jax",)),
        ({"cpu": "D"}, True, ("torch", "openvino", "jax")),
    ],
    ids=["same", "another commit", "any commit", "another machine"],
)
def test_what_is_stored_is_not_measured_again(
    results: Results, place: dict[str, Any], any_commit: bool, missing: tuple[str, ...]
) -> None:
    name = next(iter(results.cells))
    peers = ("torch", "openvino", "jax")
    found = results.missing(name, peers, {**PLACE, **place}, any_commit=any_commit)
    assert found == missing


def test_a_session_goes_on_with_what_is_missing_beside_fastrnn(results: Results) -> None:
    session = Session(results, Budget(), "avx2")
    session.place = dict(PLACE)
    shape = LayerCase(28, 64, 32, 1024)
    there = Selection(Cell(shape, False, 2), ("fastrnn", "torch"))
    partly = Selection(Cell(shape, False, 2), ("fastrnn", "torch", "jax"))
    new = Selection(Cell(shape, True, 2), ("fastrnn", "torch"))
    selections = [there, partly, new]
    left = session.left(selections, again=False, any_commit=False)
    assert left == [Selection(partly.cell, ("fastrnn", "jax")), new]
    assert session.left(selections, again=True, any_commit=False) == selections


def test_the_summary_has_geometric_means(results: Results) -> None:
    text = table.summary_table(results)
    assert "| inference | 2 threads | one direction | **4.00** (2.00 to 8.00; 2) |" in text


def test_the_shapes_stand_in_rows_and_columns(results: Results) -> None:
    row = next(line for line in table.shape_table(results).splitlines() if "H=64" in line)
    one, eight, thirty_two, _ = (part.strip() for part in row.split("|")[3:-1])
    assert one == "**8.00** (8.00 to 8.00; 1)"
    assert eight == ""
    assert thirty_two == "**2.00** (2.00 to 2.00; 1)"


def test_the_limit_stands_beside_the_time(results: Results) -> None:
    text = table.limit_table(results)
    wanted = "| 10 ms | 100 | 50% | 6.5 ms | computing | **1.50** | 12 MB | 12 MB |"
    assert f"| inference, I=28, H=64, B=32, T=1024 {wanted}" in text


def test_what_was_not_run_is_told(results: Results) -> None:
    text = table.where_text(results)
    assert "- OpenVINO, inference, one direction: no memory (1 cells)" in text
    assert "torch 2.13" in text
    assert "at most 2% of the CPUs" in text


def test_the_plot_is_the_same_for_the_same_results(results: Results, tmp_path: Path) -> None:
    assert plot.points(results, "inference", "torch")[1] == [2.0, 8.0]
    assert plot.points(results, "forward+backward", "torch") == ([], [])
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    plot.draw(results, first)
    plot.draw(results, second)
    assert "ONNX Runtime" not in first.read_text()  # nobody measured it
    assert "torch" in first.read_text()
    assert first.read_bytes() == second.read_bytes()


def test_without_results_the_tables_say_so(tmp_path: Path) -> None:
    empty = Results(tmp_path / "none.json")
    texts = [
        make(empty)
        for make in (table.summary_table, table.shape_table, table.limit_table, table.where_text)
    ]
    assert texts == [table.NOTHING] * 4
    plot.draw(empty, tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
