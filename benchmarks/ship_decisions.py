"""Makes the decisions of `auto` that ship with the package from those measured here.

``python -m benchmarks.ship_decisions`` collects ``benchmarks/results/gpu_*_decisions.json``, which
`benchmarks.gpu` leaves, into ``fastrnn/recurrence/shipped_decisions.json``; with ``--check`` it
only says whether that would change it. Decisions of other versions of the package are left out:
nobody would use them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastrnn import __version__
from fastrnn.recurrence.decisions import (
    SHIPPED_FILE,
    Decisions,
    decisions_as_text,
    read_decisions,
)

from .results_file import RESULTS


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


def main() -> None:
    """Write the file; with ``--check`` only say whether it is what was measured."""
    text = decisions_as_text(measured())
    if "--check" in sys.argv[1:]:
        same = SHIPPED_FILE.read_text(encoding="utf-8") == text
        sys.exit(0 if same else f"{SHIPPED_FILE.name} is not what benchmarks/results says")
    SHIPPED_FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
