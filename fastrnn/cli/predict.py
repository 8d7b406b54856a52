"""``fastrnn predict``: image files in, labels out."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Protocol

import typer

from fastrnn.cli.bundles import MODEL_HELP, bundle_folder
from fastrnn.cli.errors import FAILURE, CommandError
from fastrnn.data import StripDecodeError, find_images
from fastrnn.deploy import Prediction, Predictor
from fastrnn.training.checkpoint import write_atomically


class Format(StrEnum):
    """How predictions are written."""

    CSV = "csv"
    JSONL = "jsonl"


def predict(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to the screen.")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="csv, or jsonl for one JSON object a line.",
            show_default="by the ending of --output, else csv",
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probability of every class.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Exit with 0 even if some files can't be read."),
    ] = False,
) -> None:
    """Classify image files with a saved model.

    Files that can't be read are reported, all others are classified, and the
    exit code is 1.

    [bold]Examples[/bold]

    fastrnn predict runs/train scan1.png scan2.png
    fastrnn predict runs/train new-scans/ --output labels.csv
    fastrnn predict runs/train new-scans/ --format jsonl --probabilities
    """
    predictor = Predictor(bundle_folder(model))
    paths = _image_paths(images)
    wanted = format_ or (Format.JSONL if _ends_as_jsonl(output) else Format.CSV)
    outcomes = _Outcomes(predictor.predict_files(paths))

    def write(file: IO[str]) -> None:
        columns = predictor.labels if probabilities else ()
        writer = _CsvWriter(file, columns) if wanted is Format.CSV else _JsonWriter(file, columns)
        for path, prediction in outcomes:
            writer.write(path, prediction)

    if output is None:
        write(sys.stdout)
    else:
        _write_file(output, write)
        typer.echo(f"{outcomes.predicted:,} predictions written to {output}", err=True)
    if outcomes.bad:
        typer.secho(f"{outcomes.bad:,} of {len(paths):,} files can't be read", fg="red", err=True)
        if not skip_bad:
            raise typer.Exit(FAILURE)


class _Outcomes:
    """Passes predictions on, and reports and counts the files that can't be read."""

    def __init__(self, outcomes: Iterable[tuple[Path, Prediction | StripDecodeError]]) -> None:
        self._outcomes = outcomes
        self.predicted = 0
        self.bad = 0

    def __iter__(self) -> Iterator[tuple[Path, Prediction]]:
        for path, outcome in self._outcomes:
            if isinstance(outcome, StripDecodeError):
                self.bad += 1
                typer.secho(f"error: {outcome}", fg="red", err=True)
            else:
                self.predicted += 1
                yield path, outcome


class _Writer(Protocol):
    def write(self, path: Path, prediction: Prediction) -> None: ...


class _CsvWriter:
    def __init__(self, file: IO[str], classes: Sequence[str]) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._classes = classes
        self._rows.writerow(["path", "label", "confidence", *classes])

    def write(self, path: Path, prediction: Prediction) -> None:
        shares = [_rounded(prediction.probabilities[name]) for name in self._classes]
        confidence = _rounded(prediction.confidence)
        self._rows.writerow([path, prediction.label, confidence, *shares])


class _JsonWriter:
    def __init__(self, file: IO[str], classes: Sequence[str]) -> None:
        self._file = file
        self._classes = classes

    def write(self, path: Path, prediction: Prediction) -> None:
        row: dict[str, Any] = {
            "path": str(path),
            "label": prediction.label,
            "confidence": _rounded(prediction.confidence),
        }
        if self._classes:
            shares = {name: _rounded(prediction.probabilities[name]) for name in self._classes}
            row["probabilities"] = shares
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rounded(share: float) -> float:
    return round(share, 6)


def _ends_as_jsonl(output: Path | None) -> bool:
    return output is not None and output.suffix.lower() in (".jsonl", ".ndjson", ".json")


def _image_paths(images: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for image in images:
        paths += find_images(image) if image.is_dir() else [image]
    return paths


def _write_file(output: Path, write: Callable[[IO[str]], None]) -> None:
    def write_text(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write(text)
        text.detach()

    if output.is_dir():
        raise CommandError(f"--output {output} is a folder, but must be a file")
    try:
        write_atomically(output, write_text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(f"--output {output} can't be written: {reason}") from error
