"""Processes that run a command once more, beside the one that starts them, and end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastrnn.training import Callback, StepInfo

_VARIABLE = "FASTRNN_TUNE_WORKER"  # set in the processes that are started
_PATIENCE = 60.0  # seconds to finish a step and write a checkpoint

Worker = subprocess.Popen[bytes]


def is_worker() -> bool:
    """Whether this process was started by another one's `workers`."""
    return _VARIABLE in os.environ


@contextmanager
def workers(count: int, words: Sequence[str]) -> Iterator[list[Worker]]:
    """Run a command in other processes, which have ended when the block has, however it ends.

    Parameters
    ----------
    count
        How many.
    words
        Those of the command, after ``fastrnn``.

    Yields
    ------
    list of subprocess.Popen
        The processes; what they say as errors goes where this process's does.
    """
    started: list[Worker] = []
    try:
        while len(started) < count:
            started.append(_start(words))
        yield started
    finally:
        for worker in started:
            if worker.stdin is not None:
                worker.stdin.close()  # see `StopWithParent`
        for worker in started:
            _end(worker)


def _start(words: Sequence[str]) -> Worker:
    return subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *words],
        env={**os.environ, _VARIABLE: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )


def _end(worker: Worker) -> None:
    try:
        worker.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also if Ctrl-C is pressed once more
        worker.kill()
        worker.wait()


class StopWithParent(Callback):
    """Stops the trainings of a worker when the process that started it stops or is gone.

    A worker's standard input comes from that process, and ends with it.
    """

    def __init__(self) -> None:
        self._gone = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        os.read(0, 1)  # not through sys.stdin, whose lock would be held when Python ends
        self._gone.set()

    def on_step(self, info: StepInfo) -> bool:
        """Stop as by Ctrl-C."""
        return self._gone.is_set()
