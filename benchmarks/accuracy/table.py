"""The documents' table of accuracies, and the picture of the learning curves."""

from __future__ import annotations

import statistics
from typing import Any

from ..results_file import ROOT, load
from .recipes import RECIPES, Recipe
from .results import ACCURACY_FILE, Row, row
from .tasks import TASKS

_DRAWN_WITH = {"rgb": "rgbd", "depth": "rgbd"}
CURVES_FILE = ROOT / "docs" / "images" / "learning-curves.png"


def accuracy_table() -> str:
    """Markdown table of all recipes: what is stored, and what is still missing."""
    cells = load(ACCURACY_FILE)
    lines = [
        "| data | model | parameters | published | target | accuracy | training | "
        "steps/s: torch | fastrnn | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [_columns(recipe, row(recipe, cells)) for recipe in RECIPES]
    lines += ["| " + " | ".join(columns) + " |" for columns in rows]
    return "\n".join([*lines, "", _notes(cells)])


def _columns(recipe: Recipe, stored: Row | None) -> list[str]:
    target = "" if recipe.target is None else f"{recipe.target:.1%}"
    names = [TASKS[recipe.task].title, recipe.name]
    if stored is None:
        return [*names, "", recipe.published, target, "not run yet", "", "", "", ""]
    first = stored.runs[0]
    return [
        *names,
        f"{first['parameters']:,}",
        recipe.published,
        target,
        _accuracy(stored),
        _training_time(stored),
        *_speed(stored.speed),
    ]


def _accuracy(stored: Row) -> str:
    seeds = len(stored.runs)
    if stored.deviation is None:
        return f"**{stored.mean:.2%}** (1 seed)"
    return f"**{stored.mean:.2%}** ± {stored.deviation * 100:.2f} ({seeds} seeds)"


def _training_time(stored: Row) -> str:
    """Mean over the seeds that ran on so many threads."""
    by_threads: dict[int, list[float]] = {}
    for run in stored.runs:
        by_threads.setdefault(run["environment"]["threads"], []).append(run["train_seconds"])
    return ", ".join(
        f"{statistics.fmean(seconds) / 60:.1f} min on {threads} thread{'s'[: threads - 1]}"
        for threads, seconds in sorted(by_threads.items())
    )


def _speed(speed: dict[str, Any] | None) -> list[str]:
    if speed is None:
        return ["", "", ""]
    ratio = speed["ratio"]
    return [
        f"{speed['torch_steps_per_second']:.2f}",
        f"{speed['fastrnn_steps_per_second']:.2f}",
        f"**{ratio['p50']:.1f}** ({ratio['p20']:.1f} to {ratio['p80']:.1f})",
    ]


def _notes(cells: dict[str, Any]) -> str:
    runs = [cell for name, cell in cells.items() if "/seed " in name]
    machines = sorted({run["environment"]["cpu"] for run in runs})
    torch_versions = sorted({run["environment"]["torch"] for run in runs})
    return (
        "Accuracy on the test part, mean and standard deviation over the seeds; training time is "
        "that of one run, without tests in between (runs on 1 thread went two or three at a "
        "time). Steps per second are those of training on typical batches, with this package's "
        "LSTM and with `torch.nn.LSTM` (packed where lengths vary), measured in turns. "
        "Settings were chosen on strips held out of the training part, or before any run, but for "
        "three: that StripMNIST's LSTM keeps its augmentation, and the epochs of its CNN-LSTM and "
        "of early fusion, followed runs on the test part; of spoken digits a second speaker was "
        "held out, who is tested on in another fold. "
        f"{', '.join(machines)}, torch {', '.join(torch_versions)}. Measured by `python -m "
        "benchmarks.accuracy`, stored in `benchmarks/results/accuracy.json`."
    )


def draw_curves() -> None:
    """Draw the error on the test strips over the epochs, a panel per task."""
    from matplotlib.figure import Figure

    cells = load(ACCURACY_FILE)
    panels: dict[str, list[tuple[str, Row]]] = {}
    for recipe in RECIPES:
        if stored := row(recipe, cells):
            task = _DRAWN_WITH.get(recipe.task, recipe.task)
            name = recipe.name if task == recipe.task else TASKS[recipe.task].title
            panels.setdefault(task, []).append((name, stored))
    if not panels:
        return
    columns = 3
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(12, 3 * lines), dpi=90, layout="constrained")
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for place, (task, rows) in zip(places, panels.items(), strict=False):
        _draw_panel(place, TASKS[task].title, rows)
    for place in places[len(panels) :]:
        place.axis("off")
    CURVES_FILE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(CURVES_FILE, metadata={"Software": None})


def _draw_panel(panel: Any, title: str, rows: list[tuple[str, Row]]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for number, (name, stored) in enumerate(rows):
        for seed, run in enumerate(stored.runs):
            errors = [100 * (1 - epoch[3]) for epoch in run["curve"]]
            epochs = range(1, len(errors) + 1)
            label = name if seed == 0 else None
            panel.plot(epochs, errors, color=f"C{number}", label=label, linewidth=1.2)
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("epoch", fontsize=8)
    panel.set_ylabel("error on test strips, %", fontsize=8)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(which="both", labelsize=7)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3, which="both")
    panel.legend(fontsize=8)
