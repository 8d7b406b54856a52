"""The table of features, from the stored results."""

from __future__ import annotations

from typing import Any

from ..results_file import RESULTS, load

FEATURES_FILE = RESULTS / "features.json"


def features_table() -> str:
    """Markdown: one row per feature, one column per implementation and device."""
    from .runs import COLUMNS, FEATURES  # runs what it lists: torch, and this package

    cells = load(FEATURES_FILE)
    columns = [column.name for column in COLUMNS]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    group = ""
    for feature in FEATURES:
        if feature.group != group:
            group = feature.group
            lines.append(f"| **{group}** |" + " |" * len(columns))
        answers = [_shown(cells[column]["outcomes"][feature.name]) for column in columns]
        lines.append(f"| {feature.name} | " + " | ".join(answers) + " |")
    lines += ["", _source(cells, columns)]
    return "\n".join(lines)


def _shown(outcome: str) -> str:
    return outcome.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _source(cells: dict[str, Any], columns: list[str]) -> str:
    places = []
    for column in columns:
        cell = cells[column]
        if any(not text.startswith("not run") for text in cell["outcomes"].values()):
            machine = cell["environment"]
            places.append(f"{column}: torch {machine['torch']}, {machine['cpu']}")
    return (
        "Run by `python -m benchmarks.features`, stored in `benchmarks/results/features.json`. "
        f"{'; '.join(places)}."
    )
