"""Checks of arguments that several files share; each error names the argument."""

import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]

ValueRange = tuple[float, float]
"""Lowest and highest value of a scale."""

OnError = Literal["raise", "skip"]
"""What is done about files that can't be read."""


def positive_int(name: str, value: Any) -> int:
    """``value`` as an int of at least 1, or an error that names it."""
    return _int_from(name, value, 1)


def natural_int(name: str, value: Any) -> int:
    """``value`` as an int of at least 0, or an error that names it."""
    return _int_from(name, value, 0)


def _int_from(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, but must be an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but must be an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}, but must be at least {least}")
    return number


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise a TypeError that names the argument unless ``value`` is of this kind."""
    if not isinstance(value, kind):
        given = "a class" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise TypeError(f"{name} is {given}, but must be a {kind.__name__}")


def check_value_range(name: str, value: Any) -> ValueRange:
    """``value`` as two finite floats, the lower one first, or an error that names it."""
    try:
        if any(isinstance(end, bool | str) for end in value):
            raise TypeError
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, but must be a pair of numbers (low, high)") from None
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(f"{name} is {value!r}, but must be finite numbers (low, high), low < high")
    return low, high


def finite_number(name: str, value: Any) -> float:
    """``value`` as a finite float, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} is {value!r}, but must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but must be finite")
    return float(value)


def number_between(name: str, value: Any, least: float, most: float = math.inf) -> float:
    """``value`` as a finite float in ``[least, most]``, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} is {value!r}, but must be a number")
    if not (math.isfinite(value) and least <= value <= most):  # false for NaN too
        expected = f"in {least:g} .. {most:g}" if math.isfinite(most) else f"at least {least:g}"
        raise ValueError(f"{name} is {value}, but must be {expected}")
    return float(value)


def int_array(name: str, values: ArrayLike) -> IntArray:
    """``values`` as a new one-dimensional int64 array, or an error that names it."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, but must have one dimension")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} has dtype {array.dtype}, but must be integers")
    return array.astype(np.int64)


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """``labels`` as a tuple of different, non-empty strings, or an error that says which isn't."""
    if isinstance(labels, str):
        raise TypeError(f"labels is the string {labels!r}, but must be a sequence of class names")
    seen: set[str] = set()
    for number, label in enumerate(labels):
        if not isinstance(label, str):
            raise TypeError(f"labels[{number}] is {label!r}, but must be a string")
        if not label:
            raise ValueError(f"labels[{number}] is empty; an empty label means unlabelled")
        if label in seen:
            raise ValueError(f"labels[{number}] is {label!r}, which is in labels already")
        seen.add(label)
    return tuple(labels)


def check_range(name: str, values: IntArray, least: int, most: int | None) -> None:
    """Raise an error that names the first value outside ``least .. most``."""
    bad = values < least if most is None else (values < least) | (values > most)
    if bad.any():
        where = int(np.argmax(bad))
        expected = f"at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name}[{where}] is {values[where]}, but must be {expected}")


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for an error message, cut off after ``most``."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "(none)"


def as_path(name: str, value: Any) -> Path:
    """``value`` as a path, or an error that names it."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {value!r}, but must be a path")
    return Path(value)


def counted(count: int, noun: str) -> str:
    """Put a number before a noun.

    >>> counted(1, "strip"), counted(1200, "strip"), counted(0, "class")
    ('1 strip', '1,200 strips', '0 classes')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"
