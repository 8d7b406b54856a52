"""Runs a foreign program with a time limit, and ends all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


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
