"""``fastrnn explain``: pictures of where a model looks and which pixels speak for a class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fastrnn.cli import options as opt
from fastrnn.cli.bundles import MODEL_HELP, bundle_folder, found_files
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.errors import FAILURE, CommandError
from fastrnn.cli.reading import files_reader
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.runs import output_folder
from fastrnn.cli.wording import as_typed
from fastrnn.data import StripDecodeError
from fastrnn.deploy import FileExplanation, explain_file
from fastrnn.explanation_plots import draw_explanation
from fastrnn.models import EncoderClassifier
from fastrnn.training.checkpoint import write_atomically


class Baseline(StrEnum):
    """What counts as an empty strip."""

    MEDIAN = "median"
    BLACK = "black"
    WHITE = "white"


def explain(
    model: Annotated[Path, typer.Argument(help=MODEL_HELP)],
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of the kind that the model was trained on, or folders of them."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path(
        "runs/explain"
    ),
    target: Annotated[
        str | None,
        typer.Option(help="Explain this class.", show_default="the most probable one"),
    ] = None,
    json_: Annotated[
        bool,
        typer.Option("--json", help="Also write the numbers, as a JSON file beside each picture."),
    ] = False,
    steps: Annotated[
        int, typer.Option(min=1, help="Points of the integration: more are more exact.")
    ] = 32,
    baseline: Annotated[
        Baseline,
        typer.Option(help="What counts as empty: the strip's median colour, black, or white."),
    ] = Baseline.MEDIAN,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Exit with 0 even if some files can't be read."),
    ] = False,
    allow_missing_depth: opt.AllowMissingDepth = False,
    allow_missing_picture: opt.AllowMissingPicture = False,
    device: Device = "auto",
) -> None:
    """Show why a model says what it says of files.

    Draws each strip, of an image the whole picture in its own size, the
    pixels that matter for a class (by integrated gradients), the attention
    along it, and the most probable classes. Files that can't be read are
    reported, all others are explained, and the exit code is 1.

    [bold]Examples[/bold]

    fastrnn explain runs/train scan1.png scan2.png
    fastrnn explain runs/train new-scans/ --output why --target cat
    """
    classifier = EncoderClassifier.load(bundle_folder(model), map_location=chosen_device(device))
    if target is not None and target not in classifier.labels:
        raise CommandError(
            f"--target is {target!r}, but the model knows {', '.join(classifier.labels)}"
        )
    options = ReadingOptions(
        allow_missing_depth=allow_missing_depth, allow_missing_picture=allow_missing_picture
    )
    reader = files_reader(classifier, options)
    paths = found_files(files, reader, classifier)
    folder = output_folder(output)
    bad = 0
    for path, name in zip(paths, _names(paths, folder), strict=True):
        try:
            found = explain_file(
                classifier,
                path,
                target=target,
                steps=steps,
                baseline=baseline.value,
                reader=reader,
            )
        except StripDecodeError as error:
            bad += 1
            typer.secho(f"error: {as_typed(str(error))}", fg="red", err=True)
            continue
        picture = draw_explanation(folder / f"{name}.png", found)
        if json_:
            _write_json(folder / f"{name}.json", found)
        label = found.explanation.label
        typer.echo(f"{path}: {label}, {found.explanation.probabilities[label]:.1%}, see {picture}")
    if bad:
        typer.secho(f"{bad:,} of {len(paths):,} files can't be read", fg="red", err=True)
        if not skip_bad:
            raise typer.Exit(FAILURE)


def as_json(found: FileExplanation) -> dict[str, Any]:
    """Put an explanation into JSON types; what lies along the picture goes by its columns."""
    explanation = found.explanation
    return {
        "path": str(found.path),
        "label": explanation.label,
        "target": explanation.target,
        "probabilities": {name: _short(p) for name, p in explanation.probabilities.items()},
        "logit_change": _short(explanation.logit_change),
        "completeness": _short(explanation.completeness),
        "seen": list(found.seen),
        "along": "rows" if explanation.vertical else "columns",
        "attention": None if found.attention is None else [_short(x) for x in found.attention],
        "saliency": [_short(x) for x in found.along()],
    }


def _names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Give each file the name of its picture in the folder: no two alike, and none of the files."""
    taken = {path.resolve() for path in paths}
    names = []
    for path in paths:
        name, number = f"{path.stem}-explained", 1
        while (folder / f"{name}.png").resolve() in taken:
            number += 1
            name = f"{path.stem}-explained-{number}"
        taken.add((folder / f"{name}.png").resolve())
        names.append(name)
    return names


def _write_json(path: Path, found: FileExplanation) -> None:
    text = json.dumps(as_json(found), ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _short(number: float) -> float:
    """Six digits: what float32 holds."""
    return float(f"{number:.6g}")
