"""Locks between processes that work in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes out of what a lock stands for.

    The system gives the lock back when a process ends, however it does: a killed one holds nobody
    up.

    Parameters
    ----------
    path
        The lock's file; it is made, and stays.
    wait
        Whether to wait for a process that has the lock.

    Yields
    ------
    bool
        Whether the lock is held; without `wait` it may not be.
    """
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
