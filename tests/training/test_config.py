import dataclasses
import json
import re
from typing import Any

import pytest

from fastrnn.data.augment import PRESETS
from fastrnn.training import ConfidenceThreshold, KBest, SelfTrainingConfig, TrainingConfig


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs is 0, it should be at least 1"),
        ("epochs", 2.5, "epochs is 2.5, it should be an integer"),
        ("epochs", True, "epochs is True, it should be an integer"),
        ("learning_rate", 0.0, "learning_rate is 0.0, it should be greater than 0"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("learning_rate", "fast", "learning_rate is 'fast', it should be a number"),
        ("weight_decay", -1.0, "weight_decay is -1.0, it should be at least 0"),
        ("schedule", "linear", "schedule is 'linear', it should be one of cosine, onecycle, plat"),
        ("warmup", 1.0, "warmup is 1.0, it should be at least 0 and less than 1"),
        ("plateau_factor", 0.0, "plateau_factor is 0.0, it should be greater than 0 and less"),
        ("clip_norm", 0, "clip_norm is 0, it should be greater than 0"),
        ("clip_norm", float("inf"), "clip_norm is inf"),
        ("label_smoothing", 1.0, "label_smoothing is 1.0, it should be at least 0 and less"),
        ("class_weights", "equal", "class_weights is 'equal', it should be None, one of balanced,"),
        ("class_weights", [1.0, 2.0], "class_weights is [1.0, 2.0], it should be None, one of"),
        ("class_weights", (1.0, 0.0), "class_weights[1] is 0.0, it should be greater than 0"),
        ("augment", "light", "augment is 'light', it should be a StripAugmentation"),
        ("balanced_sampling", 1, "balanced_sampling is 1, it should be a bool"),
        ("num_workers", -1, "num_workers is -1, it should be at least 0"),
        ("accumulate", 0, "accumulate is 0, it should be at least 1"),
        ("amp", "float8", "amp is 'float8', it should be one of off, auto, bfloat16, float16"),
        ("patience", 0, "patience is 0, it should be at least 1"),
        ("monitor", "f1", "monitor is 'f1', it should be one of accuracy, loss"),
        ("ema_decay", 1.0, "ema_decay is 1.0, it should be greater than 0 and less than 1"),
        ("max_padded_steps", 0, "max_padded_steps is 0"),
        ("seed", -1, "seed is -1, it should be at least 0"),
        ("checkpoint_every_seconds", -1.0, "checkpoint_every_seconds is -1.0"),
    ],
)
def test_a_wrong_training_setting_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.0),
        ("threshold", -0.1),
        ("criterion", "best"),
        ("k_best", 0),
        ("max_iter", -1),
        ("patience", 0),
        ("labelled_share", 1.0),
        ("held_out_fraction", 0.0),
    ],
)
def test_a_wrong_self_training_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value!r}"):
        SelfTrainingConfig(**{name: value})


def test_rare_classes_are_made_up_for_once() -> None:
    with pytest.raises(ValueError, match="class_weights is 'sqrt' with balanced_sampling: both"):
        TrainingConfig(class_weights="sqrt", balanced_sampling=True)
    TrainingConfig(class_weights=(1.0, 2.0), balanced_sampling=True)


def test_settings_are_json_with_all_their_parts() -> None:
    config = TrainingConfig(augment=PRESETS["strong"], class_weights=(1.0, 2.0))
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    assert settings["augment"]["cutouts"] == PRESETS["strong"].cutouts
    assert settings["class_weights"] == [1.0, 2.0]


def test_settings_can_not_be_changed_unchecked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().epochs = -1  # type: ignore[misc]


def test_later_rounds_train_shorter_with_seeds_of_their_own() -> None:
    config = SelfTrainingConfig(training=TrainingConfig(epochs=9, learning_rate=0.01, seed=5))
    assert config.training_of(0) == config.training
    assert config.training_of(2) == TrainingConfig(epochs=2, learning_rate=0.01, seed=7)
    own = TrainingConfig(epochs=3, learning_rate=0.1)
    later = SelfTrainingConfig(fine_tuning=own).training_of(1)
    assert later == dataclasses.replace(own, seed=1)


def test_criteria_are_those_of_scikit_learn() -> None:
    assert SelfTrainingConfig().labeller() == ConfidenceThreshold(0.9)
    assert SelfTrainingConfig(threshold=0.7, keep_labels=True).labeller() == ConfidenceThreshold(
        0.7, keep=True
    )
    assert SelfTrainingConfig(criterion="k_best", k_best=3).labeller() == KBest(3)
