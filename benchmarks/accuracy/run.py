"""One training of a recipe, from its seed to what is stored."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastrnn.data import StripDataset
from fastrnn.models import EncoderClassifier
from fastrnn.training import (
    Callback,
    Evaluation,
    StepInfo,
    Trainer,
    TrainingResult,
    evaluate,
)

from ..results_file import environment
from .recipes import Recipe
from .tasks import TASKS


class Deadline(Callback):
    """Stops a training as Ctrl-C does when its time is over."""

    def __init__(self, at: float) -> None:
        self._at = at

    def on_step(self, info: StepInfo) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._at


def run(recipe: Recipe, seed: int, folder: Path, deadline: float) -> dict[str, Any] | None:
    """Train and test a recipe on all folds of its task.

    Parameters
    ----------
    recipe, seed
        What to train, and from which random numbers.
    folder
        Where the trainings are kept, so that one that was stopped goes on from there.
    deadline
        Time of `time.monotonic` at which to stop.

    Returns
    -------
    dict or None
        What is stored; None if it was stopped before the end.
    """
    _make_room(folder, recipe)
    folds = []
    for number, (train, test) in enumerate(TASKS[recipe.task].folds()):
        torch.manual_seed(seed)
        model = recipe.build(train)
        result = _train(recipe, model, seed, train, test, folder / f"fold-{number}", deadline)
        if result.stopped_by == "interrupt":
            return None
        model.save(folder / f"fold-{number}" / "model")
        folds.append((len(train), result, evaluate(model, test)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "recipe": recipe.described(),
        "parameters": parameters,
        **_summary(folds),
        "environment": environment(),
    }


def _make_room(folder: Path, recipe: Recipe) -> None:
    """Remove trainings of a recipe that was another then."""
    described = json.dumps(recipe.described(), indent=1)
    note = folder / "recipe.json"
    if folder.exists() and (not note.exists() or note.read_text() != described):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(described)


def _train(
    recipe: Recipe,
    model: EncoderClassifier,
    seed: int,
    train: StripDataset,
    test: StripDataset,
    folder: Path,
    deadline: float,
) -> TrainingResult:
    # The test strips draw the curves and decide on nothing: without `patience` all epochs are
    # trained and the last weights stay.
    assert recipe.training.patience is None
    assert recipe.training.schedule != "plateau"
    trainer = Trainer(
        model,
        replace(recipe.training, seed=seed),
        out_dir=folder,
        callbacks=[Deadline(deadline)],
    )
    return trainer.fit(train, test, resume=(folder / "checkpoint.pt").exists())


def _summary(folds: list[tuple[int, TrainingResult, Evaluation]]) -> dict[str, Any]:
    """Put all folds together: accuracy over all test strips, mean curves, time of all."""
    confusion = np.sum([evaluation.confusion.numpy() for _, _, evaluation in folds], axis=0)
    seconds = [
        sum(strips / record.strips_per_second for record in result.history)
        for strips, result, _ in folds
    ]
    seen = [strips * len(result.history) for strips, result, _ in folds]
    curves = [
        [[r.loss, r.accuracy, r.validation_loss, r.validation_accuracy] for r in result.history]
        for _, result, _ in folds
    ]
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "test_strips": int(confusion.sum()),
        "fold_accuracies": [evaluation.accuracy for _, _, evaluation in folds],
        "train_strips": max(strips for strips, _, _ in folds),
        "epochs": len(folds[0][1].history),
        "train_seconds": round(sum(seconds), 1),
        "strips_per_second": round(sum(seen) / sum(seconds), 1),
        "confusion": confusion.tolist(),
        "curve": np.mean(curves, axis=0).round(5).tolist(),
    }
