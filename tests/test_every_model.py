"""Each kind of model learns, is evaluated, self-trains and predicts, on real digits."""

from typing import Any

import numpy as np
import pytest
import torch

from fastrnn.data import UNLABELLED, StripArrays, StripDigits
from fastrnn.deploy import Predictor
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    StripClassifier,
    StripCNN,
    load_bundle,
)
from fastrnn.models.bundle import MODELS
from fastrnn.training import SelfTrainer, SelfTrainingConfig, Trainer, TrainingConfig, evaluate

WIDEST, FRAME = 280, 24
LABELS = ("0", "1")

CONV = {"conv_channels": [8, 8], "conv_features": 16, "pooling": "mean+max"}
KINDS: dict[str, tuple[type[EncoderClassifier], dict[str, Any]]] = {
    "lstm": (StripClassifier, {"hidden_size": 16}),
    "light lstm": (
        StripClassifier,
        {
            "hidden_size": 16,
            "bidirectional": False,
            "coupled_gates": True,
            "recurrent_heads": 2,
            "stack": 2,
        },
    ),
    "cnn-lstm": (CNNLSTMClassifier, {"hidden_size": 16, **CONV}),
    "frames": (
        CNNLSTMClassifier,
        {"hidden_size": 16, "frames": True, "frame_width": FRAME, **CONV},
    ),
    "cnn": (StripCNN, {"depth": 1, **CONV}),
    **{
        f"{fusion} fusion": (
            FusionClassifier,
            {
                "hidden_size": 16,
                "fusion": fusion,
                "modalities": [("light", 1), ("dark", 1)],
                "modality_dropout": 0.0,
                **CONV,
            },
        )
        for fusion in ("early", "middle", "late")
    },
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def digits(count: int, *, channels: int = 1, split: str = "train") -> StripArrays:
    """Strips of whole frames that show a 0 or a 1; a second channel is their negative."""
    source = StripDigits(split)
    chosen = np.flatnonzero((source.targets < 2) & (source.lengths < WIDEST))[:count]
    cut = [source[i][0].numpy()[..., : source.lengths[i] // FRAME * FRAME] for i in chosen]
    strips = [np.concatenate([strip, 255 - strip])[:channels] for strip in cut]
    return StripArrays(strips, source.targets[chosen], LABELS)


def make(kind: str) -> EncoderClassifier:
    model_class, settings = KINDS[kind]
    torch.manual_seed(0)
    return model_class(channels_of(kind), 28, 2, labels=LABELS, dropout=0.0, **settings)


def channels_of(kind: str) -> int:
    return 2 if "fusion" in kind else 1


def test_every_registered_model_is_here():
    assert {model_class for model_class, _ in KINDS.values()} == set(MODELS.values())


@every_kind
def test_learns_and_is_evaluated(kind):
    model, strips = make(kind), digits(8, channels=channels_of(kind))
    before = evaluate(model, strips)
    config = TrainingConfig(epochs=25, learning_rate=0.02, max_padded_steps=1100)
    Trainer(model, config, progress=False).fit(strips)
    after = evaluate(model, strips)
    assert after.loss < 0.5 * before.loss
    assert after.accuracy == 1


@every_kind
def test_self_trains(kind):
    strips = digits(16, channels=channels_of(kind))
    hidden = strips.targets.copy()
    hidden[8:] = UNLABELLED
    some = StripArrays([strip.numpy() for strip, _ in strips], hidden, LABELS)
    config = SelfTrainingConfig(
        TrainingConfig(epochs=1, learning_rate=0.01), threshold=0.3, max_iter=1
    )
    result = SelfTrainer(make(kind), config, progress=False).fit(
        some, digits(8, channels=channels_of(kind), split="test"), true_targets=strips.targets
    )
    assert len(result.rounds) == 2
    assert result.rounds[1].selected == 8


@every_kind
def test_predicts_from_its_bundle(kind, tmp_path):
    model, strips = make(kind), digits(4, channels=channels_of(kind))
    model.save(tmp_path / "model")
    assert type(load_bundle(tmp_path / "model")) is KINDS[kind][0]
    pixels = [strips[i][0] for i in range(4)]
    predictions = Predictor(tmp_path / "model").predict(pixels)
    for strip, prediction in zip(pixels, predictions, strict=True):
        expected = model.eval().predict_proba(strip[None])[0].tolist()
        assert list(prediction.probabilities) == list(LABELS)
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-5)
