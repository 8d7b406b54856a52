"""One run: its clock, its stream of records, and the workers that its stages start."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TextIO

from .clock import Deadline, Stopwatch
from .results import Record, failed
from .settings import ROOT, Found, Settings
from .supervisor import Job, Launch, Supervisor

PROGRESS_SECONDS = 20.0
ALONE_SECONDS = 120.0
PROFILE_TIMEOUT = 60.0
# What is kept for the stages that come last.
PROFILE_SECONDS, REPORT_SECONDS = 90.0, 4.0


class Named(Protocol):
    """A job, a cell: what has a name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


class Run:
    """Everything that the stages share.

    Parameters
    ----------
    settings : Settings
        What was asked for.
    show : callable
        Prints a line for whoever watches.
    """

    def __init__(self, settings: Settings, show: Callable[[str], None]) -> None:
        self.settings = settings
        self.show = show
        self.deadline = Deadline.after(settings.minutes * 60)
        self.found = Found()
        self.stage = ""
        self.records: list[Record] = []
        # Hundreds of files, which are nothing to take home with the results.
        self._scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._lock = threading.Lock()
        self._lines = _fresh_stream(settings)
        self.add({"kind": "options", "name": "options", "options": settings.options})

    def add(self, record: Record) -> None:
        """Keep a record, on disk at once."""
        with self._lock:
            self.records.append(record)
            self._lines.write(json.dumps(record) + "\n")
            self._lines.flush()

    def supervisor(self, stage: str, threads: int, **hooks: Any) -> Supervisor:
        """A supervisor whose workers belong to a stage; `deliver` sees records besides `add`."""
        s = self.settings
        deliver = hooks.pop("deliver", None)
        worker = [sys.executable, "-m", "benchmarks.gpu.worker"]
        launch = Launch(
            [*worker, s.device, s.plugin, str(threads)],
            self.launch_env(stage),
            ROOT,
            s.workers_log,
        )

        def take(record: Record) -> None:
            self.add(record)
            if deliver is not None:
                deliver(record)

        return Supervisor(launch, take, **hooks)

    def launch_env(self, stage: str) -> dict[str, str]:
        """Environment of a stage's processes."""
        return self.settings.launch_env(stage, self.scratch)

    @property
    def scratch(self) -> Path:
        """Folder for what nobody needs after the run."""
        return Path(self._scratch.name)

    def alone(self, jobs: list[Job], seconds: float = ALONE_SECONDS) -> list[Record]:
        """Do a few jobs on one worker, one after the other, in some seconds at most."""
        records: list[Record] = []
        supervisor = self.supervisor("env", os.cpu_count() or 1, deliver=records.append)
        supervisor.run([jobs], Deadline.after(min(seconds, self.deadline.left())))
        return records

    def left_out(self, stage: str, left: Iterable[Named]) -> int:
        """Note what there was no time for, or no room; returns how much."""
        names = [one.name for one in left]
        if names:
            record = {"kind": "left out", "name": stage, "count": len(names), "first": names[:20]}
            self.add(record)
        return len(names)

    def close(self) -> None:
        """End the stream, and delete the caches."""
        self._scratch.cleanup()
        self._lines.close()


class Progress:
    """A line every while: how many are done, how they ended, how much time is left."""

    def __init__(self, run: Run, label: str, total: int) -> None:
        self._run, self._label, self._total = run, label, total
        self._statuses: Counter[str] = Counter()
        self._names: set[str] = set()  # one that crashed may come again
        self._next = PROGRESS_SECONDS
        self._watch = Stopwatch()

    def count(self, record: Record) -> None:
        """Count one, and say so if it is time; the first failure of a kind is shown at once."""
        status = str(record.get("status", "ok"))
        if failed(record) and not self._statuses[status]:
            texts = record.get("errors") or record.get("warnings") or [record.get("error", "")]
            self._run.show(f"  {status}: {record['name']}: {str(texts[0])[:200]}")
        self._statuses[status] += 1
        self._names.add(record["name"])
        if self._watch.seconds() >= self._next:
            self._next = self._watch.seconds() + PROGRESS_SECONDS
            self.tell()

    def tell(self) -> None:
        """Say how far it is."""
        done = len(self._names)
        counts = ", ".join(f"{count} {status}" for status, count in self._statuses.most_common())
        self._run.show(
            f"{self._label}: {done} of {self._total} ({counts}); "
            f"{self._run.deadline.left():.0f} s left"
        )


def _fresh_stream(settings: Settings) -> TextIO:
    """Start a new stream; the last run's is kept beside it."""
    settings.work.mkdir(parents=True, exist_ok=True)
    if settings.output == Settings().output:  # in the checkout: not for git
        (settings.work / ".gitignore").write_text("*\n")
    shutil.rmtree(settings.decisions, ignore_errors=True)  # those of another run
    if settings.lines.exists():
        settings.lines.replace(settings.lines.with_name("lines_before.jsonl"))
    settings.workers_log.unlink(missing_ok=True)
    return settings.lines.open("w")
