"""Runs foreign programs with a time limit, and ends all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .clock import Deadline

TOOL_SECONDS = 20.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Program:
    """A command, where its output goes, and how long it may take."""

    name: str
    command: Sequence[str]
    log: Path
    timeout: float


def bounded(
    command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path, timeout: float
) -> int | None:
    """Run a command, its output into a file; returns its exit code, None if the time was over.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    process = _started(Program("", command, log, timeout), env, folder)
    try:
        return process.wait(max(timeout, 0.1))
    except subprocess.TimeoutExpired:
        return None
    finally:  # compilers and profiled programs too, should it be stopped half-way
        _end(process)


def side_by_side(
    programs: Iterable[Program],
    *,
    env: Mapping[str, str],
    folder: Path,
    workers: int,
    deadline: Deadline,
) -> Iterator[tuple[Program, int | None]]:
    """Run programs, some at once, each as it ends with its exit code: None if its time was over.

    Those that the deadline left no time to start do not come.
    """
    waiting = deque(programs)
    running: dict[str, tuple[Program, subprocess.Popen[bytes], Deadline]] = {}
    try:
        while running or (waiting and deadline.left()):
            while waiting and len(running) < workers and deadline.left():
                program = waiting.popleft()
                limit = Deadline.after(min(program.timeout, deadline.left()))
                running[program.name] = (program, _started(program, env, folder), limit)
            for program, process, limit in list(running.values()):
                code = process.poll()
                if code is None and limit.left():
                    continue
                _end(process)
                del running[program.name]
                yield program, code
            time.sleep(POLL_SECONDS)
    finally:
        for _, process, _ in running.values():
            _end(process)


def _started(program: Program, env: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with program.log.open("wb") as stream:
        return subprocess.Popen(
            program.command,
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_of(command: Sequence[str], text: str = "") -> str:
    """What a short command prints, given some text; empty if it fails or is not there."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
