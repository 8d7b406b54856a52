"""Checks of a training's data before any work, and of a checkpoint's against today's."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from torch import nn

from fastrnn.data import UNLABELLED, StripDataset, StripSubset, require_classes
from fastrnn.data.augment import StripAugmented
from fastrnn.data.checks import check_instance, counted
from fastrnn.training.config import TrainingConfig
from fastrnn.training.evaluation import check_num_classes, predict_logits


def check_labelled(name: str, dataset: StripDataset) -> None:
    """Raise ValueError if the dataset is empty or has an unlabelled strip."""
    if len(dataset) == 0:
        raise ValueError(f"{name} has no strips")
    unlabelled = np.flatnonzero(dataset.targets == UNLABELLED)
    if len(unlabelled):
        raise ValueError(
            f"{name} has {counted(len(unlabelled), 'strip')} without a label (the first is number "
            f"{unlabelled[0]}); it should have labelled strips only"
        )


def check_same_kind(train: StripDataset, validation: StripDataset) -> None:
    """Raise ValueError unless both datasets have the same labels, height and channels."""
    for name in ("labels", "height", "channels"):
        ours, theirs = getattr(train, name), getattr(validation, name)
        if ours != theirs:
            raise ValueError(f"validation has {name} {theirs!r}, but train has {ours!r}")


def check_data(train: StripDataset, validation: StripDataset | None) -> None:
    """Raise ValueError if no model can be trained and judged on these strips.

    Raises
    ------
    TypeError
        If they are something else.
    """
    check_instance("train", train, StripDataset)
    if validation is not None:
        check_instance("validation", validation, StripDataset)
    check_labelled("train", train)
    require_classes(train)
    if validation is not None:
        check_labelled("validation", validation)
        check_same_kind(train, validation)


def check_training(
    model: nn.Module, config: TrainingConfig, train: StripDataset, validation: StripDataset | None
) -> None:
    """Raise ValueError if model, settings and data do not fit together.

    Raises
    ------
    TypeError
        If one of them is something else.
    """
    check_instance("model", model, nn.Module)
    check_instance("config", config, TrainingConfig)
    check_data(train, validation)
    if validation is None and config.needs_validation:
        reason = "schedule='plateau'" if config.schedule == "plateau" else "patience"
        raise ValueError(f"{reason} needs a validation set, validation is None")
    weights = config.class_weights
    if isinstance(weights, tuple) and len(weights) != len(train.labels):
        raise ValueError(
            f"class_weights has {len(weights)} numbers, but train has {len(train.labels)} labels"
        )
    if config.augment is not None:
        StripAugmented(train, config.augment, seed=0, epoch=0)  # checks that they fit
    check_num_classes(predict_logits(model, StripSubset(train, [0])), train.labels)


def fingerprint(dataset: StripDataset | None) -> dict[str, Any] | None:
    """Return what tells one dataset from another without reading its strips."""
    if dataset is None:
        return None
    return {
        "number of strips": len(dataset),
        "labels": list(dataset.labels),
        "height": dataset.height,
        "channels": dataset.channels,
        "targets": hashlib.sha256(dataset.targets.tobytes()).hexdigest(),
        "lengths": hashlib.sha256(dataset.lengths.tobytes()).hexdigest(),
    }


def architecture(model: nn.Module) -> dict[str, Any]:
    """Return what tells one model from another beside its weights, if it has a `config`."""
    config = getattr(model, "config", None)
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}


def model_differences(saved: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Return in words what differs between a model and the `architecture` of another one."""
    return config_differences({"model": saved}, {"model": architecture(model)})


def pixels_digest(dataset: StripDataset, sample: int = 32) -> str:
    """Return what tells the pixels of some strips, evenly chosen, from others."""
    digest = hashlib.sha256()
    for index in np.linspace(0, len(dataset) - 1, min(sample, len(dataset))).astype(int).tolist():
        digest.update(dataset[index][0].numpy().tobytes())
    return digest.hexdigest()


def data_differences(
    name: str, saved: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> list[str]:
    """Return in words what differs between two fingerprints."""
    if saved is None or now is None:
        if saved is now:
            return []
        given = "now" if saved is None else "in the checkpoint"
        return [f"{name} is given only {given}"]
    found = []
    for key, value in now.items():
        if saved.get(key) == value:
            continue
        words = f"{name}'s {key} differ"
        if key not in ("targets", "lengths", "pixels"):
            words += f" ({value!r} now, {saved.get(key)!r} in the checkpoint)"
        found.append(words)
    return found


def config_differences(
    saved: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()
) -> list[str]:
    """Return in words which settings differ, those in `free` and in parts of settings left out."""
    found = []
    for key, value in now.items():
        if saved.get(key) == value or key in free:
            continue
        if isinstance(value, Mapping) and isinstance(saved.get(key), Mapping):
            parts = config_differences(saved[key], value, free)
            found += [f"{key}.{words}" for words in parts]
            continue
        words = f"{key} is {value!r} now and {saved.get(key)!r} in the checkpoint"
        if key == "epochs" and now["schedule"] != "plateau":
            words += (
                f" (the {now['schedule']} schedule spans all epochs: another number changes the "
                f"learning rates that were used already)"
            )
        found.append(words)
    return found
