"""Writes the documents' tables from the stored results: ``python -m benchmarks.report``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .accelerate import table as accelerate_table
from .accuracy import few_labels
from .accuracy.results import ACCURACY_FILE
from .accuracy.table import accuracy_table, draw_curves
from .calls import options_table, overhead_table
from .cases import LAYER_CASES
from .cpu_profile import profile_table
from .features.table import features_table
from .light_models import table as light_models_table
from .peers import plot as peers_plot
from .peers import table as peers_table
from .peers.results import PEERS_FILE
from .peers.results import Results as PeersResults
from .results_file import RESULTS, ROOT, load, milliseconds
from .training_memory import kept_table, steps_table

README = ROOT / "README.md"
ACCURACY = ROOT / "docs" / "accuracy.md"
DROP_IN = ROOT / "docs" / "drop-in.md"
TRAINING_MEMORY = ROOT / "docs" / "training-memory.md"
CPU_SPEED = ROOT / "docs" / "cpu-speed.md"
MODELS = ROOT / "docs" / "models.md"

SECOND_MACHINE = PEERS_FILE.with_name("cpu_peers_intel.json")
"""Where ``python -m benchmarks.peers --output`` stored the cells of another machine."""


def speed_table() -> str:
    """Markdown table of all layer cases, inference and training side by side."""
    cells = load()
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
                milliseconds(cell["torch_ms"]["p50"]),
                milliseconds(cell["fastrnn_ms"]["p50"]),
                f"**{ratio['p50']:.1f}** ({ratio['p20']:.1f} to {ratio['p80']:.1f})",
            ]
        lines.append("| " + " | ".join(columns) + " |")
    lines += [
        "",
        "Medians; in brackets the 20th and 80th percentile of the ratio, round by round, in one "
        f"process. {_machine(cells)}; variable lengths are a `PackedSequence` for torch. Measured "
        "by `make bench`, stored in `benchmarks/results/cpu_vs_torch.json`.",
    ]
    return "\n".join(lines)


def few_labels_text() -> str:
    """What was learned from few labels, as Markdown."""
    few = load(ACCURACY_FILE)[few_labels.NAME]
    before, after = few["before"]["accuracy"], few["after"]["accuracy"]
    lines = [
        f"With 600 labelled and 5,400 unlabelled strips of StripMNIST: **{before:.2%}** of "
        f"{few['after']['test_strips']:,} test strips from the labels alone, **{after:.2%}** after "
        f"self-training ({few['seconds'] / 60:.1f} minutes): `{few['command']}`",
        "",
        "| round | pseudo-labels | of the unlabelled | right | held-out accuracy |",
        "|---|---|---|---|---|",
    ]
    for report in few["rounds"]:
        if report["round"] == 0:
            chosen = ["labels alone", "", "", ""]
        else:
            chosen = [
                str(report["round"]),
                f"{report['selected']:,}",
                f"{report['coverage']:.1%}",
                f"{report['precision']:.1%}",
            ]
        lines.append("| " + " | ".join([*chosen, f"{report['held_out_accuracy']:.1%}"]) + " |")
    lines += [
        "",
        f"One seed. {_machine({few_labels.NAME: few})}. Measured by `python -m benchmarks.accuracy "
        f"{few_labels.NAME}`, stored in `benchmarks/results/accuracy.json`.",
    ]
    return "\n".join(lines)


def demo_text() -> str:
    """What `make demo` printed, as stored by hand in ``results/demo.txt``."""
    return f"```text\n{(RESULTS / 'demo.txt').read_text()}```"


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"demo": demo_text, "speed": speed_table, "few labels": few_labels_text},
    ACCURACY: {"accuracy": accuracy_table},
    DROP_IN: {
        "features": features_table,
        "accelerate": accelerate_table,
        "overhead": overhead_table,
        "options": options_table,
    },
    MODELS: {"light": light_models_table},
    TRAINING_MEMORY: {"steps": steps_table, "kept": kept_table},
    CPU_SPEED: {
        "summary": lambda: peers_table.summary_table(PeersResults()),
        "plot": peers_plot.link,
        "shapes": lambda: peers_table.shape_table(PeersResults()),
        "limits": lambda: peers_table.limit_table(PeersResults()),
        "where": lambda: peers_table.where_text(PeersResults()),
        "profile": profile_table,
        "second summary": lambda: peers_table.summary_table(PeersResults(SECOND_MACHINE)),
        "second where": lambda: peers_table.where_text(PeersResults(SECOND_MACHINE)),
    },
}


def with_tables(document: Path) -> str:
    """A document's text with its tables made anew, each between its two marks."""
    text = document.read_text()
    for name, make in TABLES[document].items():
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        head, rest = text.split(begin)
        text = head + begin + make() + end + rest.split(end)[1]
    return text


def _machine(cells: dict[str, Any]) -> str:
    machine = next(iter(cells.values()))["environment"]
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']}, torch "
        f"{machine['torch']}"
    )


def main() -> None:
    """Rewrite the documents; with ``--check`` only say whether that would change one."""
    for document in TABLES:
        made = with_tables(document)
        if "--check" not in sys.argv[1:]:
            document.write_text(made)
        elif made != document.read_text():
            sys.exit(f"{document.relative_to(ROOT)} differs from the stored results")
    if "--check" not in sys.argv[1:]:
        peers_plot.draw(PeersResults())
        draw_curves()


if __name__ == "__main__":
    main()
