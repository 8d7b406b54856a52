"""Which model learns which task how.

The settings were chosen on strips that were held out of the training part, never on the test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastrnn.data import StripDataset, pixel_statistics
from fastrnn.models import (
    EncoderClassifier,
)
from fastrnn.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Parameters
    ----------
    task
        A key of `tasks.TASKS`.
    name
        What the table calls the model.
    model, settings
        Its class, and its settings beside the strips' shape.
    training
        How it is trained; the seed is set for each run.
    published
        What others report, and target: what is to be reached, both in words.
    """

    task: str
    name: str
    model: type[EncoderClassifier]
    settings: Mapping[str, Any]
    training: TrainingConfig
    published: str = ""
    target: float | None = None
    seeds: int = 3

    @property
    def key(self) -> str:
        """Its name in the result file."""
        return f"{self.task}/{self.name}"

    @property
    def has_lstm(self) -> bool:
        """Whether its speed depends on the LSTM."""
        return self.model is not StripCNN

    def build(self, strips: StripDataset) -> EncoderClassifier:
        """Make the model for some training strips, from torch's random numbers."""
        mean, std = pixel_statistics(strips)
        return self.model(
            strips.channels,
            strips.height,
            len(strips.labels),
            labels=strips.labels,
            pixel_mean=mean,
            pixel_std=std,
            **self.settings,
        )
