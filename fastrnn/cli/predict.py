"""``fastrnn predict``: files in, labels out."""

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

from fastrnn.cli import options as opt
from fastrnn.cli.bundles import MODEL_HELP, bundle_folder, found_files
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.errors import FAILURE, CommandError
from fastrnn.cli.reading import files_reader
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.wording import as_typed
from fastrnn.data import StripDecodeError, StripShards
from fastrnn.data.groups import strip_path
from fastrnn.data.shard_samples import holds_shards
from fastrnn.deploy import Prediction, Predictor
from fastrnn.models import EncoderClassifier
from fastrnn.training.checkpoint import write_atomically


class Format(StrEnum):
    """How predictions are written."""

    CSV = "csv"
    JSONL = "jsonl"


def predict(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files of the kind that the model was trained on, folders of them, or shards "
            "(.tar, .npz)."
        ),
    ],
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
    allow_missing_depth: opt.AllowMissingDepth = False,
    allow_missing_picture: opt.AllowMissingPicture = False,
    device: Device = "auto",
) -> None:
    """Classify files with a saved model.

    They are read as in training: images, sounds, videos, or pictures with
    depth maps beside them, of which one may be missing if that is allowed.
    Files that can't be read are reported, all others are classified, and the
    exit code is 1.

    [bold]Examples[/bold]

    fastrnn predict runs/train scan1.png scan2.png
    fastrnn predict runs/train new-scans/ --output labels.csv
    fastrnn predict runs/train new-scans/ --format jsonl --probabilities
    fastrnn predict runs/rgbd a.png b.depth.png --allow-missing-depth --allow-missing-picture
    """
    place = chosen_device(device)
    options = ReadingOptions(
        allow_missing_depth=allow_missing_depth, allow_missing_picture=allow_missing_picture
    )
    classifier = EncoderClassifier.load(bundle_folder(model), map_location=place)
    reader = files_reader(classifier, options)
    predictor = Predictor(classifier, reader=reader, device=place)
    sources = _sources(files, predictor)
    wanted = format_ or (Format.JSONL if _ends_as_jsonl(output) else Format.CSV)
    outcomes = _Outcomes(_predicted(sources, predictor))

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
        total = outcomes.bad + outcomes.predicted
        typer.secho(f"{outcomes.bad:,} of {total:,} files can't be read", fg="red", err=True)
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
                typer.secho(f"error: {as_typed(str(outcome))}", fg="red", err=True)
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


def _sources(files: Sequence[Path], predictor: Predictor) -> list[StripShards | list[Path]]:
    """Open shards and find files, before any work."""
    config = predictor.model.config
    sources: list[StripShards | list[Path]] = []
    for path in files:
        if holds_shards(path):
            height, channels = config.height, config.in_channels
            sources.append(StripShards(path, height=height, channels=channels, on_error="skip"))
            continue
        found = found_files([path], predictor.reader, predictor.model)
        if sources and isinstance(sources[-1], list):  # to be read in chunks of many
            sources[-1] += found
        else:
            sources.append(found)
    return sources


def _predicted(
    sources: Iterable[StripShards | list[Path]], predictor: Predictor
) -> Iterator[tuple[Path, Prediction | StripDecodeError]]:
    for source in sources:
        if isinstance(source, list):
            yield from predictor.predict_files(source)
            continue
        for path, reason in source.skipped:
            yield path, StripDecodeError(path, reason)
        for index, prediction in enumerate(predictor.predict_dataset(source)):
            yield strip_path(source, index), prediction


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
