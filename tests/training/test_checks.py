from pathlib import Path
from typing import Any

import pytest
from torch import nn

from fastrnn.data import StripSubset
from fastrnn.data.augment import StripAugmentation
from fastrnn.training import CheckpointError, SelfTrainer, Trainer, TrainingConfig, evaluate
from fastrnn.training.checks import config_differences, data_differences, fingerprint


def refuse(model: nn.Module, data: Any, message: str, out_dir: Path, **changes: Any) -> None:
    """Expect an error before anything is written."""
    trainer = Trainer(model, TrainingConfig(**changes), out_dir=out_dir, progress=False)
    with pytest.raises(ValueError, match=message):
        trainer.fit(*data)
    assert not out_dir.exists()


def test_data_that_can_not_be_trained_on_are_refused(row_means, clusters, tmp_path) -> None:
    train = clusters(40, classes=3)
    out = tmp_path / "run"
    empty = StripSubset(train, [])
    partly = StripSubset(train, [0, 1, 2], targets=[0, 1, -1])
    one_class = StripSubset(train, [0, 3, 6])
    model = row_means(3)
    refuse(model, (empty,), "train has no strips", out)
    refuse(model, (partly,), r"train has 1 strip without a label \(the first is number 2\)", out)
    refuse(model, (one_class,), "at least two classes, found one: 'class 0'", out)
    refuse(model, (train, empty), "validation has no strips", out)
    refuse(model, (train, partly), "validation has 1 strip without a label", out)
    two = clusters(10)
    refuse(model, (train, two), "validation has labels .'class 0', 'class 1'., but train", out)
    tall = clusters(9, classes=3, height=9)
    refuse(model, (train, tall), "validation has height 9, but train has 6", out)
    refuse(row_means(4), (train,), "gives 4 classes, but the dataset has 3 labels", out)
    message = "class_weights has 2 numbers, but train has 3 labels"
    refuse(model, (train,), message, out, class_weights=(1.0, 2.0))
    tall = StripAugmentation(shift_rows=4)
    refuse(model, (train,), "shift_rows is 4, but must be less than half", out, augment=tall)
    refuse(model, (train,), "schedule='plateau' needs a validation set", out, schedule="plateau")
    refuse(model, (train,), "patience needs a validation set", out, patience=2)
    refuse(model.requires_grad_(False), (train,), "no parameter that requires a gradient", out)


def test_something_else_than_model_settings_or_strips_is_named(row_means, clusters) -> None:
    train, model, config = clusters(9, classes=3), row_means(3), TrainingConfig(epochs=1)
    cases = [
        ((None, config), (train,), "model is of type NoneType, but must be a Module"),
        ((type(model), config), (train,), "model is a class, but must be a Module"),
        ((model, {"epochs": 1}), (train,), "config is of type dict, but must be a TrainingConfig"),
        ((model, config), ([1, 2],), "train is of type list, but must be a StripDataset"),
        ((model, config), (train, "strips/"), "validation is of type str, but must be a"),
    ]
    for made, fitted, message in cases:
        with pytest.raises(TypeError, match=message):
            Trainer(*made, progress=False).fit(*fitted)
    with pytest.raises(TypeError, match="dataset is of type list, but must be a StripDataset"):
        evaluate(model, [1])
    with pytest.raises(TypeError, match="dataset is of type list, but must be a StripDataset"):
        SelfTrainer(model, progress=False).fit([1])
    with pytest.raises(TypeError, match="config is of type TrainingConfig, but must be a Self"):
        SelfTrainer(model, config)


def test_other_data_are_named_at_a_resume(row_means, clusters, tmp_path: Path) -> None:
    train, validation = clusters(40, classes=3), clusters(30, classes=3, seed=1)
    trainer = Trainer(row_means(3), TrainingConfig(epochs=1), out_dir=tmp_path, progress=False)
    trainer.fit(train, validation)
    other_targets = StripSubset(train, range(40), targets=(train.targets + 1) % 3)
    cases = [
        ((clusters(41, classes=3), validation), r"train's number of strips differ \(41 now, 40"),
        ((other_targets, validation), "training: train's targets differ"),
        ((clusters(40, classes=3, seed=5), validation), "training: train's lengths differ"),
        ((train, None), "training: validation is given only in the checkpoint"),
    ]
    for changed, message in cases:
        with pytest.raises(CheckpointError, match=message):
            trainer.fit(*changed, resume=True)


def test_the_same_data_have_no_differences(clusters) -> None:
    assert data_differences("train", fingerprint(clusters(9)), fingerprint(clusters(9))) == []
    assert data_differences("validation", None, None) == []


def test_settings_within_settings_are_compared() -> None:
    saved = {"outer": 1, "part": {"inner": 2, "free": 3}, "optional": None}
    now = {"outer": 1, "part": {"inner": 5, "free": 6}, "optional": {"inner": 2}}
    assert config_differences(saved, saved) == []
    assert config_differences(saved, now, {"free"}) == [
        "part.inner is 5 now and 2 in the checkpoint",
        "optional is {'inner': 2} now and None in the checkpoint",
    ]
