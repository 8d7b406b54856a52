"""Measure fastrnn against other libraries: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastrnn.recurrence.backends import CpuBackend

from .cases import MODES, PRESETS, THREADS, Selection, select
from .client import python_of
from .registry import PEERS
from .results import PEERS_FILE, Results
from .runner import Budget
from .session import Session

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
    parser.add_argument("--again", action="store_true", help="measure what is stored already, too")
    parser.add_argument(
        "--any-commit", action="store_true", help="leave cells of other commits as they are"
    )
    parser.add_argument("--list", action="store_true", help="only say what would be measured")
    parser.add_argument("--output", type=Path, default=PEERS_FILE)
    return parser.parse_args(words)


def summary(name: str, peers: dict[str, Any]) -> str:
    """A measured cell in a line."""
    parts = []
    for peer, entry in peers.items():
        if "ms" in entry:
            ratio = f" ({entry['ratio']['p50']:.2f}x)" if "ratio" in entry else ""
            parts.append(f"{peer} {entry['ms']['p50']:.3g} ms{ratio}")
        elif "error" in entry:
            parts.append(f"[red]{peer}: {entry['error']}[/red]")
        else:
            parts.append(f"{peer}: {entry['reason']}")
    return f"[bold]{name}[/bold]: {', '.join(parts)}"


def show(session: Session, left: list[Selection], minutes: float | None) -> None:
    """Measure, with progress."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(left))
        for cell, stored in session.run(left, minutes):
            progress.update(task, description=cell.name)
            if stored is not None:
                progress.console.print(summary(cell.name, stored["peers"]))
                progress.advance(task)


def main() -> None:
    """Measure what is not stored yet; exits with 1 where a library's results were wrong."""
    options = arguments()
    needed = {PEERS[peer].environment for peer in options.peers or PEERS}
    lacking = [name for name in sorted(needed) if not python_of(name).exists()]
    if lacking:
        sys.exit(f"no environment for {', '.join(lacking)}: make bench-peers sets it up")
    results = Results(options.output)
    budget = Budget(seconds=options.seconds_per_cell, longest_call=options.longest_call)
    session = Session(results, budget, CpuBackend().isa)
    selections = select(
        options.preset,
        peers=options.peers,
        modes=options.modes,
        threads=options.threads,
        pattern=options.filter,
    )
    left = session.left(selections, again=options.again, any_commit=options.any_commit)
    if options.list:
        for selection in left:
            console.print(f"{selection.cell.name}: {', '.join(selection.peers)}")
        console.print(f"{len(left)} of {len(selections)} cells")
        return
    try:
        show(session, left, options.minutes)
    except KeyboardInterrupt:
        console.print("Stopped. What was measured is stored; the same command goes on from there.")
        sys.exit(130)
    wrong = [name for name, cell in results.cells.items() if _is_wrong(cell)]
    if wrong:
        sys.exit("wrong results in: " + "; ".join(wrong))


def _is_wrong(cell: dict[str, Any]) -> bool:
    return any("error" in entry for entry in cell["peers"].values())


if __name__ == "__main__":
    main()
