"""The time that is left, of the whole run and of a stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """A moment until which something may run."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Some seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self.at - time.monotonic())

    def share(self, part: float, *, keep: float = 0.0) -> Deadline:
        """An earlier one: a part of the time left, of which some seconds are kept back first."""
        return Deadline.after(max(0.0, self.left() - keep) * part)


@dataclass
class Stopwatch:
    """Seconds since it was made."""

    start: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Rounded, for reports."""
        return round(time.monotonic() - self.start, 2)
