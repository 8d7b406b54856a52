"""``python -m benchmarks.features``: runs every feature and stores how it went.

With words as arguments only the features whose names have one of them are run, and nothing is
stored.
"""

from __future__ import annotations

import sys
import time

from ..results_file import environment, load, store
from .runs import COLUMNS, FEATURES, NOT_RUN, run_column
from .table import FEATURES_FILE


def main() -> None:
    words = [word.lower() for word in sys.argv[1:]]
    chosen = [f for f in FEATURES if not words or any(w in f.name.lower() for w in words)]
    stored = load(FEATURES_FILE)
    cells = {}
    for column in COLUMNS:
        print(f"\n{column.name}", flush=True)
        outcomes = {}
        start = time.perf_counter()
        for feature, text in run_column(column, chosen):
            outcomes[feature.name] = text
            if text != NOT_RUN:
                seconds = time.perf_counter() - start
                print(f"{seconds:6.1f} s  {feature.name}: {text}", flush=True)
            start = time.perf_counter()
        # What a GPU has once told stays, where there is none.
        if column.can_run() or column.name not in stored:
            cells[column.name] = {"outcomes": outcomes, "environment": environment()}
    if not words:
        store(cells, FEATURES_FILE)
        print(f"\nStored in {FEATURES_FILE.name}; `python -m benchmarks.report` writes the table.")


if __name__ == "__main__":
    main()
