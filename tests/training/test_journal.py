import json
from pathlib import Path

import pytest

from fastrnn.training.journal import Journal


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_entry_is_a_line_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    for epoch in (1, 2):
        journal.append({"epoch": epoch, "loss": None})
        assert lines(tmp_path / "j.jsonl")[-1] == {"epoch": epoch, "loss": None}
    assert len(lines(tmp_path / "j.jsonl")) == 2


def test_it_starts_from_the_given_entries_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    Journal(path, [{"epoch": 1}]).append({"epoch": 2, "again": True})
    assert lines(path) == [{"epoch": 1}, {"epoch": 2, "again": True}]


def test_without_a_path_nothing_is_written() -> None:
    Journal(None).append({"epoch": 1})


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.append({"loss": float("nan")})
    assert lines(tmp_path / "j.jsonl") == []
