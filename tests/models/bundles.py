"""Saved bundles, and ways to spoil them."""

import json
from pathlib import Path

import torch

from fastrnn.models import StripClassifier

LABELS = ["cat", "dog", "Zürich"]


def make_model(**settings) -> StripClassifier:
    torch.manual_seed(0)
    return StripClassifier(1, 8, 3, **({"hidden_size": 4, "labels": LABELS} | settings))


def saved(folder: Path) -> Path:
    """A bundle in a folder, as "model"."""
    make_model().save(folder / "model")
    return folder / "model"


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def edit_config(path: Path, **changes) -> None:
    """Change top-level keys of config.json; None removes one."""
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))


def edit_architecture(path: Path, **changes) -> None:
    config = json.loads((path / "config.json").read_text())
    edit_config(path, architecture=config["architecture"] | changes)
