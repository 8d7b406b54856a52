"""Which part of something too long is kept."""

from typing import Literal, TypeVar, get_args

from fastrnn.data.checks import IntArray

Keep = Literal["head", "tail", "centre"]
"""Its first part, its last part, or the part in its middle."""

_Surplus = TypeVar("_Surplus", int, IntArray)


def check_keep(keep: str) -> None:
    """Raise a ValueError unless ``keep`` is one of `Keep`."""
    if keep not in get_args(Keep):
        raise ValueError(f'keep is {keep!r}, but must be "head", "tail" or "centre"')


def kept_start(surplus: _Surplus, keep: Keep) -> _Surplus:
    """Where the kept part begins, if so much in all is left out.

    >>> [kept_start(9, keep) for keep in ("head", "tail", "centre")]
    [0, 9, 4]
    """
    return {"head": 0 * surplus, "tail": surplus, "centre": surplus // 2}[keep]
