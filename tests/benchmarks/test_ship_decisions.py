"""What ships with the package is what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import ship_decisions
from benchmarks.ship_decisions import measured
from fastrnn import __version__
from fastrnn.recurrence.decisions import (
    SHIPPED_FILE,
    Decision,
    ProblemClass,
    decisions_as_text,
    merge_decisions,
)

CLASS = ProblemClass(
    "A GPU", "9.0", __version__, "2.13.0", "", "3.7.1", "cudnn", "float16", False, 64, 0, 1, 128, 1,
    32, None, False, True, False,
)  # fmt: skip


def test_the_shipped_decisions_are_those_of_the_stored_results() -> None:
    assert SHIPPED_FILE.read_text(encoding="utf-8") == decisions_as_text(measured())


def test_later_decisions_of_this_version_are_collected(tmp_path: Path) -> None:
    old, new = Decision("cudnn", date="2026-01-01"), Decision("triton", date="2026-02-01")
    merge_decisions(tmp_path / "gpu_a_decisions.json", {CLASS: new})
    merge_decisions(
        tmp_path / "gpu_b_decisions.json", {CLASS: old, replace(CLASS, fastrnn="0.0.1"): new}
    )
    assert measured(tmp_path) == {CLASS: new}


def test_a_damaged_result_is_not_shipped(tmp_path: Path) -> None:
    (tmp_path / "gpu_a_decisions.json").write_text("{")
    with pytest.raises(ValueError, match="gpu_a_decisions"):
        measured(tmp_path)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of the package's, which results would change."""
    merge_decisions(tmp_path / "gpu_a_decisions.json", {CLASS: Decision("triton")})
    path = tmp_path / "shipped.json"
    path.write_text("before")
    monkeypatch.setattr(ship_decisions, "RESULTS", tmp_path)
    monkeypatch.setattr(ship_decisions, "SHIPPED_FILE", path)
    return path


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--chekc", 2), ("check", 2)])
def test_only_the_command_itself_writes(shipped: Path, option: str, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        ship_decisions.main([option])
    assert ended.value.code == code
    assert shipped.read_text() == "before"


def test_a_check_says_whether_the_file_would_change(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship_decisions.main(["--check"]) == 1
    assert "shipped_decisions.json" in capsys.readouterr().err
    assert shipped.read_text() == "before"
    assert ship_decisions.main([]) == 0
    assert '"winner": "triton"' in shipped.read_text()
    assert ship_decisions.main(["--check"]) == 0
