"""How a model classifies a strip by its windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastrnn.models import checks

Combine = Literal["mean", "vote"]

MOST_COLUMNS = 2**24


@dataclass(frozen=True)
class WindowPlan:
    """How a strip is classified by its windows.

    Parameters
    ----------
    size
        Columns of a window, at least 1.
    stride
        Columns from one window's start to the next, 1 .. ``size``.
    combine
        What becomes of the windows' logits: "mean" takes their mean, with "vote" each window has
        one vote for a class.

    Raises
    ------
    ValueError, TypeError
        If a setting is wrong.

    Examples
    --------
    >>> WindowPlan(size=200, stride=100).combine
    'mean'
    >>> WindowPlan(size=200, stride=300)
    Traceback (most recent call last):
    ...
    ValueError: stride must be from 1 to 200, got 300
    """

    size: int
    stride: int
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        checks.integer("size", self.size, 1, MOST_COLUMNS)
        checks.integer("stride", self.stride, 1, self.size)
        checks.choice("combine", self.combine, get_args(Combine))
