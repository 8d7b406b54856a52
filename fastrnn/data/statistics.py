"""Mean and spread of a data set's pixels, by which a model normalises its input."""

from __future__ import annotations

import numpy as np

from fastrnn.data.dataset import StripDataset

# The spread of strips of one single colour is zero; a model divides by it.
_SMALLEST_STD = 1 / 255


def pixel_statistics(
    dataset: StripDataset, *, sample: int = 256, seed: int = 0
) -> tuple[float, float]:
    """Estimate mean and standard deviation of all pixels, scaled to [0, 1].

    Parameters
    ----------
    dataset : StripDataset
        At least one strip.
    sample : int, default 256
        Read only so many strips, chosen at random.
    seed : int, default 0
        Of that choice.

    Returns
    -------
    mean, std : float
        For `StripClassifier`'s ``pixel_mean`` and ``pixel_std``; the latter is at least 1/255.

    Raises
    ------
    ValueError
        If the data set is empty or `sample` is not positive.

    Examples
    --------
    >>> from fastrnn.data import StripArrays
    >>> strips = StripArrays([np.full((4, 6), 51, np.uint8), np.full((4, 2), 51, np.uint8)], [0, 1])
    >>> mean, std = pixel_statistics(strips)
    >>> round(mean, 3)
    0.2
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty; pixel statistics need at least one strip")
    if sample < 1:
        raise ValueError(f"sample is {sample}; it should be at least 1")
    chosen = np.arange(len(dataset))
    if sample < len(dataset):
        chosen = np.random.default_rng(seed).choice(len(dataset), sample, replace=False)
    counts = np.zeros(256, np.int64)  # of every grey level: exact, and nothing to keep in memory
    for index in chosen:
        strip, _ = dataset[int(index)]
        counts += np.bincount(strip.numpy().ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return mean, max(variance**0.5, _SMALLEST_STD)
