"""Checks of a model's settings; each error names the setting."""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Sequence
from typing import Any


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`, or an error that names it."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        value = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
    return int(value)


def number(name: str, value: Any) -> float:
    """`value` as a finite float, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def probability(name: str, value: Any) -> float:
    """`value` as a float in [0, 1), or an error that names it."""
    share = number(name, value)
    if not 0 <= share < 1:
        raise ValueError(f"{name} must be in [0, 1), got {share}")
    return share


def boolean(name: str, value: Any) -> bool:
    """`value` if it is True or False, or an error that names it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`, or an error that names it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def integers(name: str, values: Any, low: int, high: int) -> tuple[int, ...]:
    """`values` as a tuple of at least one int from `low` to `high`, or an error that names it."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise TypeError(f"{name} must be a sequence of integers, got {values!r}")
    return tuple(integer(f"{name}[{i}]", value, low, high) for i, value in enumerate(values))


def json_object(name: str, value: Any) -> dict[str, Any]:
    """`value`, copied, if it is a dict of JSON types, or an error that names it."""
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, got {value!r}")
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} must be of JSON types, got {value!r} ({error})") from error
    return copy


def class_names(labels: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """`labels` as one different name per class; "0", "1", ... if they are None."""
    if labels is None:
        return tuple(str(index) for index in range(num_classes))
    if isinstance(labels, str):
        raise TypeError(f"labels must be a sequence of names, not the one string {labels!r}")
    names = tuple(labels)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"labels must be strings, got {name!r}")
    if len(names) != num_classes:
        raise ValueError(f"labels must name all {num_classes} classes, got {len(names)} names")
    if len(set(names)) != num_classes:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"labels must differ, got {twice!r} twice")
    return names
