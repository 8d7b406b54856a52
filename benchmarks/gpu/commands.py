"""Runs foreign programs with a time limit, and ends all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TOOL_SECONDS = 20.0


def bounded(
    command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path, timeout: float
) -> int | None:
    """Run a command, its output into a file; returns its exit code, None if the time was over.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(max(timeout, 0.1))
        except subprocess.TimeoutExpired:
            return None
        finally:  # compilers and profiled programs too, should it be stopped half-way
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
