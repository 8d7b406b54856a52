"""The stage `speed`: cells in the order of their value while time lasts, then kernel names."""

from __future__ import annotations

from .clock import Deadline
from .plan import Cell, Pace, one_of_each_class
from .results import Record
from .run import PROFILE_SECONDS, PROFILE_TIMEOUT, REPORT_SECONDS, Progress, Run
from .supervisor import Job

CELL_TIMEOUT = 120.0
KERNEL_NAME_SECONDS = 30.0
# Torch and `auto`, besides the backends.
MORE_PEERS = 2


def speed(run: Run, planned: list[Cell]) -> tuple[int, int]:
    """Measure what the time allows, then profile one cell of each class.

    Returns how many were measured, and how many there was no time for.
    """
    keep = REPORT_SECONDS + KERNEL_NAME_SECONDS
    keep += PROFILE_SECONDS if "profile" in run.settings.stages else 0.0
    stage = _Speed(run, planned, run.deadline.share(1.0, keep=keep))
    left = stage.measure()
    limit = Deadline.after(min(KERNEL_NAME_SECONDS, run.deadline.left()))
    profile_kernels(run, one_of_each_class(stage.measured), limit, stage.banned)
    return len(stage.measured), left


class _Speed:
    """What is learned while cells are measured: their pace, and who crashes."""

    def __init__(self, run: Run, planned: list[Cell], deadline: Deadline) -> None:
        self.run, self.deadline = run, deadline
        self.cells = {cell.name: cell for cell in planned}
        self.peers = len(run.found.usable(run.settings)) + MORE_PEERS
        self.pace = Pace()
        self.progress = Progress(run, "speed", len(self.cells))
        self.measured: list[Cell] = []
        self.banned: frozenset[str] = frozenset()

    def measure(self) -> int:
        """Measure, and return how many cells there was no time for."""
        backends = list(self.run.settings.backends)
        jobs = [_job(name, "cell", cell, backends) for name, cell in self.cells.items()]
        supervisor = self.run.supervisor(
            "speed", 1, deliver=self._deliver, adapt=self._adapt, retry=without_culprit
        )
        supervisor.run([[job] for job in jobs], self.deadline)
        self.progress.tell()
        return self.run.left_out("speed", supervisor.left_out)

    def _deliver(self, record: Record) -> None:
        self.progress.count(record)
        if "peers" in record:
            cell = self.cells[record["name"]]
            self.pace.learn(cell.seconds(self.peers), record["seconds"])
            self.measured.append(cell)

    def _adapt(self, job: Job, banned: frozenset[str]) -> Job | None:
        self.banned = banned
        expected = self.cells[job.name].seconds(self.peers) * self.pace.factor
        if expected > self.deadline.left():
            return None
        return job.with_params(skip=_given_up(banned) | job.params["skip"])


def without_culprit(job: Job, record: Record) -> Job | None:
    """The same job without the peer that crashed, so that the others are measured."""
    culprit, skip = record.get("subject"), job.params.get("skip")
    if not culprit or skip is None or culprit in skip:
        return None
    crash = {"status": "crashed", "error": f"{record['status']} in {record.get('step', '?')}"}
    return job.with_params(skip={**skip, culprit: crash})


def profile_kernels(
    run: Run, cells: list[Cell], deadline: Deadline, banned: frozenset[str] = frozenset()
) -> None:
    """Name the kernels of cells, on a worker of its own: the profiler slows down what follows."""
    supervisor = run.supervisor("profile", 1, retry=without_culprit)
    supervisor.run([kernel_jobs(run, cells, banned=banned)], deadline)
    run.left_out("speed, kernels", supervisor.left_out)


def kernel_jobs(
    run: Run, cells: list[Cell], *, label: str = "", banned: frozenset[str] = frozenset()
) -> list[Job]:
    """Jobs that take cells apart; without a label they stand for their classes of kernels."""
    backends, skip = list(run.settings.backends), _given_up(banned)
    jobs = []
    for cell in cells:
        name = label + cell.name if label else cell.kernel_class
        job = _job(name, "kernels", cell, backends, PROFILE_TIMEOUT)
        jobs.append(job.with_params(skip=skip))
    return jobs


def _given_up(banned: frozenset[str]) -> dict[str, Record]:
    return {name: {"status": "not run", "reason": "it crashed too often"} for name in banned}


def _job(
    name: str, kind: str, cell: Cell, backends: list[str], timeout: float = CELL_TIMEOUT
) -> Job:
    params = {"cell": cell.as_params(), "backends": backends, "skip": {}}
    return Job(name, kind, params, timeout)
