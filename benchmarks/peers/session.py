"""A run over many cells: what is left to do, and what is stored of each."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.results_file import ROOT

from .cases import Cell, Selection
from .client import Threads, python_of
from .limits import best_sgemm, limit
from .registry import OURS, PEERS
from .results import Results, here
from .runner import Budget, CellRun, Workers, as_stored


class Session:
    """Measures cells and stores each at once, so that a later session can go on from there."""

    def __init__(
        self,
        results: Results,
        budget: Budget,
        isa: str,
        start: Callable[[Collection[str]], Workers] = Workers,
    ) -> None:
        self.results, self.budget = results, budget
        self.place = here(isa)
        self.start = start
        self.workers = start(())

    def left(
        self, selections: list[Selection], *, again: bool, any_commit: bool
    ) -> list[Selection]:
        """The cells that are not stored yet, each with the peers that it lacks.

        Parameters
        ----------
        again : bool
            Count nothing as stored.
        any_commit : bool
            Count what was stored at other commits, but on this machine.
        """
        if again:
            return selections
        left = []
        for selection in selections:
            lacking = self.results.missing(
                selection.cell.name, selection.peers, self.place, any_commit=any_commit
            )
            if lacking:
                # Ratios are taken round by round, so fastrnn runs beside whoever is missing.
                wanted = {OURS, *lacking}
                peers = tuple(peer for peer in selection.peers if peer in wanted)
                left.append(Selection(selection.cell, peers))
        return left

    def run(
        self, selections: list[Selection], minutes: float | None = None
    ) -> Iterator[tuple[Cell, dict[str, Any] | None]]:
        """Yield each cell before it is measured, with None, and after it with what was stored.

        No cell is begun after `minutes`.
        """
        begin = time.monotonic()
        wanted = {peer for selection in selections for peer in selection.peers}
        self.workers = self.start([peer for peer in PEERS if peer in wanted])
        try:
            for selection in selections:
                if minutes is not None and time.monotonic() - begin > 60 * minutes:
                    return
                yield selection.cell, None
                yield selection.cell, self._measure(selection)
        finally:
            self.workers.close()

    def _measure(self, selection: Selection) -> dict[str, Any]:
        cell = selection.cell
        machine = self._machine(cell.threads)
        busy = _busy_share()
        entrants = CellRun(cell, selection.peers, self.workers, self.budget).run()
        peers = as_stored(entrants, cell)
        for peer, entry in peers.items():
            versions = self.workers.versions.get(PEERS[peer].environment, {})
            entry["environment"] = self.results.add_environment(
                {**self.place, "versions": versions}
            )
            if "gflops" in entry:
                entry["sgemm_share"] = round(entry["gflops"] / best_sgemm(machine), 3)
        bound = limit(cell, machine)
        if "ms" in peers[OURS]:
            peers[OURS]["gap"] = float(f"{peers[OURS]['ms']['p50'] / bound.ms:.3g}")
        stored = {
            "layer": asdict(cell.layer),
            "mode": cell.mode,
            "threads": cell.threads,
            "group": cell.group,
            "flops": cell.flops,
            "limit": bound.as_dict(),
            "busy": round(max(busy, _busy_share()), 3),
            "peers": peers,
        }
        self.results.store(cell.name, stored)
        return stored

    def _machine(self, threads: int) -> dict[str, Any]:
        """Rates of this machine, measured before the first cell of so many threads."""
        key = f"{self.place['cpu']}, {self.place['cores']} cores; {threads} threads"
        if key not in self.results.machines:
            self.workers.close()
            self.results.machines[key] = _measure_machine(threads)
        machine: dict[str, Any] = self.results.machines[key]
        return machine


def _measure_machine(threads: int) -> dict[str, Any]:
    python = python_of(PEERS[OURS].environment)
    allowed = Threads(threads)
    done = subprocess.run(
        [str(python), "-m", "benchmarks.peers.machine", "--threads", str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=allowed.environment(),
        preexec_fn=allowed.pin,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _busy_share(seconds: float = 0.1) -> float:
    """Share of the CPUs that other programs take while the workers wait."""
    before = _cpu_ticks()
    time.sleep(seconds)
    after = _cpu_ticks()
    total, idle = (late - early for late, early in zip(after, before, strict=True))
    return 1 - idle / total if total else 0.0


def _cpu_ticks() -> tuple[int, int]:
    """All and idle ticks of all CPUs together; see proc_stat(5)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ticks = [int(field) for field in fields[:8]]
    return sum(ticks), ticks[3] + ticks[4]
