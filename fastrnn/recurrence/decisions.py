"""Where the decisions of `auto` are kept: in memory, in the user's cache, and in the package.

A decision file is JSON, made to be read by people too::

    {
      "schema": 1,
      "decisions": [
        {
          "problem": {
            "device_name": "NVIDIA H200", "compute_capability": "9.0",
            "fastrnn": "0.1.0", "torch": "2.11.0+cu130", "cudnn": "91300", "triton": "3.6.0",
            "baseline": "cudnn",
            "dtype": "float16", "allow_tf32": false,
            "hidden_size": 128, "proj_size": 0, "num_directions": 2,
            "input_size_up_to": 128, "input_alignment": 8,
            "batch_size_up_to": 32, "seq_len_up_to": null,
            "variable_length": true, "training": true, "last_state_only": false
          },
          "winner": "triton",
          "microseconds": {"cudnn": 812.4, "triton": 401.3},
          "ratio": 0.494,
          "dropped": {"cuda": "grad x: error 0.3, allowed 0.001"},
          "date": "2026-11-24"
        }
      ]
    }

``problem`` has the fields of `ProblemClass`, all of them. ``microseconds`` holds the median time of
each backend that was right, ``ratio`` the winner's time over the baseline's, measured in turns,
``dropped`` why the others were not timed. ``shipped_decisions.json``, beside this file, has the
same format; its decisions are used where versions and device agree, like those of the cache.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO, get_args, get_type_hints

try:
    import fcntl
except ImportError:  # not a POSIX system: files are still replaced whole, only not merged safely
    fcntl = None  # type: ignore[assignment]

CACHE_VARIABLE = "FASTRNN_CACHE_DIR"
FILE_NAME = "decisions.json"
SHIPPED_FILE = Path(__file__).with_name("shipped_decisions.json")
SCHEMA = 1

_LOCK_SECONDS = 5.0  # a stopped process must not stop all others


@dataclass(frozen=True, slots=True)
class ProblemClass:
    """The problems that share a decision.

    Attributes
    ----------
    device_name, compute_capability : str
        The GPU.
    fastrnn, torch, cudnn, triton : str
        Versions; "" where something is not there.
    baseline : str
        Name of the backend that the others were held against.
    dtype : str
        Like "float16".
    hidden_size, proj_size, num_directions : int
        H, P and D.
    input_size_up_to, batch_size_up_to : int
        Ends of the range of I and B, powers of two: 128 stands for 65 to 128.
    input_alignment : int
        128, 8 or 1: the largest of them that divides I. Cudnn's kernels differ there.
    seq_len_up_to : int or None
        The same for T; None for all longer sequences, where the time per step is constant.
    allow_tf32, variable_length, training, last_state_only : bool
        As in `Problem`.
    """

    device_name: str
    compute_capability: str
    fastrnn: str
    torch: str
    cudnn: str
    triton: str
    baseline: str
    dtype: str
    allow_tf32: bool
    hidden_size: int
    proj_size: int
    num_directions: int
    input_size_up_to: int
    input_alignment: int
    batch_size_up_to: int
    seq_len_up_to: int | None
    variable_length: bool
    training: bool
    last_state_only: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """Who won, and what is known about the others.

    Attributes
    ----------
    winner : str
        Name of the backend to take.
    microseconds : Mapping[str, float]
        Median time of each backend that was right.
    ratio : float or None
        The winner's time over the baseline's; None if the baseline could not be timed.
    dropped : Mapping[str, str]
        Why a backend was out of the race, by name.
    date : str
        Day of the trial, ``YYYY-MM-DD``.
    """

    winner: str
    microseconds: Mapping[str, float] = field(default_factory=dict)
    ratio: float | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)
    date: str = ""

    def covers(self, name: str) -> bool:
        """Whether a backend took part."""
        return name in self.microseconds or name in self.dropped


Decisions = dict[ProblemClass, Decision]


class Contents(NamedTuple):
    """What a decision file holds, and what is wrong with it."""

    decisions: Decisions
    fault: str | None


def decisions_file() -> Path | None:
    """Path of the user's decisions, or None where there is no home to keep them in.

    They lie in ``$FASTRNN_CACHE_DIR``, else ``$XDG_CACHE_HOME/fastrnn``, else ``~/.cache/fastrnn``.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute() / FILE_NAME
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "fastrnn" / FILE_NAME
    try:
        return Path.home() / ".cache" / "fastrnn" / FILE_NAME
    except RuntimeError:
        return None


