"""What is stored of the accuracies, by task and model."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ..results_file import RESULTS
from .recipes import Recipe

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


def row(recipe: Recipe, cells: dict[str, Any]) -> Row | None:
    """Give the stored runs of a recipe as it is now, None if there is none."""
    seeds = (f"{recipe.key}/seed {seed}" for seed in range(recipe.seeds))
    runs = tuple(cells[name] for name in seeds if is_stored(recipe, name, cells))
    return Row(runs, cells.get(f"{recipe.key}/speed")) if runs else None


def is_stored(recipe: Recipe, name: str, cells: dict[str, Any]) -> bool:
    """Whether there is a run of this name, with the settings that the recipe has now."""
    return name in cells and cells[name]["recipe"] == recipe.described()
