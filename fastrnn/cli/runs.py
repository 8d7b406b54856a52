"""What ``train`` and ``self-train`` share: the output folder, and the words around a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import typer

from fastrnn.cli.bundles import MODEL_FOLDER
from fastrnn.cli.errors import INTERRUPTED, CommandError
from fastrnn.cli.reading import Reading
from fastrnn.data import StripDataset
from fastrnn.data.augment import PRESETS, StripAugmentation
from fastrnn.data.finding import StripKind
from fastrnn.models import EncoderClassifier
from fastrnn.models.bundle import check_replaceable
from fastrnn.training.checkpoint import prepare_folder


def prepare_output(output: Path, traces: Sequence[str], *, resume: bool, overwrite: bool) -> None:
    """Check that a training may use the output folder, before any work; nothing is made yet.

    Parameters
    ----------
    output
        The folder.
    traces
        The files that a training leaves in it beside the model, as glob patterns.
    resume, overwrite
        The options of these names.

    Raises
    ------
    CommandError
        If the folder holds a training that is neither to be resumed nor overwritten, or none
        that could be resumed.
    """
    if resume and overwrite:
        raise CommandError("--resume and --overwrite exclude each other")
    if output.exists() and not output.is_dir():
        raise CommandError(f"--output {output} is a file, but must be a folder")
    check_replaceable(output / MODEL_FOLDER)
    found = [path for pattern in traces for path in output.glob(pattern)]
    if resume and not found:
        raise CommandError(f"--resume: {output} holds no training to go on with")
    if found and not (resume or overwrite):
        raise CommandError(
            f"--output {output} already holds a training: go on with it by --resume, delete it by "
            "--overwrite, or choose another folder"
        )
    if not found and (output / MODEL_FOLDER).exists() and not overwrite:
        raise CommandError(
            f"--output {output} already holds a model of something else: replace it by "
            "--overwrite, or choose another folder"
        )


def clear_output(output: Path, traces: Sequence[str]) -> None:
    """Delete an old training, once everything the new one needs has been read."""
    for pattern in traces:
        for path in output.glob(pattern):
            path.unlink()


def output_folder(output: Path) -> Path:
    """Make the output folder and try to write in it, before any work.

    Raises
    ------
    CommandError
        If that fails.
    """
    try:
        return prepare_folder(output)
    except ValueError as error:
        raise CommandError(str(error).replace("out_dir", "--output")) from error


def describe_strips(dataset: StripDataset) -> str:
    """Say in one line what a dataset holds."""
    widths = dataset.lengths
    classes = len(np.unique(dataset.targets[dataset.targets >= 0]))
    return (
        f"{len(dataset):,} strips of {classes} classes, {dataset.height} rows, "
        f"{widths.min()} to {widths.max()} columns, {_colours(dataset.channels)}"
    )


def _colours(channels: int) -> str:
    names = {1: "grey", 2: "grey and depth", 3: "RGB", 4: "RGB and depth"}
    return names.get(channels, f"{channels} channels")


def augmentation(name: str, mixup: float, strips: StripDataset) -> StripAugmentation | None:
    """Return the augmentation of a name, with mixtures, for the background of some strips.

    Parameters
    ----------
    name
        "none", "light" or "strong".
    mixup
        As in `StripAugmentation`; 0 for none.
    strips
        The training strips.
    """
    preset = replace(PRESETS[name], mixup=mixup)
    if preset == PRESETS["none"]:
        return None
    depth = (strips.channels - 1,) if strips.channels in (2, 4) else ()
    return replace(preset, background=background_level(strips), geometric_only=depth)


def background_level(strips: StripDataset, sample: int = 64) -> int:
    """Guess the grey level around what is written: the median on the edges of some strips.

    Depth, the last channel of two or four, has no grey levels.
    """
    colours = strips.channels - (strips.channels in (2, 4))
    chosen = np.linspace(0, len(strips) - 1, min(sample, len(strips))).astype(int)
    edges = []
    for index in chosen.tolist():
        strip = strips[index][0].numpy()[:colours]
        edges += [strip[:, 0], strip[:, -1], strip[:, :, 0], strip[:, :, -1]]
    return int(np.median(np.concatenate([edge.ravel() for edge in edges])))


def save_model(model: EncoderClassifier, output: Path) -> Path:
    """Save the model beside the log of its training."""
    folder = output / MODEL_FOLDER
    model.save(folder)
    return folder


def stop_interrupted(command: str, output: Path) -> NoReturn:
    """Say how to go on after Ctrl-C, and exit."""
    typer.secho(
        f"\nInterrupted. The model as it is now is in {output / MODEL_FOLDER}. To go on, run the "
        f"same {command} command with --resume.",
        fg="yellow",
        err=True,
    )
    raise typer.Exit(INTERRUPTED)


def next_steps(output: Path, source: str, reading: Reading) -> None:
    """Show what can be done with the model."""
    ending = _EXAMPLES["images" if reading.reader is None else reading.reader.kind]
    speaker = reading.options.test_speaker
    tested = "" if speaker is None else f" --test-speaker {speaker}"
    typer.echo(
        f"Next:\n  fastrnn evaluate {output} {source}{tested}\n"
        f"  fastrnn predict {output} some.{ending}"
    )


_EXAMPLES: dict[StripKind, str] = {
    "images": "png",
    "sounds": "wav",
    "videos": "mp4",
    "depth": "png",
}
