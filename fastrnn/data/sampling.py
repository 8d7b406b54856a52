"""What to do about classes of unequal sizes: weights for a loss, and balanced epochs."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import IntArray, check_range, int_array, natural_int, positive_int
from fastrnn.data.dataset import UNLABELLED

Scheme = Literal["balanced", "sqrt"]

_STREAM = 0x73616D70  # keeps these random numbers apart from others of the same seed


def class_weights(
    targets: ArrayLike, num_classes: int, scheme: Scheme = "balanced"
) -> NDArray[np.float64]:
    """Weights of the classes in a loss, larger for smaller classes.

    Parameters
    ----------
    targets
        ``[N]`` class numbers; those that are -1 are not counted.
    num_classes
        Number of classes K.
    scheme
        "balanced": inverse to the number of strips, so that every class has the same share of the
        loss. "sqrt": inverse to its square root, half way there.

    Returns
    -------
    numpy.ndarray
        float64 ``[K]``, with mean one over the strips, so that the loss keeps its size. A class
        without strips weighs as much as one with a single strip.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or no strip has a label.

    Examples
    --------
    >>> class_weights([0, 0, 0, 1], num_classes=2).round(3).tolist()
    [0.667, 2.0]
    >>> class_weights([0, 0, 0, 1], num_classes=2, scheme="sqrt").round(3).tolist()
    [0.845, 1.464]
    """
    num_classes = positive_int("num_classes", num_classes)
    values = int_array("targets", targets)
    check_range("targets", values, UNLABELLED, num_classes - 1)
    if scheme not in get_args(Scheme):
        raise ValueError(f'scheme is {scheme!r}, but must be "balanced" or "sqrt"')
    counts = np.bincount(_labelled(values), minlength=num_classes)
    weights = np.maximum(counts, 1) ** (-1.0 if scheme == "balanced" else -0.5)
    normalised: NDArray[np.float64] = weights * (counts.sum() / (weights @ counts))
    return normalised


def balanced_indices(targets: ArrayLike, *, seed: int, epoch: int) -> IntArray:
    """Which strips to see in an epoch, so that every class that occurs is seen equally often.

    There are as many as labelled strips. Of a large class another part is seen in each epoch;
    the strips of a small one are seen several times, each as often as the others, give or take
    one. Where the number can't be divided by that of the classes, some classes have one more.

    Parameters
    ----------
    targets
        ``[N]`` class numbers; strips whose target is -1 are left out.
    seed, epoch
        Integers >= 0; another one gives another choice.

    Returns
    -------
    numpy.ndarray
        int64 positions, ascending, for instance for a `StripSubset`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or no strip has a label.

    Examples
    --------
    >>> balanced_indices([0, 0, 0, 0, 0, 0, 1, 1], seed=0, epoch=0).tolist()[-4:]
    [6, 6, 7, 7]
    >>> from fastrnn.data import StripDigits, StripSubset
    >>> digits = StripDigits("train")
    >>> even = StripSubset(digits, balanced_indices(digits.targets, seed=0, epoch=5))
    >>> len(even), int(np.ptp(np.bincount(even.targets)))
    (1297, 1)
    """
    values = int_array("targets", targets)
    key = (natural_int("seed", seed), natural_int("epoch", epoch), _STREAM)
    known = _labelled(values)
    classes = np.unique(known)
    words = np.random.Philox(key).random_raw(len(values) + len(classes))
    each, rest = divmod(len(known), len(classes))
    wanted = np.full(len(classes), each)
    wanted[np.argsort(words[len(values) :])[:rest]] += 1
    chosen = []
    for target, count in zip(classes, wanted, strict=True):
        members = np.flatnonzero(values == target)
        order = members[np.argsort(words[members])]
        chosen.append(np.resize(order, count))
    return np.sort(np.concatenate(chosen))


def _labelled(values: IntArray) -> IntArray:
    known: IntArray = values[values != UNLABELLED]
    if not len(known):
        raise ValueError(f"targets has no label: all of its {len(values)} entries are -1")
    return known
