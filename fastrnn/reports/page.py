"""The page about a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastrnn.data.checks import counted
from fastrnn.reports import html
from fastrnn.reports.facts import Facts
from fastrnn.reports.mistakes import Mistake
from fastrnn.training.evaluation import Evaluation
from fastrnn.training.history import EpochRecord

_MOST_ROWS = 40  # of a table of classes that is not folded away

_ENDINGS = {
    "epochs": "all epochs were trained",
    "patience": "no better validation result for the epochs of patience",
    "interrupt": "interrupted; it can be resumed",
}


@dataclass(frozen=True)
class RunReport:
    """All that the page tells.

    Attributes
    ----------
    facts
        As `run_facts` returns them.
    history
        The epochs, at least one.
    evaluation
        Of the model on the validation strips, None without any.
    mistakes
        The worst ones on them.
    pictures
        PNG files: ``curves``, and where there is an evaluation ``confusion`` and, where there are
        mistakes, ``mistakes``.
    files
        The folder that the files of the mistakes are in, None if they are not in one folder, or in
        no files.
    """

    facts: Facts
    history: Sequence[EpochRecord]
    evaluation: Evaluation | None
    mistakes: Sequence[Mistake]
    pictures: Mapping[str, bytes]
    files: Path | None = None


def render(report: RunReport) -> str:
    """Write the page: HTML with all pictures in it."""
    title = f"Training of a {report.facts['model']['class']}"
    body = [html.element("h1", title), html.element("p", headline(report), **{"class": "lead"})]
    body += _summary(report)
    body += _curves(report)
    if report.evaluation is None:
        body += _classes_alone(report.facts)
    else:
        body += _classes(report, report.evaluation)
        body += _mistakes(report, int(report.evaluation.confusion.sum()))
    body += _settings(report.facts)
    return html.document(title, body)


def headline(report: RunReport) -> str:
    """Say in a sentence what came out."""
    if report.evaluation is None:
        return (
            f"{report.history[-1].accuracy:.1%} right in training. Without validation strips, "
            f"nothing here says how good the model is on others."
        )
    strips = int(report.evaluation.confusion.sum())
    return f"{report.evaluation.accuracy:.1%} of {strips:,} validation strips right"


def _summary(report: RunReport) -> Iterator[str]:
    facts, evaluation = report.facts, report.evaluation
    result, train, validation = facts["result"], facts["data"]["train"], facts["data"]["validation"]
    classes = sum(1 for count in train["strips of each class"].values() if count)
    widths = train["widths"]
    rows: list[tuple[str, object]] = [
        ("training strips", train["number of strips"]),
        ("classes", classes),
        (
            "size of a strip",
            f"{train['height']} rows, {widths['shortest']} to {widths['longest']} columns "
            f"(median {widths['median']:g}), channels: {train['channels']}",
        ),
        ("validation strips", "none" if validation is None else validation["number of strips"]),
        ("parameters of the model", facts["model"]["parameters"]),
        ("epochs", f"{result['epochs']} of {facts['training']['epochs']}"),
        ("ended because", _ENDINGS[result["stopped_by"]]),
        ("time", _duration(result["seconds"])),
        ("speed in the last epoch", f"{report.history[-1].strips_per_second:,.0f} strips a second"),
    ]
    if evaluation is not None:
        rows += [
            ("best epoch", result["best_epoch"]),
            ("validation loss", f"{evaluation.loss:.4f}"),
            ("validation macro F1", f"{evaluation.macro_f1:.3f}"),
        ]
    yield html.table("Summary", ("what", "value"), rows)
    if evaluation is not None and facts["training"]["patience"] is not None:
        note = (
            "The weights are those of the best epoch on the validation strips, so the result on "
            "them is a little too good: measure the model on other strips."
        )
        yield html.element("p", note, **{"class": "note"})


def _curves(report: RunReport) -> Iterator[str]:
    yield html.element("h2", "Curves")
    first, last = report.history[0], report.history[-1]
    words = (
        f"Loss, accuracy and learning rate over {counted(len(report.history), 'epoch')}. In "
        f"training the loss goes from {first.loss:.3f} to {last.loss:.3f}, the accuracy from "
        f"{first.accuracy:.1%} to {last.accuracy:.1%}."
    )
    if first.validation_loss is not None and last.validation_loss is not None:
        words += (
            f" On the validation strips the loss goes from {first.validation_loss:.3f} to "
            f"{last.validation_loss:.3f}, the accuracy from {first.validation_accuracy:.1%} to "
            f"{last.validation_accuracy:.1%}."
        )
    yield html.picture(report.pictures["curves"], words)
    header = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "rate", "time")
    rows = [
        (
            f"{record.epoch}",
            f"{record.loss:.4f}",
            f"{record.accuracy:.1%}",
            "" if record.validation_loss is None else f"{record.validation_loss:.4f}",
            "" if record.validation_accuracy is None else f"{record.validation_accuracy:.1%}",
            f"{record.learning_rate:.3g}",
            _duration(record.seconds),
        )
        for record in report.history
    ]
    yield html.details("All epochs as numbers", html.table("Epochs", header, rows))


def _classes_alone(facts: Facts) -> Iterator[str]:
    yield html.element("h2", "Classes")
    yield html.element("p", "There were no validation strips to measure the classes on.")
    counts = facts["data"]["train"]["strips of each class"]
    rows = list(counts.items())
    yield _perhaps_folded(rows, html.table("Training strips", ("class", "training strips"), rows))


def _perhaps_folded(rows: Sequence[object], table: str) -> str:
    many = len(rows) > _MOST_ROWS
    return html.details(f"All {len(rows):,} classes", table) if many else table


def _classes(report: RunReport, evaluation: Evaluation) -> Iterator[str]:
    yield html.element("h2", "Classes")
    scores, confusion = evaluation.scores, evaluation.confusion.tolist()
    trained = report.facts["data"]["train"]["strips of each class"]
    rows = [
        (
            label,
            f"{trained[label]:,}",
            f"{int(scores.support[k]):,}",
            f"{scores.precision[k]:.3f}",
            f"{scores.recall[k]:.3f}",
            f"{scores.f1[k]:.3f}",
            _most_often(confusion[k], k, evaluation.labels),
        )
        for k, label in enumerate(evaluation.labels)
    ]
    header = (
        *("class", "training strips", "validation strips", "precision", "recall", "F1"),
        "most often taken for",
    )
    table = html.table("Scores of each class on the validation strips", header, rows)
    yield _perhaps_folded(rows, table)
    words = (
        f"Confusion matrix of {len(evaluation.labels)} classes, rows true and columns predicted; "
        f"{int(evaluation.confusion.trace()):,} of {int(evaluation.confusion.sum()):,} strips lie "
        f"on its diagonal. The table above tells each class's scores."
    )
    yield html.picture(report.pictures["confusion"], words)


def _most_often(counts: list[int], true: int, labels: Sequence[str]) -> str:
    others = [(count, k) for k, count in enumerate(counts) if k != true and count]
    if not others:
        return ""
    count, k = max(others, key=lambda pair: pair[0])
    return f"{labels[k]} ({count:,})"


def _mistakes(report: RunReport, strips: int) -> Iterator[str]:
    yield html.element("h2", "Mistakes")
    if not report.mistakes:
        yield html.element("p", f"None: all {strips:,} validation strips are right.")
        return
    count = len(report.mistakes)
    shown = "validation strip" if count == 1 else f"{count} validation strips"
    words = (
        f"The {shown} that the model is surest of and wrong about. A curve below a "
        f"strip is the model's attention along it."
    )
    yield html.element("p", words)
    listed = "; ".join(f"{m.name}, {m.true} for {m.predicted}" for m in report.mistakes)
    alternative = f"Mistakes, each strip with its true and its predicted class: {listed}"
    yield html.picture(report.pictures["mistakes"], alternative)
    rows = [(m.name, m.true, m.predicted, f"{m.probability:.1%}") for m in report.mistakes]
    header = ("strip", "true", "predicted", "probability")
    yield html.details("The mistakes as a table", html.table(_places(report), header, rows))


def _places(report: RunReport) -> str:
    """Say where the strips are whose mistakes are listed."""
    if all(mistake.file is None for mistake in report.mistakes):
        return "Position among the validation strips"
    return "Files" if report.files is None else f"Files, in {report.files}"


def _settings(facts: Facts) -> Iterator[str]:
    yield html.element("h2", "Settings")
    parts = (
        ("Training", facts["training"]),
        ("Model", {"class": facts["model"]["class"], **facts["model"]["settings"]}),
        ("Versions and machine", {**facts["versions"], **facts["machine"]}),
    )
    for name, settings in parts:
        yield html.details(name, html.settings_table(f"{name}, also in run.json", settings))
    yield html.element("p", f"Written {facts['written']}", **{"class": "note"})


def _duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> _duration(3.21), _duration(200), _duration(7380)
    ('3.2 s', '3 min 20 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
