"""What a tuning may choose from: values of named settings."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
Settings = dict[str, Value]


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Parameters
    ----------
    values
        At least one, all different.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a choice has no values; give at least one")
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ValueError(f"a choice has a value twice: {', '.join(map(str, self.values))}")

    @property
    def samples(self) -> tuple[Value, ...]:
        """Values of every type that may come."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A number between two others.

    Parameters
    ----------
    low, high
        Bounds, both possible; integers make it a range of integers.
    log
        Whether equal ratios are equally likely, as for learning rates; needs low > 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range must go up, but goes from {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must begin above 0, but begins at {self.low}")

    @property
    def whole(self) -> bool:
        """Whether it is a range of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def samples(self) -> tuple[Value, ...]:
        """Values of every type that may come."""
        return self.low, self.high


class SearchSpace:
    """The settings that a tuning may choose, and from what.

    Parameters
    ----------
    settings
        `Choice`, `Range`, or a list of values for each name. A value is a number, a string, True,
        False, or a tuple of these.

    Raises
    ------
    ValueError, TypeError
        If there are none, or something is neither.

    Examples
    --------
    >>> space = SearchSpace({"hidden_size": [32, 64], "learning_rate": Range(1e-3, 1e-2, log=True)})
    >>> list(space)
    ['hidden_size', 'learning_rate']
    >>> list(SearchSpace({"hidden_size": [32, 64], "num_layers": [1, 2]}).grid())[1]
    {'hidden_size': 32, 'num_layers': 2}
    """

    def __init__(self, settings: Mapping[str, Choice | Range | Sequence[Value]]) -> None:
        if not settings:
            raise ValueError("the search space is empty; give at least one setting")
        self._settings = {name: _as_domain(name, domain) for name, domain in settings.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __getitem__(self, name: str) -> Choice | Range:
        return self._settings[name]

    def __len__(self) -> int:
        return len(self._settings)

    def grid(self) -> Iterator[Settings]:
        """Every combination of choices.

        Raises
        ------
        ValueError
            If a setting is a range, which has no end of values.
        """
        domains = []
        for name, domain in self._settings.items():
            if isinstance(domain, Range):
                raise ValueError(
                    f"{name} is a range, from {domain.low} to {domain.high}; a grid needs a list "
                    "of values"
                )
            domains.append(domain.values)
        for values in itertools.product(*domains):
            yield dict(zip(self._settings, values, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Put the space into JSON types, by which one is told from another."""
        return {
            name: list(domain.values)
            if isinstance(domain, Choice)
            else {"low": domain.low, "high": domain.high, "log": domain.log}
            for name, domain in self._settings.items()
        }


def parse_setting(text: str) -> tuple[str, Choice | Range]:
    """Read a setting as it is written on a command line.

    Parameters
    ----------
    text
        ``name=a,b,c`` for a choice, ``name=(a,b),(c,d)`` for one of values with several parts;
        ``name=low..high`` for a range, logarithmic where the ends are positive and at least ten
        times apart.

    Raises
    ------
    ValueError
        If it is neither; says what was wrong.

    Examples
    --------
    >>> parse_setting("hidden_size=32,64")
    ('hidden_size', Choice(values=(32, 64)))
    >>> parse_setting("conv_channels=(8,16),(16,32)")
    ('conv_channels', Choice(values=((8, 16), (16, 32))))
    >>> parse_setting("learning_rate=1e-3..3e-2")
    ('learning_rate', Range(low=0.001, high=0.03, log=True))
    """
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name or not values.strip():
        raise ValueError(f"{text!r} should be name=value,value,... or name=low..high")
    low, dots, high = values.partition("..")
    if not dots:
        return name, Choice(parse_values(values))
    ends = parse_value(low), parse_value(high)
    for end in ends:
        if isinstance(end, bool | str):
            raise ValueError(f"{text!r}: a range goes from a number to a number, not {end!r}")
    a, b = float(ends[0]), float(ends[1])
    log = a > 0 and b / a >= 10
    return name, Range(*ends, log=log)  # type: ignore[arg-type]


def parse_values(text: str) -> tuple[Value, ...]:
    """Read values between commas; parentheses hold the parts of one value.

    >>> parse_values("8, (8,16), (32)")
    (8, (8, 16), (32,))
    """
    return tuple(_parse_item(item.strip()) for item in re.split(r",(?![^(]*\))", text))


def _parse_item(text: str) -> Value:
    parts = re.fullmatch(r"\(([^()]+)\)", text)
    if parts:
        return tuple(parse_value(part) for part in parts[1].removesuffix(",").split(","))
    if "(" in text or ")" in text:
        raise ValueError(f"{text!r}: parentheses hold the parts of one value, as in (8,16)")
    return parse_value(text)


def parse_value(text: str) -> Scalar:
    """Read true, false or a number as such; anything else is a string.

    >>> [parse_value(text) for text in ("3", "1e-3", "True", "mean")]
    [3, 0.001, True, 'mean']
    """
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_value(value: Any) -> Value:
    """Give a value its type back, which JSON does not keep: it has lists for tuples."""
    restored: Value = tuple(value) if isinstance(value, list) else value
    return restored


def _as_domain(name: str, domain: Choice | Range | Sequence[Value]) -> Choice | Range:
    if isinstance(domain, Choice | Range):
        return domain
    if isinstance(domain, str) or not isinstance(domain, Sequence):
        raise TypeError(f"{name} is {domain!r}; it should be a Choice, a Range or a list of values")
    try:
        return Choice(tuple(as_value(value) for value in domain))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
