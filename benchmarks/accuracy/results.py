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
    return Row(runs, stored_speed(recipe, cells)) if runs else None


def is_stored(recipe: Recipe, name: str, cells: dict[str, Any]) -> bool:
    """Whether there is a run of this name, with the settings that the recipe has now."""
    return name in cells and cells[name]["recipe"] == recipe.described()


def stored_speed(recipe: Recipe, cells: dict[str, Any]) -> dict[str, Any] | None:
    """Give the steps per second of the model that the recipe has now, None if there are none."""
    speed: dict[str, Any] = cells.get(f"{recipe.key}/speed", {})
    return speed if speed.get("recipe") == recipe.described_steps() else None
