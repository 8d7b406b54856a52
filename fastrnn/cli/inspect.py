"""``fastrnn inspect``: what a source of strips holds, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fastrnn.cli.errors import FAILURE
from fastrnn.cli.runs import output_folder
from fastrnn.cli.wording import as_typed
from fastrnn.data.checks import counted
from fastrnn.data.inspect import inspect_source
from fastrnn.data.report import DatasetReport, PartReport
from fastrnn.plots import draw_report
from fastrnn.training.checkpoint import write_atomically

_MOST_ROWS = 40  # classes; of more the largest and the smallest are shown


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder with one folder of files per class, or with such folders called train, "
            "validation and test; a CSV file with the columns path and label; or shards (a .tar or "
            ".npz file, a folder of them, a pattern like 'train-{000..012}.tar'). Files are "
            "images, sounds (WAV), videos, or pictures with depth maps.",
            show_default=False,
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another such source, whose strips should not be in the first; may be repeated.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for report.json and report.png.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as JSON instead.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there is any warning.")
    ] = False,
) -> None:
    """Look through all strips before training: classes, sizes, copies, damage.

    Reads every file and warns of what a training would trip over: files that
    can't be read, strips that are in two parts or have two labels, blank ones,
    classes with hardly any strips.

    [bold]Examples[/bold]

    fastrnn inspect strips/
    fastrnn inspect labels.csv --against test-strips/ --output runs/report
    fastrnn inspect 'train-{000..012}.tar'
    fastrnn inspect strips/ --json --strict
    """
    report_folder = None if output is None else output_folder(output)
    with Progress(
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("reading", total=None)
        report = inspect_source(
            source,
            against=against or (),
            on_strip=lambda done, total: bar.update(task, completed=done, total=total),
        )
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n"
    if as_json:
        typer.echo(text, nl=False)
    else:
        show(report)
    if report_folder is not None:
        figures = report_folder / "report.json"
        write_atomically(figures, lambda file: file.write(text.encode()))
        picture = draw_report(report_folder / "report.png", report, title=source)
        typer.echo(f"Written: {figures}, {picture}", err=as_json)
    if strict and report.warnings:
        raise typer.Exit(FAILURE)


def show(report: DatasetReport) -> None:
    """Print a report: its parts, its classes, and the warnings."""
    console = Console()
    console.print(_parts_table(report.parts))
    names = list(dict.fromkeys(name for part in report.parts for name in part.classes))
    if len(names) > _MOST_ROWS:
        by_size = sorted(names, key=lambda name: -report.parts[0].classes.get(name, 0))
        shown = [*by_size[: _MOST_ROWS // 2], *by_size[-_MOST_ROWS // 2 :]]
        console.print(_classes_table(report.parts, shown))
        console.print(f"The largest and the smallest of {len(names):,} classes", highlight=False)
    elif names:
        console.print(_classes_table(report.parts, names))
    for warning in report.warnings:
        words = escape(as_typed(warning))
        console.print(f"[yellow]warning:[/yellow] {words}", highlight=False, soft_wrap=True)
    count = counted(len(report.warnings), "warning")
    console.print(count if report.warnings else "Nothing to warn of", highlight=False)


def _parts_table(parts: Sequence[PartReport]) -> Table:
    table = Table("", title="Strips")
    for part in parts:
        table.add_column(escape(part.name), justify="right")
    rows = {
        "strips": [f"{part.strips:,}" for part in parts],
        "unlabelled": [f"{part.unlabelled:,}" for part in parts],
        "classes": [f"{len(part.classes):,}" for part in parts],
        "columns": [_span(part.width_percentiles) for part in parts],
        "rows": [_most_frequent(part.heights) for part in parts],
        "stored as": [_most_frequent(part.modes) for part in parts],
        "blank": [f"{len(part.blank):,}" for part in parts],
        "copies": [f"{part.copies:,}" for part in parts],
        "unreadable": [f"{len(part.unreadable):,}" for part in parts],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _classes_table(parts: Sequence[PartReport], names: Sequence[str]) -> Table:
    table = Table("class", title="Strips per class")
    for part in parts:
        table.add_column(escape(part.name), justify="right")
    for name in names:
        table.add_row(escape(name), *(f"{part.classes.get(name, 0):,}" for part in parts))
    return table


def _span(percentiles: dict[int, float]) -> str:
    """Narrowest, median and widest."""
    if not percentiles:
        return "-"
    least, median, most = (percentiles[share] for share in (0, 50, 100))
    return f"{least:.0f} .. {median:.0f} .. {most:.0f}"


def _most_frequent(counts: Mapping[int, int] | Mapping[str, int]) -> str:
    """List the most frequent values, with their counts if there are several."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if len(ranked) < 2:
        return ", ".join(str(value) for value, _ in ranked) or "-"
    shown = ", ".join(f"{value} ({count:,})" for value, count in ranked[:3])
    return f"{shown} and {len(ranked) - 3} more" if len(ranked) > 3 else shown
