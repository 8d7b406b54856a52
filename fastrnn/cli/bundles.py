"""Finding the saved model that a command is given."""

from __future__ import annotations

from pathlib import Path

from fastrnn.models.bundle import CONFIG_FILE

MODEL_FOLDER = "model"
MODEL_HELP = "The folder of a saved model, or the output folder of fastrnn train."


def bundle_folder(path: Path) -> Path:
    """Return the model's folder: ``path`` itself, or ``model`` in it as `train` leaves it."""
    inside = path / MODEL_FOLDER
    if not (path / CONFIG_FILE).exists() and (inside / CONFIG_FILE).exists():
        return inside
    return path
