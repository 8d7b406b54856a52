"""The stage `speed`: cells in the order of their value while time lasts, then kernel names."""

from __future__ import annotations

from .clock import Deadline
from .plan import Cell, Pace, all_cells, fitting, one_of_each_class, self_test_cells
from .results import Record
from .run import PROFILE_SECONDS, PROFILE_TIMEOUT, REPORT_SECONDS, Progress, Run
from .supervisor import Job

CELL_TIMEOUT = 120.0
KERNEL_NAME_SECONDS = 30.0
# Torch and `auto`, besides the backends.
MORE_PEERS = 2


def speed(run: Run) -> None:
    """Measure what the time allows, then profile one cell of each class."""
    keep = REPORT_SECONDS + KERNEL_NAME_SECONDS
    keep += PROFILE_SECONDS if "profile" in run.settings.stages else 0.0
    stage = _Speed(run, run.deadline.share(1.0, keep=keep))
    stage.measure()
    limit = Deadline.after(min(KERNEL_NAME_SECONDS, run.deadline.left()))
    profile_kernels(run, one_of_each_class(stage.measured), limit, banned=stage.banned)


class _Speed:
    """What is learned while cells are measured: their pace, and who crashes."""

    def __init__(self, run: Run, deadline: Deadline) -> None:
        self.run, self.deadline = run, deadline
        self.cells = {cell.name: cell for cell in planned_cells(run)}
        self.peers = len(run.found.usable(run.settings)) + MORE_PEERS
        self.pace = Pace()
        self.progress = Progress(run, "speed", len(self.cells))
        self.measured: list[Cell] = []
        self.banned: frozenset[str] = frozenset()

    def measure(self) -> None:
        backends = list(self.run.settings.backends)
        jobs = [_job(name, "cell", cell, backends) for name, cell in self.cells.items()]
        supervisor = self.run.supervisor(
            "speed", 1, deliver=self._deliver, adapt=self._adapt, retry=without_culprit
        )
        supervisor.run([[job] for job in jobs], self.deadline)
        self.progress.tell()
        self.run.left_out("speed", supervisor.left_out)

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


def planned_cells(run: Run) -> list[Cell]:
    """The cells that match the filter and fit; those that do not fit are noted."""
    cells = self_test_cells() if run.settings.self_test else all_cells()
    names = run.settings.chosen([cell.name for cell in cells])
    wanted = [cell for cell in cells if cell.name in names]
    planned = fitting(wanted, run.found.memory)
    too_large = [_job(cell.name, "cell", cell, []) for cell in wanted if cell not in planned]
    run.left_out("speed, too large for the memory", too_large)
    return planned


def without_culprit(job: Job, record: Record) -> Job | None:
    """The same job without the peer that crashed, so that the others are measured."""
    culprit, skip = record.get("subject"), job.params.get("skip")
    if not culprit or skip is None or culprit in skip:
        return None
    crash = {"status": "crashed", "error": f"{record['status']} in {record.get('step', '?')}"}
    return job.with_params(skip={**skip, culprit: crash})


def profile_kernels(
    run: Run,
    cells: list[Cell],
    deadline: Deadline,
    *,
    label: str = "",
    banned: frozenset[str] = frozenset(),
) -> None:
    """Profile cells on a worker of its own: the profiler slows down what comes after it."""
    backends, skip = list(run.settings.backends), _given_up(banned)
    jobs = []
    for cell in cells:
        name = label + cell.name if label else cell.kernel_class
        job = _job(name, "kernels", cell, backends, PROFILE_TIMEOUT)
        jobs.append(job.with_params(skip=skip))
    supervisor = run.supervisor("profile", 1, retry=without_culprit)
    supervisor.run([jobs], deadline)
    run.left_out(f"{label or 'speed, '}kernels", supervisor.left_out)


def _given_up(banned: frozenset[str]) -> dict[str, Record]:
    return {name: {"status": "not run", "reason": "it crashed too often"} for name in banned}


def _job(
    name: str, kind: str, cell: Cell, backends: list[str], timeout: float = CELL_TIMEOUT
) -> Job:
    params = {"cell": cell.as_params(), "backends": backends, "skip": {}}
    return Job(name, kind, params, timeout)
