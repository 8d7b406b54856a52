"""The models that commands build, by the names that their options use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from enum import StrEnum
from typing import Any

import torch

from fastrnn.cli.errors import CommandError
from fastrnn.data import StripDataset, pixel_statistics
from fastrnn.data.reading import StripReader
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    StripClassifier,
    StripCNN,
)


class ModelName(StrEnum):
    """What kind of model."""

    LSTM = "lstm"
    CNN_LSTM = "cnn-lstm"
    CNN = "cnn"
    FUSION = "fusion"


MODELS: dict[ModelName, type[EncoderClassifier]] = {
    ModelName.LSTM: StripClassifier,
    ModelName.CNN_LSTM: CNNLSTMClassifier,
    ModelName.CNN: StripCNN,
    ModelName.FUSION: FusionClassifier,
}

# What the strips decide on.
_BY_STRIPS = {"in_channels", "height", "num_classes", "frame_width", "modalities", "reader"}

_MODALITIES = {2: (("grey", 1), ("depth", 1)), 4: (("rgb", 3), ("depth", 1))}


def default_learning_rate(name: ModelName) -> float:
    """Learning rate at which a model learns from a few thousand strips, if none is given."""
    # At high rates, the first steps may make the features of a convolutional front nearly the same
    # all along the strip, and so they stay for hundreds of steps.
    return 5e-3 if name is ModelName.LSTM else 1e-3


def known_settings(name: ModelName) -> list[str]:
    """Names of the settings of a model that may be chosen."""
    known = [field.name for field in fields(MODELS[name].config_class)]
    return [setting for setting in known if setting not in _BY_STRIPS]


def check_setting_type(name: ModelName, setting: str, value: Any) -> None:
    """Raise TypeError if a setting of a model never has values of this type."""
    settings: dict[str, Any] = {"in_channels": 4, "height": 28, "num_classes": 2, setting: value}
    # Whether a value fits the other settings and the strips is for `build_model` to find out.
    with suppress(ValueError):
        MODELS[name].config_class(**settings)


def build_model(
    name: str,
    strips: StripDataset,
    seed: int,
    *,
    reader: StripReader | None = None,
    **architecture: Any,
) -> EncoderClassifier:
    """Build the classifier for some strips; the seed decides on its weights.

    Parameters
    ----------
    name
        One of `ModelName`.
    strips
        What it is to learn from: shape, classes, mean and spread of the pixels.
    seed
        Of its weights.
    reader
        How files become such strips; the model keeps it.
    **architecture
        Its settings.

    Raises
    ------
    CommandError
        If there is no such model, it has no such setting, or it is not for such strips.
    """
    if name not in tuple(ModelName):
        raise CommandError(f"the model {name!r} is not one of {', '.join(ModelName)}")
    kind = ModelName(name)
    settings = _by_strips(kind, strips, architecture) | architecture
    mean, std = pixel_statistics(strips)
    torch.manual_seed(seed)
    try:
        return MODELS[kind](
            strips.channels,
            strips.height,
            len(strips.labels),
            labels=strips.labels,
            reader=None if reader is None else reader.as_json(),
            **{"pixel_mean": mean, "pixel_std": std} | settings,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


def _by_strips(
    kind: ModelName, strips: StripDataset, architecture: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings that follow from the strips."""
    if kind is ModelName.CNN_LSTM and strips.frame_width and architecture.get("frames", True):
        return {"frames": True, "frame_width": strips.frame_width}
    if kind is not ModelName.FUSION:
        return {}
    if strips.channels not in _MODALITIES:
        raise CommandError(
            f"--model fusion is for pictures with depth, of 2 or 4 channels; these strips have "
            f"{strips.channels}"
        )
    return {"modalities": _MODALITIES[strips.channels]}
