"""Where decisions are kept: the order of places, damage, and several writers at once."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fastrnn.recurrence import decisions
from fastrnn.recurrence.decisions import (
    SHIPPED_FILE,
    Decision,
    DecisionStore,
    ProblemClass,
    alone,
    decisions_file,
    merge_decisions,
    read_decisions,
)

CLASS = ProblemClass(
    device_name="NVIDIA H200",
    compute_capability="9.0",
    fastrnn="0.1.0",
    torch="2.11.0+cu130",
    cudnn="91300",
    triton="3.6.0",
    baseline="cudnn",
    dtype="float16",
    allow_tf32=False,
    hidden_size=128,
    proj_size=0,
    num_directions=2,
    input_size_up_to=128,
    input_alignment=8,
    batch_size_up_to=32,
    seq_len_up_to=None,
    variable_length=True,
    training=True,
    last_state_only=False,
)
OTHER = replace(CLASS, hidden_size=64, seq_len_up_to=256)
DECISION = Decision(
    winner="triton",
    microseconds={"cudnn": 812.4, "triton": 401.3},
    ratio=0.494,
    dropped={"cuda": "grad x is wrong: largest error nan of its values, allowed 0.06"},
    date="2026-11-24",
)
LOSS = Decision(winner="cudnn")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "decisions.json"


def test_what_is_written_is_read_by_the_next_process(file: Path) -> None:
    DecisionStore(file).add(CLASS, DECISION)
    DecisionStore(file).add(OTHER, LOSS)
    assert read_decisions(file) == ({CLASS: DECISION, OTHER: LOSS}, None)
    assert DecisionStore(file).lookup(CLASS) == DECISION
    assert DecisionStore(file).lookup(replace(CLASS, torch="2.12.0")) is None
    entry = json.loads(file.read_text())["decisions"][0]
    assert entry["problem"] == asdict(CLASS)
    assert entry["microseconds"] == {"cudnn": 812.4, "triton": 401.3}


def test_a_newer_decision_replaces_the_older(file: Path) -> None:
    DecisionStore(file).add(CLASS, LOSS)
    store = DecisionStore(file)
    store.add(CLASS, DECISION)
    assert store.lookup(CLASS) == DECISION
    assert read_decisions(file).decisions == {CLASS: DECISION}


def test_memory_comes_before_the_users_file_and_that_before_the_shipped(
    file: Path, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped.json"
    merge_decisions(shipped, {CLASS: replace(LOSS, date="shipped"), OTHER: DECISION})
    store = DecisionStore(file, shipped)
    assert store.lookup(CLASS) == replace(LOSS, date="shipped")
    merge_decisions(file, {CLASS: replace(LOSS, date="user")})
    store.refresh()
    assert store.lookup(CLASS) == replace(LOSS, date="user")
    assert store.lookup(OTHER) == DECISION
    store.add(CLASS, replace(LOSS, date="memory"), lasting=False)
    assert store.lookup(CLASS) == replace(LOSS, date="memory")
    assert read_decisions(file).decisions == {CLASS: replace(LOSS, date="user")}


def test_similar_classes_are_found_whatever_the_ignored_fields(file: Path) -> None:
    store = DecisionStore(file)
    store.add(CLASS, DECISION)
    store.add(replace(CLASS, seq_len_up_to=64), LOSS, lasting=False)
    store.add(OTHER, replace(LOSS, date="other"))
    assert store.similar(CLASS, "seq_len_up_to") == [DECISION, LOSS]
    assert store.similar(CLASS, "baseline") == [DECISION]


def test_the_package_ships_a_readable_file() -> None:
    assert SHIPPED_FILE.is_file()
    assert read_decisions(SHIPPED_FILE).fault is None


def test_the_file_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTRNN_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert decisions_file() == tmp_path / "home" / ".cache" / "fastrnn" / "decisions.json"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert decisions_file() == tmp_path / "xdg" / "fastrnn" / "decisions.json"
    monkeypatch.setenv("FASTRNN_CACHE_DIR", str(tmp_path / "own"))
    assert decisions_file() == tmp_path / "own" / "decisions.json"


def test_without_a_home_decisions_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "decisions_file", lambda: None)
    store = DecisionStore()
    store.add(CLASS, DECISION)
    assert store.lookup(CLASS) == DECISION


# Damage.


def damaged(change: Callable[[dict], object]) -> str:
    entry = {
        "problem": asdict(CLASS),
        "winner": "triton",
        "microseconds": {},
        "ratio": None,
        "dropped": {},
        "date": "",
    }
    change(entry)
    return json.dumps({"schema": 1, "decisions": [entry]})


DAMAGE = {
    "empty": "",
    "truncated": damaged(lambda entry: None)[:-40],
    "no JSON": "these are words",
    "no text": b"\xff\xfe\x00\x80",
    "too deep": "[" * 100_000,
    "a list": "[]",
    "another schema": '{"schema": 2, "decisions": []}',
    "no schema": '{"decisions": []}',
    "no list": '{"schema": 1, "decisions": {"winner": "triton"}}',
    "no entries": '{"schema": 1, "decisions": [1, null, "x", [], {}]}',
    "a field too few": damaged(lambda entry: entry["problem"].pop("dtype")),
    "a field too many": damaged(lambda entry: entry["problem"].update(color="red")),
    "a field of another type": damaged(lambda entry: entry["problem"].update(hidden_size="128")),
    "a bool for a number": damaged(lambda entry: entry["problem"].update(hidden_size=True)),
    "no winner": damaged(lambda entry: entry.pop("winner")),
    "a winner of another type": damaged(lambda entry: entry.update(winner=3)),
    "times of another type": damaged(lambda entry: entry.update(microseconds=[1, 2])),
    "a time without end": damaged(lambda entry: entry.update(microseconds={"a": 10**400})),
    "reasons of another type": damaged(lambda entry: entry.update(dropped={"cuda": 1})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored_and_replaced(file: Path, damage: str) -> None:
    content = DAMAGE[damage]
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_decisions(file)
    assert read.decisions == {}
    assert read.fault is not None
    store = DecisionStore(file)
    assert store.lookup(CLASS) is None
    store.add(OTHER, DECISION)
    assert read_decisions(file) == ({OTHER: DECISION}, None)


def test_one_damaged_entry_costs_only_itself(file: Path) -> None:
    merge_decisions(file, {CLASS: DECISION, OTHER: LOSS})
    document = json.loads(file.read_text())
    del document["decisions"][1]["winner"]
    file.write_text(json.dumps(document))
    assert read_decisions(file) == ({CLASS: DECISION}, "1 damaged entries are left out")


def test_a_file_that_cannot_be_written_is_a_warning_once(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = DecisionStore(blocked / "decisions.json")
    with pytest.warns(RuntimeWarning, match="cannot be written to .*set FASTRNN_CACHE_DIR"):
        store.add(CLASS, DECISION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.add(OTHER, LOSS)
    assert store.lookup(CLASS) == DECISION
    assert store.lookup(OTHER) == LOSS


def test_a_folder_in_the_files_place_leaves_nothing_behind(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        DecisionStore(file).add(CLASS, DECISION)
    assert {path.name for path in file.parent.iterdir()} == {file.name, f"{file.name}.lock"}


def test_a_lock_that_nobody_gives_back_is_not_waited_for_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "_LOCK_SECONDS", 0.05)
    file.parent.mkdir()
    with (file.parent / f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            DecisionStore(file).add(CLASS, DECISION)
    assert not file.exists()


# Several writers.

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from fastrnn.recurrence.decisions import DecisionStore, Decision
sys.path.insert(0, sys.argv[1])
from test_decisions import CLASS
store, first = DecisionStore(Path(sys.argv[2])), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 40):
    store.add(replace(CLASS, hidden_size=number), Decision("triton"))
"""


def test_two_processes_lose_nothing(file: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(file), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for first in (100, 200)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:  # both are there: now they race
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    sizes = {problem_class.hidden_size for problem_class in read_decisions(file).decisions}
    assert sizes == {*range(100, 140), *range(200, 240)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_forked_meanwhile_keeps_no_lock(file: Path) -> None:
    reading, writing = os.pipe()
    with alone("something", file) as free:
        assert free
        child = os.fork()
        if child == 0:
            os.read(reading, 1)  # lives until the end of the test
            os._exit(0)
    with alone("something", file) as free:
        assert free
    os.write(writing, b".")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)


def test_several_threads_lose_nothing(file: Path) -> None:
    store = DecisionStore(file)

    def write(first: int) -> None:
        for number in range(first, first + 10):
            store.add(replace(CLASS, hidden_size=number), DECISION)
            store.similar(CLASS, "hidden_size")

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_decisions(file).decisions) == 30
    assert len(store.similar(CLASS, "hidden_size")) == 30