def read_decisions(path: Path) -> Contents:
    """Read a decision file; what cannot be read is left out, never an error."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Contents({}, None)
    except (OSError, ValueError, RecursionError) as error:
        return Contents({}, f"it cannot be read ({error})")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return Contents({}, f"it is not of schema {SCHEMA}")
    entries = document.get("decisions")
    if not isinstance(entries, list):
        return Contents({}, "it has no list of decisions")
    decisions: Decisions = {}
    damaged = 0
    for entry in entries:
        try:
            decisions[_class_from(entry["problem"])] = _decision_from(entry)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            damaged += 1
    return Contents(decisions, f"{damaged} damaged entries are left out" if damaged else None)


def decisions_as_text(decisions: Decisions) -> str:
    """Write decisions as a decision file has them."""
    entries = [
        {
            "problem": asdict(problem_class),
            **{f.name: getattr(decision, f.name) for f in fields(decision)},
        }
        for problem_class, decision in decisions.items()
    ]
    return json.dumps({"schema": SCHEMA, "decisions": entries}, indent=2) + "\n"


def merge_decisions(path: Path, new: Decisions) -> None:
    """Add decisions to a file, replacing older ones of the same classes.

    The file is locked, read, merged and replaced whole: several processes may do this at once.

    Raises
    ------
    OSError
        If the file, or the lock beside it, cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f"{path.name}.lock")):
        text = decisions_as_text(read_decisions(path).decisions | new)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


class DecisionStore:
    """Decisions from memory, from the user's file, and from the package, looked up in this order.

    Parameters
    ----------
    file : Path, optional
        The user's file; by default `decisions_file`, asked when it is first needed.
    shipped : Path, optional
        The file that comes with the package.
    """

    def __init__(self, file: Path | None = None, shipped: Path = SHIPPED_FILE) -> None:
        self._given_file = file
        self._shipped_file = shipped
        self._lock = threading.Lock()
        self._memory: Decisions = {}
        self._loaded: Decisions | None = None  # shipped decisions, overlaid by the user's
        self._warned = False

    @property
    def file(self) -> Path | None:
        """Path of the user's file."""
        return self._given_file or decisions_file()

    def lookup(self, problem_class: ProblemClass) -> Decision | None:
        """Find a class's decision; files are read once."""
        found = self._memory.get(problem_class)
        return found or self._files().get(problem_class)

    def refresh(self) -> None:
        """Read the files again at the next lookup: another process may have decided."""
        self._loaded = None

    def similar(self, problem_class: ProblemClass, *ignored: str) -> list[Decision]:
        """Find the decisions of all classes that differ in the ignored fields at most."""
        names = [f.name for f in fields(ProblemClass) if f.name not in ignored]
        wanted = attrgetter(*names)
        return [
            decision
            for other, decision in (self._files() | self._memory).items()
            if wanted(other) == wanted(problem_class)
        ]

    def add(self, problem_class: ProblemClass, decision: Decision, *, lasting: bool = True) -> None:
        """Remember a decision, on disk too if it is to last; warns once if that cannot be done."""
        with self._lock:
            # A new dict: other threads may be reading the old one.
            self._memory = {**self._memory, problem_class: decision}
            path = self.file
            if not lasting or path is None:
                return
            try:
                merge_decisions(path, {problem_class: decision})
            except OSError as error:
                warn, self._warned = not self._warned, True
                if warn:
                    warnings.warn(
                        f"the decisions of auto cannot be written to {path} ({error}) and last as "
                        f"long as this process; set {CACHE_VARIABLE} to a folder that can be "
                        "written",
                        RuntimeWarning,
                        stacklevel=2,
                    )

    def _files(self) -> Decisions:
        loaded = self._loaded
        if loaded is None:
            path = self.file
            users = {} if path is None else read_decisions(path).decisions
            self._loaded = loaded = read_decisions(self._shipped_file).decisions | users
        return loaded


_CLASS_TYPES = {
    name: get_args(hint) or (hint,) for name, hint in get_type_hints(ProblemClass).items()
}


def _class_from(entry: Any) -> ProblemClass:
    if set(entry) != set(_CLASS_TYPES):
        raise ValueError("other fields than those of a problem class")
    for name, types in _CLASS_TYPES.items():
        if type(entry[name]) not in types:
            raise ValueError(f"{name} is {entry[name]!r}")
    return ProblemClass(**entry)


def _decision_from(entry: Any) -> Decision:
    ratio, microseconds, dropped = entry["ratio"], entry["microseconds"], entry["dropped"]
    texts = [entry["winner"], entry["date"], *microseconds, *dropped, *dropped.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name, a date or a reason is no text")
    return Decision(
        winner=entry["winner"],
        microseconds={name: float(value) for name, value in microseconds.items()},
        ratio=None if ratio is None else float(ratio),
        dropped=dict(dropped),
        date=entry["date"],
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        if fcntl is not None:
            _wait_for_lock(file)
        try:
            yield
        finally:
            _unlock(file)


@contextmanager
def alone(name: str, file: Path | None) -> Iterator[bool]:
    """Try to be the only process that does something; yields whether it is.

    Parameters
    ----------
    name : str
        What is done. A file of that name, beside ``file``, is locked.
    file : Path or None
        Without one, or where the lock cannot be made, nobody else is looked for.
    """
    path = None if file is None else file.with_name(f"{re.sub('[^A-Za-z0-9-]+', '-', name)}.lock")
    with ExitStack() as stack:
        free = True
        try:
            if path is not None and fcntl is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                opened = stack.enter_context(path.open("a"))
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stack.callback(_unlock, opened)
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free


def _unlock(file: TextIO) -> None:
    # Closing would not do: a process forked meanwhile has the file open too.
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)


def _wait_for_lock(file: TextIO) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
