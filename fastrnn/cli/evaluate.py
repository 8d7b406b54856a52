"""``fastrnn evaluate``: how good a model is on labelled strips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastrnn.cli import options as opt
from fastrnn.cli.bundles import MODEL_HELP, bundle_folder
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.reading import Reading
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.runs import output_folder
from fastrnn.cli.sources import only_labelled, open_source
from fastrnn.data.checks import counted
from fastrnn.models import EncoderClassifier
from fastrnn.plots import draw_confusion
from fastrnn.training import Evaluation
from fastrnn.training import evaluate as evaluate_model
from fastrnn.training.checkpoint import write_atomically

_MOST_COLUMNS = 16  # classes whose confusion matrix still fits a terminal
_MOST_CONFUSIONS = 10


def evaluate(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP, show_default=False)],
    source: opt.Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for evaluation.json and confusion.png.")
    ] = Path("runs/evaluation"),
    test_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Use so many strips, each class in proportion.", show_default="all"
        ),
    ] = None,
    skip_bad: opt.SkipBad = False,
    allow_missing_depth: opt.AllowMissingDepth = False,
    allow_missing_picture: opt.AllowMissingPicture = False,
    data_root: opt.DataRoot = None,
    test_speaker: opt.TestSpeaker = None,
    device: Device = "auto",
) -> None:
    """Measure a model: accuracy, precision, recall and F1 per class, confusion matrix.

    The strips should be others than those it was trained on. Files are read
    as in training. Of built-in sources the test part is used: other digits,
    or the recordings of another speaker.

    [bold]Examples[/bold]

    fastrnn evaluate runs/train test-strips/
    fastrnn evaluate runs/train strip-mnist --output runs/mnist-test
    """
    classifier = EncoderClassifier.load(bundle_folder(model), map_location=chosen_device(device))
    folder = output_folder(output)
    options = ReadingOptions(
        skip_bad=skip_bad,
        allow_missing_depth=allow_missing_depth,
        allow_missing_picture=allow_missing_picture,
        data_root=data_root,
        test_speaker=test_speaker,
    )
    reading = Reading.of_model(classifier, options)
    strips, _ = open_source(source, reading, split="test", size=test_size, labels=classifier.labels)
    labelled, unlabelled = only_labelled(strips)
    if unlabelled is not None:
        typer.echo(f"{counted(len(unlabelled), 'strip')} without a label passed over", err=True)
    result = evaluate_model(classifier, labelled)
    report(result)
    figures = folder / "evaluation.json"
    text = json.dumps(as_json(result), indent=2, ensure_ascii=False) + "\n"
    write_atomically(figures, lambda file: file.write(text.encode()))
    picture = draw_confusion(
        folder / "confusion.png",
        result.confusion,
        result.labels,
        title=f"{result.accuracy:.1%} of {len(labelled):,} strips right",
    )
    typer.echo(f"Written: {figures}, {picture}")


def report(result: Evaluation) -> None:
    """Print an evaluation: figures per class, then which classes are taken for which."""
    console = Console()
    scores = result.scores
    table = Table("class", "precision", "recall", "F1", "strips", title="Per class")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = zip(
        result.labels,
        scores.precision.tolist(),
        scores.recall.tolist(),
        scores.f1.tolist(),
        scores.support.tolist(),
        strict=True,
    )
    for label, precision, recall, f1, support in rows:
        table.add_row(
            escape(label), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", f"{support:,}"
        )
    console.print(table)
    if len(result.labels) <= _MOST_COLUMNS:
        console.print(_confusion_table(result))
    else:
        console.print(_largest_confusions(result))
    console.print(
        f"Accuracy {result.accuracy:.2%}, macro F1 {result.macro_f1:.3f}, "
        f"loss {result.loss:.4f}, {counted(int(result.confusion.sum()), 'strip')}",
        highlight=False,
    )


def as_json(result: Evaluation) -> dict[str, object]:
    """Put an evaluation into JSON types."""
    scores = result.scores
    return {
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "loss": result.loss,
        "strips": int(result.confusion.sum()),
        "labels": list(result.labels),
        "precision": scores.precision.tolist(),
        "recall": scores.recall.tolist(),
        "f1": scores.f1.tolist(),
        "support": scores.support.tolist(),
        "confusion": result.confusion.tolist(),
    }


def _confusion_table(result: Evaluation) -> Table:
    table = Table("true", title="Confusion matrix: columns are predicted classes")
    for label in result.labels:
        table.add_column(escape(label), justify="right")
    for row, (label, counts) in enumerate(
        zip(result.labels, result.confusion.tolist(), strict=True)
    ):
        cells = [
            f"[bold]{count}[/bold]" if column == row else (f"{count}" if count else "[dim].[/dim]")
            for column, count in enumerate(counts)
        ]
        table.add_row(escape(label), *cells)
    return table


def _largest_confusions(result: Evaluation) -> Table:
    table = Table("true", "predicted", "strips", title="Most frequent confusions")
    wrong = result.confusion.clone()
    wrong.fill_diagonal_(0)
    for cell in wrong.flatten().argsort(descending=True, stable=True)[:_MOST_CONFUSIONS].tolist():
        true, predicted = divmod(cell, len(result.labels))
        if wrong[true, predicted]:
            names = (escape(result.labels[index]) for index in (true, predicted))
            table.add_row(*names, f"{int(wrong[true, predicted]):,}")
    return table
