"""Cross-validation, and splits that keep together what belongs together."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.data.checks import IntArray, int_array, natural_int, positive_int


def group_split(groups: ArrayLike, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Split strips at random into two parts without dividing a group.

    Strips of one speaker, patient or camera resemble each other; a model tested on people whom it
    was trained on looks better than it is.

    Parameters
    ----------
    groups
        ``[N]`` integers, the group of each strip; at least two groups.
    fraction
        Share of part a, above 0, below 1. The part is as near to ``fraction * N`` strips as whole
        groups allow, but each part has at least one group.
    seed
        Chooses among the splits that are equally near, which may be few where the groups' sizes
        differ.

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
    >>> a, b = group_split([0, 0, 0, 1, 1, 1, 2, 2, 2, 2], 0.4, seed=0)
    >>> a.tolist(), b.tolist()
    ([6, 7, 8, 9], [0, 1, 2, 3, 4, 5])
    """
    count, members, sizes = _groups(groups)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}, but must be above 0 and below 1")
    random = np.random.Philox(natural_int("seed", seed))
    shuffled = np.argsort(random.random_raw(count))
    chunks = _chunks(shuffled, sizes)
    chunks = [chunks[k] for k in np.argsort(random.random_raw(len(chunks)))]
    weights = [int(sizes[chunk].sum()) for chunk in chunks]
    chosen = _nearest_sum(weights, fraction * len(members))
    in_a = np.isin(members, np.concatenate([chunks[k] for k in chosen]))
    return np.flatnonzero(in_a), np.flatnonzero(~in_a)


def k_fold(targets: ArrayLike, folds: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Divide strips at random into folds, each of which is the test part once.

    Every class has its share of each fold, to within one strip, and the folds' sizes differ by at
    most one. Unlabelled strips (-1) count as a class of their own. A class of fewer strips than
    folds is missing in some folds.

    Parameters
    ----------
    targets
        ``[N]`` class numbers.
    folds
        How many, 2 .. N.
    seed
        The folds depend on it, ``targets`` and ``folds`` only.

    Yields
    ------
    train, test : numpy.ndarray
        Ascending positions; together every position once.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; at the call.

    Examples
    --------
    >>> for train, test in k_fold([0, 0, 0, 1, 1, 1], 3, seed=0):
    ...     print(len(train), len(test))
    4 2
    4 2
    4 2
    """
    values = int_array("targets", targets)
    folds = _check_folds(folds, len(values), "strips")
    words = np.random.Philox(natural_int("seed", seed)).random_raw(len(values))
    fold_of = np.empty(len(values), np.int64)
    # dealt like cards, class after class: consecutive cards go to different folds
    fold_of[np.lexsort((words, values))] = np.arange(len(values)) % folds
    return _each_fold(fold_of, folds)


def group_k_fold(
    groups: ArrayLike, folds: int | None = None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Divide strips into folds without dividing a group.

    Parameters
    ----------
    groups
        ``[N]`` integers, the group of each strip; at least two groups.
    folds
        How many, from 2 to the number of groups: the largest group goes first, always into the
        smallest fold. None leaves one group out at a time, in ascending order.

    Yields
    ------
    train, test : numpy.ndarray
        Ascending positions; together every position once.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; at the call.

    Examples
    --------
    >>> for train, test in group_k_fold([7, 7, 8, 9]):
    ...     print(train.tolist(), test.tolist())
    [2, 3] [0, 1]
    [0, 1, 3] [2]
    [0, 1, 2] [3]
    """
    count, members, sizes = _groups(groups)
    if folds is None:
        return _each_fold(members, count)
    folds = _check_folds(folds, count, "groups")
    fold_of_group = np.empty(count, np.int64)
    filled = np.zeros(folds, np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of_group[group] = np.argmin(filled)
        filled[fold_of_group[group]] += sizes[group]
    return _each_fold(fold_of_group[members], folds)


def _groups(groups: ArrayLike) -> tuple[int, IntArray, IntArray]:
    """How many groups, ``[N]`` the number of each strip's group, and the groups' sizes."""
    values = int_array("groups", groups)
    names, members, sizes = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"groups has {len(names)} different values, but needs at least 2")
    return len(names), members.astype(np.int64), sizes.astype(np.int64)


def _check_folds(folds: int, most: int, what: str) -> int:
    folds = positive_int("folds", folds)
    if not 2 <= folds <= most:
        raise ValueError(f"folds is {folds}, but must be at least 2 and at most {most} ({what})")
    return folds


def _each_fold(fold_of: IntArray, folds: int) -> Iterator[tuple[IntArray, IntArray]]:
    for fold in range(folds):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _chunks(groups: IntArray, sizes: IntArray) -> list[IntArray]:
    """Put groups of equal size into chunks of 1, 2, 4, ... groups and a rest.

    Some chunks together have any number of these groups, and there are few chunks to try.
    """
    by_size = groups[np.argsort(sizes[groups], kind="stable")]
    chunks: list[IntArray] = []
    for equal in np.split(by_size, np.flatnonzero(np.diff(sizes[by_size])) + 1):
        start = 0
        while start < len(equal):
            chunks.append(equal[start : 2 * start + 1])
            start = 2 * start + 1
    return chunks


def _nearest_sum(weights: list[int], wanted: float) -> list[int]:
    """Find which weights, neither none nor all, have the sum nearest to ``wanted``."""
    # the weight with which each sum was first reached; what it was reached from came earlier
    reached_by = np.full(sum(weights) + 1, -1)
    reached_by[0] = 0
    for number, weight in enumerate(weights):
        new = (reached_by[:-weight] >= 0) & (reached_by[weight:] < 0)
        reached_by[np.flatnonzero(new) + weight] = number
    sums = np.flatnonzero(reached_by >= 0)[1:-1]
    left = int(sums[np.argmin(np.abs(sums - wanted))])
    chosen: list[int] = []
    while left:
        chosen.append(int(reached_by[left]))
        left -= weights[chosen[-1]]
    return chosen
