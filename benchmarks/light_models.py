"""What light settings of a classifier save, and what they cost in accuracy; measured and stored.

``python -m benchmarks.light_models`` takes about 8 minutes on two cores; names of variants, as
the table shows them, choose some of them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import fastrnn
from fastrnn.data import StripBatch, StripCache, StripDigits
from fastrnn.data.batching import collate
from fastrnn.models import StripClassifier
from fastrnn.training import Trainer, TrainingConfig, evaluate

from .results_file import RESULTS, environment, load, spread_text, store
from .timing import Comparison, side_by_side

LIGHT_FILE = RESULTS / "light_models.json"

PLAIN = "plain"
_FUSED: dict[str, Any] = {
    "bidirectional": False,
    "coupled_gates": True,
    "recurrent_heads": 2,
    "stack": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "bidirectional=False": {"bidirectional": False},
    "coupled_gates=True": {"coupled_gates": True},
    "recurrent_heads=2": {"recurrent_heads": 2},
    "recurrent_heads=4": {"recurrent_heads": 4},
    "proj_size=32": {"proj_size": 32},
    "stack=2": {"stack": 2},
    "all together (2 heads)": {**_FUSED, "proj_size": 32},
    "all but proj_size (2 heads)": _FUSED,
}

MODES = ("inference", "training step")
SECONDS = {"inference": 4.0, "training step": 6.0}
"""For which each mode is timed; at least five rounds."""
BATCH_SIZE = 32

SEEDS = (0, 1, 2)
TRAIN_STRIPS, TEST_STRIPS = 600, 500
TRAINING = TrainingConfig(epochs=5, learning_rate=1e-2, max_padded_steps=4096)

TOLERANCE = 1e-4


def build(name: str, seed: int = 0) -> StripClassifier:
    """The model of a variant, at the default sizes, for digits."""
    torch.manual_seed(seed)
    return StripClassifier(1, 28, 10, **VARIANTS[name])


def check_first(name: str, model: StripClassifier, batch: StripBatch) -> None:
    """Fail unless the model gives what plain torch gives, step by step."""
    model.eval()
    strips, lengths = batch.strips[:4], batch.lengths[:4]
    with torch.inference_mode():
        got = model(strips, lengths)
        with fastrnn.use_backend("eager"):
            want = model(strips, lengths)
    difference = (got - want).abs().max().item()
    if not difference < TOLERANCE:  # NaN too
        sys.exit(f"{name}: logits differ by {difference:.1e}, so its speed means nothing")


def runner(model: StripClassifier, batch: StripBatch, mode: str) -> Callable[[], object]:
    """Classify the batch, or learn from it once."""
    if mode == "inference":

        def infer() -> Tensor:
            model.eval()
            with torch.inference_mode():
                logits: Tensor = model(batch.strips, batch.lengths)
                return logits

        return infer

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        model.train()
        logits = model(batch.strips, batch.lengths)
        loss = torch.nn.functional.cross_entropy(logits, batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def measure_times(name: str, batch: StripBatch) -> dict[str, Any]:
    """Time a variant against the plain model, in turns."""
    times = {}
    for mode in MODES:
        model = build(name)
        check_first(name, model, batch)
        comparison = side_by_side(
            runner(build(PLAIN), batch, mode),
            runner(model, batch, mode),
            seconds=SECONDS[mode],
            min_rounds=5,
        )
        times[mode] = _cell(comparison)
        print(f"{name}; {mode}: {comparison.times_the_time.p50:.2f} times the time of plain")
    return times


def measure_accuracy(name: str) -> list[float]:
    """Accuracy on the test strips of one short training per seed, the same for all variants."""
    train = StripCache(StripDigits("train", size=TRAIN_STRIPS))
    test = StripCache(StripDigits("test", size=TEST_STRIPS))
    accuracies = []
    for seed in SEEDS:
        model = build(name, seed)
        Trainer(model, replace(TRAINING, seed=seed), progress=False).fit(train)
        accuracies.append(evaluate(model, test).accuracy)
        print(f"{name}; seed {seed}: {accuracies[-1]:.1%} of {len(test)} test strips")
    return accuracies


def measure(name: str) -> dict[str, Any]:
    """One cell: all that the table says of a variant."""
    digits = StripDigits("train")
    batch = collate(digits, range(BATCH_SIZE))
    return {
        name: {
            "settings": VARIANTS[name],
            "parameters": sum(parameter.numel() for parameter in build(name).parameters()),
            "times": measure_times(name, batch),
            "accuracy": measure_accuracy(name),
            "environment": environment(),
        }
    }


def _cell(comparison: Comparison) -> dict[str, Any]:
    return {
        "plain_ms": comparison.baseline_ms.as_dict(),
        "ours_ms": comparison.ours_ms.as_dict(),
        "times_the_time": comparison.times_the_time.as_dict(),
        "rounds": comparison.rounds,
    }


def table() -> str:
    """Markdown table of the stored cells; variants that were not measured say so."""
    cells = load(LIGHT_FILE)
    lines = [
        "| settings | parameters | inference: times the time | training step: times the time "
        "| accuracy |",
        "|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        columns = _columns(cells[name]) if name in cells else ["not measured"] * 4
        label = f"`{name}`" if "=" in name else name
        lines.append("| " + " | ".join([label, *columns]) + " |")
    return "\n".join([*lines, "", _source(cells)])


def _columns(cell: dict[str, Any]) -> list[str]:
    accuracy = cell["accuracy"]
    return [
        f"{cell['parameters']:,}",
        *(spread_text(cell["times"][mode]["times_the_time"]) for mode in MODES),
        f"**{statistics.mean(accuracy):.1%}** ({min(accuracy):.1%} to {max(accuracy):.1%})",
    ]


def _source(cells: dict[str, Any]) -> str:
    measured = "Measured by `python -m benchmarks.light_models`"
    if PLAIN not in cells:
        return f"{measured}, which has not been run yet."
    machine = cells[PLAIN]["environment"]
    spent = [f"{cells[PLAIN]['times'][mode]['plain_ms']['p50']:.0f} ms ({mode})" for mode in MODES]
    return (
        f"`StripClassifier(1, 28, 10)` with these settings. Times are those of {BATCH_SIZE} strips "
        f"of 28 x 140 to 420, against the plain model, which takes {' and '.join(spent)}: medians, "
        "with the 20th and 80th percentile round by round, in turns in one process; the first row "
        "is the plain model against itself. Accuracy is that on "
        f"{TEST_STRIPS} test strips of `StripDigits` after {TRAINING.epochs} epochs over "
        f"{TRAIN_STRIPS} others: mean of {len(SEEDS)} seeds, lowest and highest. "
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}. {measured}, "
        "stored in `benchmarks/results/light_models.json`."
    )


def main() -> None:
    """Measure all variants, or those that are named, and print the stored table."""
    wanted = sys.argv[1:] or list(VARIANTS)
    if unknown := set(wanted) - set(VARIANTS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(VARIANTS)}")
    for name in wanted:
        store(measure(name), LIGHT_FILE)
    print(table())


if __name__ == "__main__":
    main()
