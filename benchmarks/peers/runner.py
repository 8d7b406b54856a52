"""One cell: every library is checked, then they run in turns."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Spread

from .cases import Cell
from .check import what_is_wrong
from .client import PeerError, Threads, WorkerDied, WorkerProcess, python_of
from .registry import BASELINE, OURS, PEERS
from .work import CHECK_STEPS, short

TURN_SECONDS = 0.02
"""A turn is as many calls as fill this; what comes out is the time of one call."""

LONG_SECONDS = 1.0
"""A first call this long is a round already: what a warm-up changes is no longer seen in it."""


@dataclass(frozen=True)
class Budget:
    """How long a cell may take."""

    seconds: float = 3.0
    longest_call: float = 60.0
    min_rounds: int = 3
    max_rounds: int = 40


class Workers:
    """The processes, one for each environment and number of threads, started when needed.

    Parameters
    ----------
    peers
        All that will be asked for: those of one environment live in one process.
    python
        Gives the interpreter of an environment.
    """

    def __init__(self, peers: Collection[str], python: Callable[[str], Path] = python_of) -> None:
        self._peers, self._python = peers, python
        self._running: dict[tuple[str, int], WorkerProcess] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def of(self, peer: str, threads: int) -> WorkerProcess:
        """The process that holds a peer."""
        environment = PEERS[peer].environment
        running = self._running.get((environment, threads))
        if running is None:
            together = [name for name in self._peers if PEERS[name].environment == environment]
            running = WorkerProcess(self._python(environment), together, Threads(threads))
            self._running[environment, threads] = running
            self.versions[environment] = running.ask("describe")["versions"]
        return running

    def drop(self) -> None:
        """Let all processes forget their layers."""
        for running in self._running.values():
            running.ask("drop")

    def close(self) -> None:
        """End all processes."""
        for running in self._running.values():
            running.close()
        self._running.clear()


@dataclass
class Entrant:
    """A peer in a cell: how it goes, or the reason why it doesn't."""

    peer: str
    estimate: float = 0.0
    repeats: int = 1
    rounds: int = 0
    peak_bytes: int = 0
    samples: list[float] = field(default_factory=list)
    outcome: dict[str, Any] | None = None

    @property
    def turn_seconds(self) -> float:
        return self.estimate * self.repeats


