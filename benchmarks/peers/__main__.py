"""Measure fastrnn against other libraries: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .cases import MODES, PRESETS, THREADS, Selection, select
from .client import python_of
from .registry import OURS, PEERS
from .results import PEERS_FILE, Results, here
from .runner import Budget, CellRun, Workers, as_stored

console = Console()


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="core", help="which cells")
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="only these, and fastrnn")
    parser.add_argument("--modes", nargs="+", choices=MODES)
    parser.add_argument("--threads", nargs="+", type=int, choices=THREADS)
    parser.add_argument("--filter", default="", help='part of a cell\'s name, as in "H=64, B=32"')
    parser.add_argument(
        "--seconds-per-cell",
        type=float,
        default=1.0,
        metavar="S",
        help="what a library's turns in a cell should take together, warm-up not counted; torch "
        "and fastrnn run at least 3 times (default: 1)",
    )
    parser.add_argument(
        "--longest-call",
        type=float,
        default=60.0,
        metavar="S",
        help="a library that needs longer for one call is not run (default: 60)",
    )
    parser.add_argument("--minutes", type=float, help="begin no cell after that time")
    parser.add_argument("--again", action="store_true", help="measure what is stored already")
    parser.add_argument(
        "--any-commit", action="store_true", help="leave cells of other commits as they are"
    )
    parser.add_argument("--list", action="store_true", help="only say what would be measured")
    parser.add_argument("--output", type=Path, default=PEERS_FILE)
    return parser.parse_args(words)


def to_do(options: argparse.Namespace, results: Results, place: dict[str, Any]) -> list[Selection]:
    """The cells that are not stored yet, each with the peers that it lacks."""
    chosen = select(
        options.preset,
        peers=options.peers,
        modes=options.modes,
        threads=options.threads,
        pattern=options.filter,
    )
    if options.again:
        return chosen
    left = []
    for cell, peers in ((s.cell, s.peers) for s in chosen):
        lacking = results.missing(cell.name, peers, place, any_commit=options.any_commit)
        if lacking:
            # Ratios are taken round by round, so fastrnn runs beside whoever is missing.
            wanted = {OURS, *lacking}
            left.append(Selection(cell, tuple(peer for peer in peers if peer in wanted)))
    return left


def run(options: argparse.Namespace, left: list[Selection], results: Results, isa: str) -> None:
    """Measure cell by cell, and store each at once."""
    workers = Workers()
    budget = Budget(seconds=options.seconds_per_cell, longest_call=options.longest_call)
    begin = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("cells", total=len(left))
            for selection in left:
                if options.minutes and time.monotonic() - begin > options.minutes * 60:
                    progress.console.print("Time is up: the rest is for the next run.")
                    return
                cell = selection.cell
                progress.update(task, description=cell.name)
                peers = as_stored(CellRun(cell, selection.peers, workers, budget).run(), cell)
                for peer, entry in peers.items():
                    versions = workers.versions.get(PEERS[peer].environment, {})
                    entry["environment"] = results.add_environment(
                        {**here(isa), "versions": versions}
                    )
                results.store(
                    cell.name,
                    {
                        "layer": asdict(cell.layer),
                        "mode": cell.mode,
                        "threads": cell.threads,
                        "group": cell.group,
                        "flops": cell.flops,
                        "peers": peers,
                    },
                )
                progress.console.print(_line(cell.name, peers))
                progress.advance(task)
    finally:
        workers.close()


def _line(name: str, peers: dict[str, Any]) -> str:
    parts = []
    for peer, entry in peers.items():
        if "ms" in entry:
            ratio = f" ({entry['ratio']['p50']:.2f}x)" if "ratio" in entry else ""
            parts.append(f"{peer} {entry['ms']['p50']:.3g} ms{ratio}")
        else:
            parts.append(f"{peer}: {entry.get('error') or entry['reason']}")
    return f"{name}: {', '.join(parts)}"


def main() -> None:
    options = arguments()
    lacking = {PEERS[peer].environment for peer in options.peers or PEERS}
    lacking = {name for name in lacking if not python_of(name).exists()}
    if lacking:
        sys.exit(f"no environment for {', '.join(sorted(lacking))}: make bench-peers sets it up")
    from fastrnn.recurrence.backends import CpuBackend

    isa = CpuBackend().isa
    results = Results(options.output)
    left = to_do(options, results, here(isa))
    if options.list:
        for selection in left:
            console.print(f"{selection.cell.name}: {', '.join(selection.peers)}")
        console.print(f"{len(left)} cells")
        return
    try:
        run(options, left, results, isa)
    except KeyboardInterrupt:
        console.print("Stopped. What was measured is stored; the same command goes on from there.")
        sys.exit(130)


if __name__ == "__main__":
    main()
