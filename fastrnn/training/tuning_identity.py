"""What tells one tuning from another, so that a folder holds the trials of one alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastrnn.data import StripDataset
from fastrnn.training.checkpoint import CheckpointError, check_same, write_atomically
from fastrnn.training.checks import (
    config_differences,
    data_differences,
    fingerprint,
    pixels_digest,
)
from fastrnn.training.config import TrainingConfig
from fastrnn.training.search_space import SearchSpace
from fastrnn.training.trials import MODEL_FOLDER

TUNING_FILE = "tuning.json"


def identity(
    search: str,
    space: SearchSpace,
    config: TrainingConfig,
    about: Mapping[str, Any],
    **data: StripDataset,
) -> dict[str, Any]:
    """Say in JSON types what a tuning is.

    Parameters
    ----------
    search, space, config, about
        As for `Tuner`.
    **data
        The strips, by the names that messages have for them.
    """
    now = {
        "about": dict(about),
        "search": search,
        "space": space.as_json(),
        "config": asdict(config),
        "data": {
            name: {**(fingerprint(strips) or {}), "pixels": pixels_digest(strips)}
            for name, strips in data.items()
        },
    }
    as_read: dict[str, Any] = json.loads(json.dumps(now))
    return as_read


def check_same_tuning(folder: Path, now: Mapping[str, Any]) -> None:
    """Write down what the tuning in a folder is, or compare with what is written.

    Raises
    ------
    CheckpointError
        If the folder holds another tuning; a ValueError.
    ValueError
        If it holds the model of something else.
    """
    path = folder / TUNING_FILE
    if not path.exists():
        if (folder / MODEL_FOLDER).exists():
            raise ValueError(
                f"out_dir {str(folder)!r} already holds a model of something else; choose another "
                "folder"
            )
        text = json.dumps(now, indent=2, ensure_ascii=False) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
        return
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    differences = config_differences(saved.get("about", {}), now["about"])
    differences += config_differences(saved["config"], now["config"], {"checkpoint_every_seconds"})
    for key in ("search", "space"):
        if saved[key] != now[key]:
            differences.append(f"{key} is {now[key]} now and {saved[key]} in the folder")
    for name, data in now["data"].items():
        differences += data_differences(name, saved["data"][name], data)
    check_same(path, differences)
