"""Dividing strips into parts in which every class has its share."""

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.data.checks import IntArray, int_array, natural_int
from fastrnn.data.dataset import UNLABELLED


def stratified_split(targets: ArrayLike, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Split strips at random into two parts, each class in proportion.

    Part a gets ``round(fraction * N)`` strips, and at least one of each class. Unlabelled strips
    (-1) count as a class of their own.

    Parameters
    ----------
    targets
        ``[N]`` class numbers.
    fraction
        Share of part a, above 0, at most 1.
    seed
        The split depends on it, ``targets`` and ``fraction`` only.

    Returns
    -------
    indices_a, indices_b : numpy.ndarray
        Ascending positions; together every position once.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> a, b = stratified_split([0, 0, 0, 0, 1, 1], 0.5, seed=0)
    >>> len(a), len(b)
    (3, 3)
    """
    values = int_array("targets", targets)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, but must be above 0 and at most 1")
    words = np.random.Philox(natural_int("seed", seed)).random_raw(len(values))
    classes, sizes = np.unique(values, return_counts=True)
    in_a = np.zeros(len(values), dtype=bool)
    for target, count in zip(classes, _shares(sizes, fraction), strict=True):
        members = np.flatnonzero(values == target)
        in_a[members[np.argsort(words[members])[:count]]] = True
    return np.flatnonzero(in_a), np.flatnonzero(~in_a)


def label_split(targets: ArrayLike, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Choose which strips keep their labels, for learning from few labels.

    Parameters
    ----------
    targets
        ``[N]`` class numbers; those that are -1 already stay unlabelled.
    fraction
        Share of the labelled strips that keep their labels, above 0, at most 1; at least one of
        each class does.
    seed
        As for `stratified_split`.

    Returns
    -------
    labelled, unlabelled : numpy.ndarray
        Ascending positions; together every position once.

    Examples
    --------
    >>> from fastrnn.data import StripDigits, StripSubset
    >>> digits = StripDigits("train", size=1000)
    >>> labelled, unlabelled = label_split(digits.targets, 0.1, seed=0)
    >>> pool = StripSubset(digits, unlabelled, targets=[-1] * len(unlabelled))
    >>> len(labelled), len(pool)
    (100, 900)
    """
    values = int_array("targets", targets)
    known = np.flatnonzero(values != UNLABELLED)
    chosen, _ = stratified_split(values[known], fraction, seed)
    labelled = known[chosen]
    return labelled, np.setdiff1d(np.arange(len(values)), labelled, assume_unique=True)


def _shares(sizes: IntArray, fraction: float) -> IntArray:
    """How many of each class: largest remainders up to the rounded total, but at least one."""
    exact = sizes * fraction
    shares: IntArray = np.floor(exact).astype(np.int64)
    missing = round(float(sizes.sum() * fraction)) - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    np.maximum(shares, 1, out=shares)
    return shares
