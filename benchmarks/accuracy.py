"""What the classifier learns, measured through the command line and stored.

``python -m benchmarks.accuracy`` runs everything (about 15 minutes on two cores);
``python -m benchmarks.accuracy strip-mnist`` or ``self-training`` runs a part.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrnn.data import StripCache, StripMNIST
from fastrnn.models import StripClassifier
from fastrnn.training import evaluate

from .results_file import RESULTS, environment, store

ACCURACY_FILE = RESULTS / "accuracy.json"

STRIP_MNIST = (
    "train strip-mnist --train-size 20000 --validation-share 0 --epochs 14 --learning-rate 1e-2 "
    "--dropout 0.3 --weight-decay 0.05 --label-smoothing 0.05 --ema-decay 0.998"
)
SELF_TRAINING = (
    "self-train strip-mnist --train-size 6000 --labelled 600 --epochs 60 --round-epochs 8 "
    "--learning-rate 5e-3 --dropout 0.3 --max-iter 5"
)


def strip_mnist(output: Path) -> dict[str, Any]:
    """Train on 20,000 strips, test on 10,000 others."""
    seconds = _run(STRIP_MNIST, output)
    return {"command": f"fastrnn {STRIP_MNIST}", "seconds": seconds, **_test(output / "model")}


def self_training(output: Path) -> dict[str, Any]:
    """Learn from 600 labelled and 5,400 unlabelled strips, test before and after."""
    seconds = _run(SELF_TRAINING, output)
    rounds = [json.loads(line) for line in (output / "rounds.jsonl").read_text().splitlines()]
    kept = ("round", "selected", "coverage", "precision", "held_out_accuracy", "seconds")
    return {
        "command": f"fastrnn {SELF_TRAINING}",
        "seconds": seconds,
        "before": _test(output / "supervised"),
        "after": _test(output / "model"),
        "rounds": [{key: report[key] for key in kept} for report in rounds],
    }


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "strip-mnist": strip_mnist,
    "self-training": self_training,
}


def _run(command: str, output: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fastrnn", *command.split(), "--output", str(output)], check=True
    )
    return round(time.perf_counter() - start, 1)


def _test(bundle: Path) -> dict[str, float]:
    test = StripCache(StripMNIST(split="test"))
    result = evaluate(StripClassifier.load(bundle), test)
    return {"test_strips": len(test), "accuracy": result.accuracy, "macro_f1": result.macro_f1}


def main(names: list[str]) -> None:
    """Run the named parts, or all."""
    for name in names or list(PARTS):
        with tempfile.TemporaryDirectory() as folder:
            result = PARTS[name](Path(folder) / "run")
        store({name: {**result, "environment": environment()}}, ACCURACY_FILE)
        sys.stdout.write(f"{name}: {json.dumps(result, indent=1)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
