"""Train the table of the field and store it: ``python -m benchmarks.accuracy``.

All of it takes many hours on two cores; it can be stopped at any moment and goes on from there.
``python -m benchmarks.accuracy strip-mnist/lstm --seeds 1 --minutes 30`` runs a part;
``few-labels`` is the self-training of the README. Started twice with ``--threads 1``, it shares
the work: each process leaves alone what the other one is at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..claims import claimed
from ..results_file import ROOT, load, store
from . import few_labels
from .recipes import RECIPES, Recipe
from .results import ACCURACY_FILE, is_stored, stored_speed
from .run import run
from .speed import measure_speed
from .tasks import TASKS

WORK = ROOT / "build" / "accuracy"
"""Where trainings are kept, to go on from and to look at; git does not see it."""

SPEED_SECONDS = 20.0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("names", nargs="*", help="a task, or task/model; all by default")
    parser.add_argument("--seeds", type=int, help="so many seeds in the place of each recipe's")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--again", action="store_true", help="also what is stored already, anew")
    parser.add_argument("--no-speed", action="store_true", help="train only")
    parser.add_argument("--list", action="store_true", help="show what there is, and stop")
    chosen = parser.parse_args(words)
    known = {recipe.key for recipe in RECIPES} | {recipe.task for recipe in RECIPES}
    for name in chosen.names:
        if name not in known | {few_labels.NAME}:
            parser.error(f"unknown: {name}; --list shows what there is")
    return chosen


def main(words: Sequence[str]) -> None:
    """Run what is asked for and not stored yet: first all first seeds, then the second ones."""
    options = arguments(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipes = [r for r in RECIPES if not options.names or {r.key, r.task} & set(options.names)]
    if options.list:
        sys.stdout.write("".join(f"{r.key}: {TASKS[r.task].title}\n" for r in recipes))
        return
    deadline = time.monotonic() + 60 * options.minutes
    if few_labels.NAME in options.names:
        few_labels.measure()
    most = options.seeds or max((recipe.seeds for recipe in recipes), default=0)
    for seed in range(most):
        for recipe in recipes:
            if seed < (options.seeds or recipe.seeds):
                _run(recipe, seed, deadline, again=options.again)
    if not options.no_speed:
        for recipe in recipes:
            _measure_speed(recipe, deadline, again=options.again)


def _run(recipe: Recipe, seed: int, deadline: float, *, again: bool) -> None:
    key = f"{recipe.key}/seed {seed}"
    if time.monotonic() > deadline or (_is_known(recipe, key) and not again):
        return
    folder = Path(WORK, *key.split("/"))
    with claimed(folder.with_suffix(".claim")) as free:
        # Another process may have come to its end since.
        if not free or (_is_known(recipe, key) and not again):
            return
        _tell(key)
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        result = run(recipe, seed, folder, deadline)
        if result is None:
            _tell(f"{key}: stopped, to be gone on with")
            return
        store({key: result}, ACCURACY_FILE)
    shown = {name: result[name] for name in ("accuracy", "parameters", "train_seconds")}
    _tell(f"{key}: {json.dumps(shown)}")


def _is_known(recipe: Recipe, key: str) -> bool:
    return is_stored(recipe, key, load(ACCURACY_FILE))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _measure_speed(recipe: Recipe, deadline: float, *, again: bool) -> None:
    key = f"{recipe.key}/speed"
    if not recipe.has_lstm or time.monotonic() > deadline:
        return
    if stored_speed(recipe, load(ACCURACY_FILE)) and not again:
        return
    train, _ = next(TASKS[recipe.task].folds())
    result = measure_speed(recipe, train, SPEED_SECONDS)
    store({key: result}, ACCURACY_FILE)
    _tell(f"{key}: {json.dumps(result['ratio'])}")


if __name__ == "__main__":
    main(sys.argv[1:])
