"""Writes the README's tables from the stored results: ``python -m benchmarks.report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .cases import LAYER_CASES
from .results_file import load

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- cpu results: begin -->\n", "<!-- cpu results: end -->"


def speed_table(cells: dict[str, Any]) -> str:
    """Markdown table of all layer cases, inference and training side by side."""
    lines = [
        "| one LSTM layer, float32 | inference: torch | fastrnn | ratio "
        "| forward+backward: torch | fastrnn | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in LAYER_CASES:
        columns = [case.name]
        for mode in ("inference", "forward+backward"):
            cell = cells[f"{case.name}; {mode}"]
            ratio = cell["ratio"]
            columns += [
                f"{cell['torch_ms']['p50']:.3g} ms",
                f"{cell['fastrnn_ms']['p50']:.3g} ms",
                f"**{ratio['p50']:.1f}** ({ratio['p20']:.1f} to {ratio['p80']:.1f})",
            ]
        lines.append("| " + " | ".join(columns) + " |")
    machine = cells[f"{LAYER_CASES[0].name}; inference"]["environment"]
    lines += [
        "",
        f"Medians; in brackets the 20th and 80th percentile of the ratio, round by round, in one "
        f"process. {machine['cpu']}, {machine['threads']} threads, {machine['isa']}, torch "
        f"{machine['torch']}; variable lengths are a `PackedSequence` for torch. Measured by "
        "`make bench`, stored in `benchmarks/results/cpu_vs_torch.json`.",
    ]
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """The README's text with its tables made anew."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return head + BEGIN + speed_table(load()) + END + tail


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
    sys.stdout.write(speed_table(load()))
