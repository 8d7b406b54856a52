"""Batches of strips of similar length, so that little of the work goes into padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, int_array, natural_int, positive_int
from fastrnn.data.dataset import StripDataset

_JITTER = 0.03  # lengths within about 3% of each other change places between epochs


@dataclass(frozen=True, eq=False)
class StripBatch:
    """Some strips of a dataset, padded to one width.

    Parameters
    ----------
    strips
        uint8 ``[B, C, H, W]``; row ``b`` is zero from column ``lengths[b]`` on.
    lengths
        int64 ``[B]`` valid columns.
    targets
        int64 ``[B]`` class numbers, -1 where unknown.
    indices
        int64 ``[B]`` positions in the dataset.
    """

    strips: Tensor
    lengths: Tensor
    targets: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.strips)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "StripBatch":
        """Copy the batch to a device; ``non_blocking`` helps after `pin_memory`."""
        return StripBatch(*(t.to(device, non_blocking=non_blocking) for t in self._tensors()))

    def pin_memory(self) -> "StripBatch":
        """Copy the batch to page-locked memory, so that copies to a GPU overlap with work."""
        return StripBatch(*(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


class StripBatches:
    """One epoch of batches, as `strip_batches` makes it; iterating again gives the same ones.

    Attributes
    ----------
    plan : list of numpy.ndarray
        The positions in the dataset of each batch.
    """

    def __init__(self, dataset: StripDataset, plan: list[IntArray]) -> None:
        self.dataset = dataset
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[StripBatch]:
        for indices in self.plan:
            yield collate(self.dataset, indices)


def strip_batches(
    dataset: StripDataset,
    *,
    max_padded_steps: int,
    shuffle: bool,
    seed: int = 0,
    epoch: int = 0,
) -> StripBatches:
    """Every strip of a dataset once, in batches of similar length.

    Parameters
    ----------
    dataset
        The strips.
    max_padded_steps
        Budget of a batch: strips times width of the widest. A wider strip is a batch of its own.
    shuffle
        Mix which strips of similar length meet in a batch, and the order of the batches.
        Otherwise the batches go from short to long; ``StripBatch.indices`` restores the order.
    seed, epoch
        Integers >= 0. The same pair gives the same batches, another epoch others.

    Returns
    -------
    StripBatches
        An iterable of `StripBatch` with a length.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> digits = StripDigits("test", size=100)
    >>> batches = strip_batches(digits, max_padded_steps=4096, shuffle=True, epoch=3)
    >>> sum(len(batch) for batch in batches)
    100
    """
    plan = plan_batches(
        dataset.lengths,
        max_padded_steps=max_padded_steps,
        shuffle=shuffle,
        seed=seed,
        epoch=epoch,
    )
    return StripBatches(dataset, plan)


def plan_batches(
    lengths: ArrayLike,
    *,
    max_padded_steps: int,
    shuffle: bool,
    seed: int = 0,
    epoch: int = 0,
) -> list[IntArray]:
    """Which strips go into which batch: `strip_batches` without the strips.

    Parameters
    ----------
    lengths
        ``[N]`` widths.
    max_padded_steps, shuffle, seed, epoch
        As for `strip_batches`.

    Returns
    -------
    list of numpy.ndarray
        Positions in ``lengths``, each once.

    Examples
    --------
    >>> [batch.tolist() for batch in plan_batches([5, 2, 9, 2], max_padded_steps=6, shuffle=False)]
    [[1, 3], [0], [2]]
    """
    widths = int_array("lengths", lengths)
    budget = positive_int("max_padded_steps", max_padded_steps)
    random = np.random.default_rng([natural_int("seed", seed), natural_int("epoch", epoch)])
    keys = widths * random.uniform(1, 1 + _JITTER, len(widths)) if shuffle else widths
    order = np.argsort(keys, kind="stable")
    ends = batch_ends(widths[order], budget)
    plan = np.split(order, ends[:-1]) if len(order) else []
    return [plan[k] for k in random.permutation(len(plan))] if shuffle else plan


def collate(dataset: StripDataset, indices: ArrayLike | Sequence[int]) -> StripBatch:
    """Put some strips of a dataset into one batch, padded with zeros on the right.

    Parameters
    ----------
    dataset
        The strips.
    indices
        ``[B]`` positions in it, at least one.

    Returns
    -------
    StripBatch
        The strips in the order of ``indices``.

    Raises
    ------
    ValueError
        If there are no indices, or a strip is not as wide as the dataset said.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> digits = StripDigits("test", size=10)
    >>> batch = collate(digits, [4, 2])
    >>> batch.strips.shape[-1] == batch.lengths.max(), batch.indices.tolist()
    (tensor(True), [4, 2])
    """
    positions = int_array("indices", indices)
    if not len(positions):
        raise ValueError("indices is empty; a batch needs at least one strip")
    lengths = dataset.lengths[positions]
    shape = (len(positions), dataset.channels, dataset.height, int(lengths.max()))
    pixels: NDArray[np.uint8] = np.zeros(shape, np.uint8)
    for row, (index, length) in enumerate(zip(positions.tolist(), lengths.tolist(), strict=True)):
        strip = dataset[index][0].numpy()
        if strip.shape != (*shape[1:3], length):
            raise ValueError(
                f"strip {index} has shape {strip.shape}, but the dataset said "
                f"{(*shape[1:3], length)}; has its file changed?"
            )
        pixels[row, :, :, :length] = strip
    return StripBatch(
        strips=torch.from_numpy(pixels),
        lengths=torch.from_numpy(lengths),
        targets=torch.from_numpy(dataset.targets[positions]),
        indices=torch.from_numpy(positions),
    )


def batch_ends(widths: IntArray, budget: int) -> list[int]:
    """Where each batch ends, if strips of these widths are taken one after the other."""
    ends: list[int] = []
    start, widest = 0, 0
    for at, width in enumerate(widths.tolist()):
        widest = max(widest, width)
        if at > start and (at + 1 - start) * widest > budget:
            ends.append(at)
            start, widest = at, width
    ends.append(len(widths))
    return _without_crumb(widths, budget, ends)


def _without_crumb(widths: IntArray, budget: int, ends: list[int]) -> list[int]:
    """Share the last two batches evenly, since a last batch of few strips gives a poor gradient."""
    if len(ends) < 2:
        return ends
    start = ends[-3] if len(ends) > 2 else 0
    middle = (start + ends[-1] + 1) // 2
    if middle < ends[-2] and (ends[-1] - middle) * int(widths[middle:].max()) <= budget:
        return [*ends[:-2], middle, ends[-1]]
    return ends
