"""How a trial of a tuning is trained: a configuration, but for what its settings say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from fastrnn.data.augment import StripAugmentation
from fastrnn.training.config import TrainingConfig
from fastrnn.training.search_space import SearchSpace, Settings

TRAINING_FIELDS = frozenset(field.name for field in fields(TrainingConfig))

Augmentations = Mapping[str, StripAugmentation | None]
"""What the names stand for that a space may have for `augment`."""


def trial_config(
    config: TrainingConfig, settings: Settings, augmentations: Augmentations
) -> TrainingConfig:
    """Return how a trial is trained.

    Parameters
    ----------
    config
        What the settings don't say.
    settings
        Those of the trial; what is no field of `TrainingConfig` is passed over.
    augmentations
        By the names that `augment` may have.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or is out of range; names it.
    """
    training: dict[str, Any] = {
        name: value for name, value in settings.items() if name in TRAINING_FIELDS
    }
    if "augment" in training:
        name = training["augment"]
        if name not in augmentations:
            raise TypeError(f"augment is {name!r}, it should be one of {', '.join(augmentations)}")
        training["augment"] = augmentations[name]
    config = replace(config, **training)
    if config.patience is None:  # a trial counts by its best epoch: that one's weights are kept
        config = replace(config, patience=config.epochs)
    return config


def check_training_types(
    config: TrainingConfig, space: SearchSpace, augmentations: Augmentations
) -> None:
    """Raise TypeError if a value in a space is of a type that its training setting never has."""
    for name in TRAINING_FIELDS.intersection(space):
        for value in space[name].samples:
            # Whether a value fits the other settings is for each trial to find out.
            with suppress(ValueError):
                trial_config(config, {name: value}, augmentations)
