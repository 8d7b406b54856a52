"""Runs jobs in worker processes that may crash or hang: one worker per thread, a job at a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .clock import Deadline, Stopwatch

Record = dict[str, Any]

START_SECONDS = 120.0
STDERR_TAIL = 1500
STARTING = "start of the worker"
CRASH_LINES = 12
KILL_SECONDS = 15.0
MAX_FAILED_STARTS = 2


@dataclass(frozen=True)
class Job:
    """One thing to do, by name, and how long it may take."""

    name: str
    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    timeout: float = 60.0

    def with_params(self, **params: Any) -> Job:
        """The same job with other parameters."""
        return replace(self, params={**self.params, **params})


@dataclass(frozen=True)
class Launch:
    """How a worker is started: a command, to which the number of a pipe is appended."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path | None = None


class WorkerDiedError(Exception):
    """A worker ended, or was ended, before it answered."""


class Worker:
    """One process: jobs go in through its standard input, records come back through a pipe."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._buffer = b""
        self.at: Record = {}
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115
        self._pipe, theirs = os.pipe()
        self._process = subprocess.Popen(
            [*launch.command, str(theirs)],
            env=dict(launch.env),
            cwd=launch.folder,
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=self._printed,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)

    def wait_until_ready(self, deadline: Deadline) -> None:
        """Wait for its imports.

        Raises
        ------
        WorkerDiedError, TimeoutError
            If it never got there.
        """
        while self._read(deadline).get("event") != "ready":
            pass

    def run(self, job: Job, deadline: Deadline) -> Record:
        """Have a job done.

        Raises
        ------
        WorkerDiedError, TimeoutError
            If there is no answer; `at` then says what it was doing.
        """
        self.at = {}
        line = json.dumps({"name": job.name, "kind": job.kind, "params": job.params})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerDiedError from error
        while True:
            message = self._read(deadline)
            if message.pop("event") == "end":
                return message
            self.at = message

    def stop(self, *, patience: float = 0.0) -> tuple[int | None, str]:
        """End it and all it started; returns its exit code (None if killed) and what it printed."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        code = self._process.poll()
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a hung driver may not let it go
            self._process.wait(KILL_SECONDS)
        os.close(self._pipe)
        self._printed.seek(0)
        text = self._printed.read().decode(errors="replace")
        self._printed.close()
        if self._launch.log is not None and text:
            with self._launch.log.open("a") as log:
                log.write(f"--- worker {self._process.pid}, exit code {code}\n{text}\n")
        return code, text

    def kill(self) -> None:
        """End it and all it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, deadline: Deadline) -> Record:
        while b"\n" not in self._buffer:
            # Polled, because a grandchild may hold the pipe open after the worker's death.
            dead = self._process.poll() is not None
            if select.select([self._pipe], [], [], 0.0 if dead else min(0.2, deadline.left()))[0]:
                if not (data := os.read(self._pipe, 65536)):
                    raise WorkerDiedError
                self._buffer += data
            elif dead:
                raise WorkerDiedError
            elif deadline.left() == 0.0:
                raise TimeoutError
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: Record = json.loads(line)
        return message


Adapt = Callable[[Job, frozenset[str]], Job | None]
Retry = Callable[[Job, Record], Job | None]


def _keep(job: Job, banned: frozenset[str]) -> Job | None:
    return None if job.params.get("backend") in banned else job


def _never(job: Job, record: Record) -> Job | None:
    return None


class Supervisor:
    """Takes bundles of jobs from a queue; each bundle stays on one worker.

    Parameters
    ----------
    launch : Launch
        How to start a worker.
    deliver : callable
        Gets each record as it comes; never two at once.
    adapt : callable, optional
        Last change of a job, given the subjects that crashed too often; None leaves it out.
    retry : callable, optional
        What to do in the place of a job that crashed.
    max_crashes : int, default 3
        After so many crashes a subject is given up: each costs the start of a worker.
    """

    def __init__(
        self,
        launch: Launch,
        deliver: Callable[[Record], None],
        *,
        adapt: Adapt = _keep,
        retry: Retry = _never,
        max_crashes: int = 3,
    ) -> None:
        self._launch = launch
        self._deliver = deliver
        self._adapt = adapt
        self._retry = retry
        self._max_crashes = max_crashes
        self._lock = threading.Lock()
        self._crashes: Counter[str] = Counter()
        self._failed_starts = 0
        self._starts_to_try = MAX_FAILED_STARTS
        self._has_started = False
        self._queue: deque[list[Job]] = deque()
        self._workers: set[Worker] = set()
        self._aborted = False
        self._error: BaseException | None = None
        self.left_out: list[Job] = []

    def run(self, bundles: Iterable[list[Job]], deadline: Deadline, workers: int = 1) -> None:
        """Do all jobs, or those that the deadline leaves time for; `left_out` has the others.

        What `deliver` raises ends all work, and is raised here.
        """
        self._queue.extend(bundles)
        count = max(1, min(workers, len(self._queue)))
        # Each worker may fail once while the others are still on their way.
        self._starts_to_try = max(MAX_FAILED_STARTS, count)
        # Events, because an exception in `Thread.join` takes a running thread for ended.
        ended = [threading.Event() for _ in range(count)]
        for event in ended:
            threading.Thread(target=self._serve, args=(deadline, event)).start()
        try:
            for event in ended:
                event.wait()
        except BaseException:  # a signal: no process may outlive this one
            self._abort()
            for event in ended:
                event.wait(KILL_SECONDS)
            raise
        for worker in list(self._workers):  # of a thread that an exception ended
            self._forget(worker, patience=0.0)
        self.left_out += [job for bundle in self._queue for job in bundle]
        if self._error is not None:
            raise self._error

    def _abort(self) -> None:
        self._aborted = True
        for worker in list(self._workers):
            worker.kill()

    @property
    def banned(self) -> frozenset[str]:
        """Subjects that crashed too often to be tried again."""
        counts = self._crashes.items()
        return frozenset(name for name, count in counts if count >= self._max_crashes)

    def _serve(self, deadline: Deadline, ended: threading.Event) -> None:
        worker: Worker | None = None
        jobs: deque[Job] = deque()
        try:
            while bundle := self._next_bundle():
                jobs = deque(bundle)
                worker = self._serve_bundle(worker, jobs, deadline)
        except BaseException as error:  # nobody sees what ends a thread
            with self._lock:
                self._error = self._error or error
                self.left_out += jobs
            self._abort()
        finally:
            if worker is not None and worker in self._workers:
                self._forget(worker, patience=5.0)
            ended.set()

    def _serve_bundle(
        self, worker: Worker | None, jobs: deque[Job], deadline: Deadline
    ) -> Worker | None:
        """Do the jobs; each stays in `jobs` until its record is delivered."""
        while jobs:
            again = None
            job = self._adapted(jobs[0], deadline)
            if job is not None:
                worker, record = self._do(worker, job, deadline)
                with self._lock:
                    self._deliver(record)
                if record["status"] in ("crashed", "timeout"):
                    again = self._retry(job, record)
            jobs.popleft()
            if again is not None:
                jobs.appendleft(again)
        return worker

    def _next_bundle(self) -> list[Job] | None:
        with self._lock:
            return self._queue.popleft() if self._queue else None

    def _adapted(self, job: Job, deadline: Deadline) -> Job | None:
        with self._lock:
            given_up = not self._has_started and self._failed_starts >= self._starts_to_try
            adapted = self._adapt(job, self.banned)
            if adapted is None or given_up or self._aborted or deadline.left() == 0.0:
                self.left_out.append(job)
                return None
            return adapted

    def _do(
        self, worker: Worker | None, job: Job, deadline: Deadline
    ) -> tuple[Worker | None, Record]:
        """Have a job done by a worker, or by a new one; returns the worker if it lives on."""
        watch = Stopwatch()
        record: Record = {"name": job.name, "kind": job.kind, "params": job.params}
        at = {"step": STARTING}
        try:
            if worker is None:
                worker = Worker(self._launch)
                self._workers.add(worker)
                limit = min(START_SECONDS, deadline.left())
                worker.wait_until_ready(Deadline.after(limit))
                self._has_started = True
                watch = Stopwatch()
            at = {}
            limit = min(job.timeout, deadline.left())
            record |= worker.run(job, Deadline.after(limit))
        except (WorkerDiedError, TimeoutError, OSError) as error:
            at |= worker.at if worker is not None else {}
            how = self._end(worker, error, over=deadline.left() == 0.0)
            self._count(at, how)
            return None, {**record, **at, **how, "seconds": watch.seconds()}
        record.setdefault("seconds", watch.seconds())
        if record.pop("fatal", False):
            self._forget(worker, patience=5.0)
            self._count(record, record)
            return None, record
        return worker, record

    def _end(self, worker: Worker | None, error: Exception, *, over: bool) -> Record:
        """What became of a job whose worker did not answer."""
        if worker is None:
            return {"status": "error", "error": f"no worker could be started: {error}"}
        died = isinstance(error, WorkerDiedError)
        # A dying process needs a moment until its exit code and last words are there.
        code, text = self._forget(worker, patience=2.0 if died else 0.0)
        if self._aborted or (over and not died):
            return {"status": "not finished", "error": "the time was over"}
        tail = _last_words(text)
        if died:
            return {"status": "crashed", "error": f"{_ending(code)}{_telling(tail)}", "tail": tail}
        return {"status": "timeout", "error": f"no answer{_telling(tail)}", "tail": tail}

    def _forget(self, worker: Worker, *, patience: float) -> tuple[int | None, str]:
        self._workers.discard(worker)
        return worker.stop(patience=patience)

    def _count(self, at: Record, how: Record) -> None:
        """Remember a crash and whose it was."""
        if how["status"] != "not finished":
            with self._lock:
                self._failed_starts += at.get("step") == STARTING
                if subject := at.get("subject"):
                    self._crashes[subject] += 1


def _last_words(text: str) -> str:
    """The end of what a process printed; of a crash that Python reports, what was around it."""
    start = text.rfind("Fatal Python error")
    if start < 0:
        return text[-STDERR_TAIL:]
    # Before it stands what a library said; after it a stack, and a long list of modules.
    before, after = text[:start][-STDERR_TAIL // 2 :], text[start:].splitlines()
    return before + "\n".join(after[:CRASH_LINES])


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _telling(tail: str) -> str:
    """The line of a process's last words that says most."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    words = ("error", "fatal", "abort", "assert", "illegal", "fault")
    wrong = [line for line in lines if any(word in line.lower() for word in words)]
    # Of an exception the last line tells, of a list of threads the first.
    chosen = wrong[-1:] if wrong and wrong[-1] == lines[-1] else wrong[:1] or lines[-1:]
    return f": {chosen[0][:300]}" if chosen else ""
