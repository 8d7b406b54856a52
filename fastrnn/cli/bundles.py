"""Finding the saved model that a command is given, and the files that it is for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastrnn.cli.errors import CommandError
from fastrnn.data.reading import StripReader
from fastrnn.models import EncoderClassifier
from fastrnn.models.bundle import CONFIG_FILE

MODEL_FOLDER = "model"
MODEL_HELP = "The folder of a saved model, or the output folder of fastrnn train."


def bundle_folder(path: Path) -> Path:
    """Return the model's folder: ``path`` itself, or ``model`` in it as `train` leaves it."""
    inside = path / MODEL_FOLDER
    if not (path / CONFIG_FILE).exists() and (inside / CONFIG_FILE).exists():
        return inside
    return path


def found_files(
    paths: Iterable[Path], reader: StripReader | None, model: EncoderClassifier
) -> list[Path]:
    """Find the files that a reader reads for a model: those given, and those in folders.

    Raises
    ------
    CommandError
        If there is no reader, as the model does not say how to read files.
    ValueError
        If a folder holds none of its kind.
    """
    if reader is None:
        raise CommandError(
            "the model does not say how files become its strips of "
            f"{model.config.in_channels} channels"
        )
    found: list[Path] = []
    for path in paths:
        found += reader.find(path) if path.is_dir() else reader.strips_of(path)
    return found
