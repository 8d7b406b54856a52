"""The models that commands build, by the names that their options use."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch

from fastrnn.cli.errors import CommandError
from fastrnn.data import StripDataset, pixel_statistics
from fastrnn.models import CNNLSTMClassifier, EncoderClassifier, StripClassifier, StripCNN


class ModelName(StrEnum):
    """What kind of model."""

    LSTM = "lstm"
    CNN_LSTM = "cnn-lstm"
    CNN = "cnn"


MODELS: dict[ModelName, type[EncoderClassifier]] = {
    ModelName.LSTM: StripClassifier,
    ModelName.CNN_LSTM: CNNLSTMClassifier,
    ModelName.CNN: StripCNN,
}


def build_model(
    name: str, strips: StripDataset, seed: int, **architecture: Any
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
    **architecture
        Its settings.

    Raises
    ------
    CommandError
        If there is no such model, or it has no such setting.
    """
    if name not in tuple(ModelName):
        raise CommandError(f"the model {name!r} is not one of {', '.join(ModelName)}")
    mean, std = pixel_statistics(strips)
    torch.manual_seed(seed)
    try:
        return MODELS[ModelName(name)](
            strips.channels,
            strips.height,
            len(strips.labels),
            labels=strips.labels,
            pixel_mean=mean,
            pixel_std=std,
            **architecture,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
