"""Self-training from few labels, through the command line, as the README shows it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastrnn.data import StripCache, StripMNIST
from fastrnn.models import StripClassifier
from fastrnn.training import evaluate

from ..results_file import environment, store
from .results import ACCURACY_FILE

NAME = "few-labels"

COMMAND = (
    "self-train strip-mnist --train-size 6000 --labelled 600 --epochs 60 --round-epochs 8 "
    "--learning-rate 5e-3 --dropout 0.3 --max-iter 5"
)
KEPT = ("round", "selected", "coverage", "precision", "held_out_accuracy", "seconds")


def measure() -> None:
    """Learn from 600 labelled and 5,400 unlabelled strips, test before and after; store it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        start = time.perf_counter()
        command = [sys.executable, "-m", "fastrnn", *COMMAND.split(), "--output", str(output)]
        subprocess.run(command, check=True)
        seconds = round(time.perf_counter() - start, 1)
        rounds = [json.loads(line) for line in (output / "rounds.jsonl").read_text().splitlines()]
        result = {
            "command": f"fastrnn {COMMAND}",
            "seconds": seconds,
            "before": _test(output / "supervised"),
            "after": _test(output / "model"),
            "rounds": [{key: report[key] for key in KEPT} for report in rounds],
        }
    store({NAME: {**result, "environment": environment()}}, ACCURACY_FILE)


def _test(bundle: Path) -> dict[str, float]:
    test = StripCache(StripMNIST(split="test"))
    result: Any = evaluate(StripClassifier.load(bundle), test)
    return {"test_strips": len(test), "accuracy": result.accuracy, "macro_f1": result.macro_f1}
