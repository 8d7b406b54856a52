"""What is stored of the accuracies, by task and model."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ..results_file import RESULTS, load

ACCURACY_FILE = RESULTS / "accuracy.json"


@dataclass(frozen=True)
class Row:
    """All runs of a recipe.

    Attributes
    ----------
    runs
        A stored run per seed.
    speed
        Its training steps per second with both LSTM layers, None if it was not measured.
    """

    runs: tuple[dict[str, Any], ...]
    speed: dict[str, Any] | None

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return statistics.fmean(run["accuracy"] for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds, None of one."""
        accuracies = [run["accuracy"] for run in self.runs]
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None


def row(key: str, cells: dict[str, Any] | None = None) -> Row | None:
    """Give the stored runs of ``task/model``, None if there is none."""
    cells = load(ACCURACY_FILE) if cells is None else cells
    runs = tuple(cell for name, cell in cells.items() if name.startswith(f"{key}/seed "))
    return Row(runs, cells.get(f"{key}/speed")) if runs else None