class CellRun:
    """Runs one cell; what it finds are the entrants."""

    def __init__(
        self, cell: Cell, peers: tuple[str, ...], workers: Workers, budget: Budget
    ) -> None:
        self.cell, self.workers, self.budget = cell, workers, budget
        self.entrants = {peer: Entrant(peer) for peer in peers}

    def run(self) -> dict[str, Entrant]:
        """Check and time all peers.

        A library that raises is out of this cell. One whose process ends is too, and the others
        begin again, as those of the same process are gone with it.
        """
        while True:
            try:
                self._run()
                return self.entrants
            except _Gone as gone:
                self.workers.close()
                self.entrants = {
                    peer: entrant if entrant.outcome else Entrant(peer)
                    for peer, entrant in self.entrants.items()
                }
                self.entrants[gone.peer].outcome = {"reason": gone.reason}

    def _run(self) -> None:
        self.workers.drop()
        for stage in (self._check, self._warm_up):
            for entrant in self._active():
                self._guard(entrant, stage)
        self._plan_rounds()
        for number in range(max((e.rounds for e in self._active()), default=0)):
            active = [e for e in self._active() if number < e.rounds]
            if not active:  # those who had more rounds have failed
                break
            # Who goes first changes, so that nobody always finds the same one's caches.
            start = number % len(active)
            for entrant in active[start:] + active[:start]:
                if number >= len(entrant.samples):
                    self._guard(entrant, self._turn)
        self.workers.drop()

    def _active(self) -> list[Entrant]:
        return [entrant for entrant in self.entrants.values() if entrant.outcome is None]

    def _guard(self, entrant: Entrant, stage: Callable[[Entrant], None]) -> None:
        try:
            stage(entrant)
        except PeerError as error:
            entrant.outcome = {"reason": str(error)}
        except WorkerDied as death:
            raise _Gone(entrant.peer, str(death)) from None

    def _ask(self, entrant: Entrant, op: str, **fields: Any) -> dict[str, Any]:
        worker = self.workers.of(entrant.peer, self.cell.threads)
        timeout = 120 + 10 * self.budget.longest_call
        return worker.ask(op, peer=entrant.peer, timeout=timeout, **fields)

    def _load(self, entrant: Entrant, case: Any) -> None:
        self._ask(entrant, "load", case=asdict(case), training=self.cell.training)

    def _check(self, entrant: Entrant) -> None:
        if self.cell.training and not PEERS[entrant.peer].trains:
            entrant.outcome = {"reason": "inference only"}
            return
        case = short(self.cell.layer)
        self._load(entrant, case)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.npz"
            seconds = self._ask(entrant, "check", path=str(path))["seconds"]
            with np.load(path) as found:
                wrong = what_is_wrong(case, self.cell.training, dict(found))
        entrant.estimate = seconds * self.cell.layer.seq_len / CHECK_STEPS
        if wrong:
            entrant.outcome = {"error": f"wrong results, so no speed: {wrong}"}
        elif entrant.estimate > self.budget.longest_call:
            entrant.outcome = {
                "reason": f"not run: needs about {entrant.estimate:.0f} s a call",
                "estimate_s": round(entrant.estimate, 1),
            }

    def _warm_up(self, entrant: Entrant) -> None:
        self._load(entrant, self.cell.layer)
        first = self._ask(entrant, "first")
        entrant.peak_bytes = max(0, first["peak_bytes"])
        entrant.estimate = first["seconds"]
        if entrant.estimate >= LONG_SECONDS:
            entrant.samples.append(entrant.estimate)
            return
        again = self._ask(entrant, "time", repeats=1)["seconds"]
        entrant.estimate = min(entrant.estimate, again)
        entrant.repeats = max(1, math.ceil(TURN_SECONDS / max(entrant.estimate, 1e-6)))

    def _plan_rounds(self) -> None:
        """Share the time: fastrnn and torch set the rounds, slow peers take part in the first."""
        budget = self.budget
        pair = [e for e in self._active() if e.peer in (OURS, BASELINE)]
        seconds = sum(entrant.turn_seconds for entrant in pair)
        rounds = int(len(pair) * budget.seconds / seconds) if pair else budget.max_rounds
        rounds = min(max(rounds, budget.min_rounds), budget.max_rounds)
        for entrant in self._active():
            entrant.rounds = rounds
            if entrant not in pair:
                own = int(budget.seconds / entrant.turn_seconds)
                entrant.rounds = min(max(own, 1), rounds)

    def _turn(self, entrant: Entrant) -> None:
        answer = self._ask(entrant, "time", repeats=entrant.repeats)
        entrant.samples.append(answer["seconds"])


class _Gone(Exception):  # noqa: N818
    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(reason)
        self.peer, self.reason = peer, reason


def as_stored(entrants: dict[str, Entrant], cell: Cell) -> dict[str, Any]:
    """What is stored of a cell's peers: times, ratios round by round, memory; or a reason."""
    ours = entrants[OURS].samples if entrants[OURS].outcome is None else []
    return {
        peer: entrant.outcome or _measured(entrant, ours, cell)
        for peer, entrant in entrants.items()
    }


def _measured(entrant: Entrant, ours: list[float], cell: Cell) -> dict[str, Any]:
    ms = Spread.of([seconds * 1e3 for seconds in entrant.samples])
    stored: dict[str, Any] = {
        "ms": ms.as_dict(),
        "rounds": len(entrant.samples),
        "calls_per_turn": entrant.repeats,
        "gflops": round(cell.flops / ms.p50 / 1e6, 1),
        "peak_mb": round(entrant.peak_bytes / 1e6, 1),
    }
    if entrant.peer != OURS and ours:
        pairs = zip(entrant.samples, ours, strict=False)
        stored["ratio"] = Spread.of([theirs / mine for theirs, mine in pairs]).as_dict()
    return stored
