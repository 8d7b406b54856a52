"""Ctrl-C that stops a training at its next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(Exception):  # noqa: N818 - a signal for the loop, not an error
    """Raised at a safe point after a stop was asked for; never leaves the training layer."""


class StopFlag:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self._asked = False  # no lock around it: a signal handler could wait for itself

    def set(self) -> None:
        """Ask for a stop."""
        self._asked = True

    def clear(self) -> None:
        """Take the request back."""
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def check(self) -> None:
        """Raise `StopRequested` if a stop was asked for."""
        if self:
            raise StopRequested


@contextmanager
def stop_on_interrupt(flag: StopFlag) -> Iterator[None]:
    """Let the first Ctrl-C set `flag`, and the second one raise KeyboardInterrupt at once.

    Outside the main thread, where Python allows no signal handlers, and where SIGINT is ignored
    on purpose (``nohup``), nothing is changed.
    """

    def on_sigint(number: int, frame: FrameType | None) -> None:
        if flag:
            raise KeyboardInterrupt
        flag.set()

    former = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or former in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
