"""What ``fastrnn tune --set`` says, checked before any trial."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastrnn.cli.errors import CommandError
from fastrnn.cli.models import ModelName, check_setting_type, known_settings
from fastrnn.data.augment import PRESETS
from fastrnn.data.reading import StripReader
from fastrnn.training import Choice, Range, SearchSpace, TrainingConfig
from fastrnn.training.search_space import parse_setting
from fastrnn.training.trial_config import TRAINING_FIELDS, check_training_types

_MODEL = "model"


def default_space(model: ModelName) -> tuple[str, ...]:
    """Return what is tried if nothing is said, as the command line would have it."""
    rates = "0.003,0.01" if model is ModelName.LSTM else "0.0005,0.002"
    if model is ModelName.CNN:
        return ("conv_features=64,96,128", "dropout=0.1,0.3", f"learning_rate={rates}")
    return ("hidden_size=32,64,128", "num_layers=1,2", f"learning_rate={rates}")


def search_space(settings: Sequence[str], model: ModelName, config: TrainingConfig) -> SearchSpace:
    """Read what is to be tried.

    Parameters
    ----------
    settings
        As the command line has them.
    model
        The model whose settings they are, if they don't say which models are tried.
    config
        How trials are trained, but for them.

    Raises
    ------
    CommandError
        If no trial could succeed: a setting is misspelt, given twice, or of a wrong type.
    """
    domains: dict[str, Choice | Range] = {}
    for text in settings:
        try:
            name, domain = parse_setting(text)
        except ValueError as error:
            raise CommandError(f"--set {error}") from error
        if name in domains:
            raise CommandError(f"--set {name} is given twice")
        domains[name] = domain
    space = SearchSpace(domains)
    models = _models(space, model)
    _check_names(space, models)
    try:
        check_training_types(config, space, PRESETS)
    except TypeError as error:
        raise CommandError(f"--set {error}") from error
    for name in space:
        for kind in models:
            if name in known_settings(kind):
                _check_types(name, space[name], kind)
    return space


def _models(space: SearchSpace, model: ModelName) -> list[ModelName]:
    tried = space[_MODEL] if _MODEL in space else Choice((model.value,))
    if not isinstance(tried, Choice) or not set(tried.values) <= set(ModelName):
        raise CommandError(f"--set model should be some of {', '.join(ModelName)}")
    return [ModelName(str(name)) for name in tried.values]


def _check_names(space: SearchSpace, models: Sequence[ModelName]) -> None:
    known = {setting for name in models for setting in known_settings(name)} | TRAINING_FIELDS
    for name in space:
        if name not in known | {_MODEL}:
            raise CommandError(
                f"--set {name}: neither the training nor the model has such a setting; they have "
                f"{', '.join(sorted(known))}"
            )


def _check_types(name: str, domain: Choice | Range, model: ModelName) -> None:
    for value in domain.samples:
        try:
            check_setting_type(model, name, value)
        except TypeError as error:
            raise CommandError(f"--set {error}{_hint(name, domain, model)}") from error


def _hint(name: str, domain: Choice | Range, model: ModelName) -> str:
    """Say how a value of several parts is written, where that would have done."""
    if isinstance(domain, Choice) and not any(isinstance(v, tuple) for v in domain.values):
        with suppress(TypeError):
            check_setting_type(model, name, domain.values)
            together = ",".join(map(str, domain.values))
            return f"; parentheses make one value of several: --set '{name}=({together})'"
    return ""


def about_trials(
    space: SearchSpace, model: ModelName, reader: StripReader | None
) -> dict[str, Any]:
    """Return what all trials have in common beside `TrainingConfig`, in JSON types."""
    about: dict[str, Any] = {"reading": None if reader is None else reader.as_json()}
    if _MODEL not in space:
        about["--model"] = model.value
    return about
