"""Makes the decisions of `auto` that ship with the package from those measured here.

``python -m benchmarks.ship_decisions`` collects ``benchmarks/results/gpu_*_decisions.json``, which
`benchmarks.gpu` leaves, into ``fastrnn/recurrence/shipped_decisions.json``; with ``--check`` it
only says whether that would change it. Decisions of other versions of the package are left out:
nobody would use them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastrnn import __version__
from fastrnn.recurrence.decisions import (
    SHIPPED_FILE,
    Decisions,
    decisions_as_text,
    read_decisions,
)

from .results_file import RESULTS

TARGET = "fastrnn/recurrence/shipped_decisions.json"


def measured(folder: Path = RESULTS) -> Decisions:
    """All decisions in a folder that hold for this version; of a class twice, the later."""
    found: Decisions = {}
    for path in sorted(folder.glob("gpu_*_decisions.json")):
        contents = read_decisions(path)
        if contents.fault:
            raise ValueError(f"{path}: {contents.fault}")
        for problem_class, decision in contents.decisions.items():
            if problem_class.fastrnn != __version__:
                continue
            known = found.get(problem_class)
            if known is None or known.date <= decision.date:
                found[problem_class] = decision
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; with ``--check`` only say whether it is what was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ship_decisions",
        description=f"Put what `auto` decided on GPUs, from benchmarks/results, into {TARGET}.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if that would change it"
    )
    options = parser.parse_args(argv)
    text = decisions_as_text(measured(RESULTS))
    if not options.check:
        SHIPPED_FILE.write_text(text, encoding="utf-8")
        return 0
    if SHIPPED_FILE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{TARGET} is not what benchmarks/results says\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
