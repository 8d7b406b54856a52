"""Datasets made from other datasets: subset, concatenation, cache, truncation, windows."""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastrnn.data.batching import StripBatches, batch_ends
from fastrnn.data.checks import IntArray, check_range, int_array, positive_int
from fastrnn.data.dataset import StripDataset
from fastrnn.data.keeping import Keep, check_keep, kept_start
from fastrnn.data.windows import check_window, count_windows


class StripSubset(StripDataset):
    """A view of some strips of a dataset, if wanted with other targets.

    Parameters
    ----------
    dataset
        Where the strips come from; nothing is copied.
    indices
        ``[M]`` positions in ``dataset``; repetition is allowed.
    targets
        ``[M]`` targets that replace the dataset's own (pseudo-labels, or -1 to hide labels).
    labels
        Class names that replace the dataset's own, together with ``targets``.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> digits = StripDigits("test", size=100)
    >>> part = StripSubset(digits, [7, 3], targets=[-1, -1])
    >>> len(part), part[0][1], bool((part[1][0] == digits[3][0]).all())
    (2, -1, True)
    """

    def __init__(
        self,
        dataset: StripDataset,
        indices: ArrayLike,
        targets: ArrayLike | None = None,
        *,
        labels: Sequence[str] | None = None,
    ) -> None:
        if labels is not None and targets is None:
            raise ValueError("labels are given without the targets that they are for")
        self.dataset = dataset
        self.frame_width = dataset.frame_width
        self.indices = int_array("indices", indices)
        check_range("indices", self.indices, 0, len(dataset) - 1)
        super().__init__(
            labels=dataset.labels if labels is None else labels,
            targets=dataset.targets[self.indices] if targets is None else targets,
            lengths=dataset.lengths[self.indices],
            height=dataset.height,
            channels=dataset.channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Read it from the dataset behind."""
        return self.dataset.read_strip(int(self.indices[index]))


class StripConcat(StripDataset):
    """Several datasets one after the other, as one.

    Parameters
    ----------
    datasets
        At least one; all with the same ``labels``, ``height``, ``channels`` and ``frame_width``.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> both = StripConcat([StripDigits("train", size=30), StripDigits("test", size=20)])
    >>> len(both)
    50
    """

    def __init__(self, datasets: Sequence[StripDataset]) -> None:
        self.datasets = tuple(datasets)
        if not self.datasets:
            raise ValueError("datasets is empty; give at least one dataset")
        first = self.datasets[0]
        for number, other in enumerate(self.datasets):
            for name in ("labels", "height", "channels", "frame_width"):
                ours, theirs = getattr(first, name), getattr(other, name)
                if ours != theirs:
                    raise ValueError(
                        f"datasets[{number}].{name} is {theirs}, but datasets[0].{name} is {ours}; "
                        f"open both with the same {name}"
                    )
        self.frame_width = first.frame_width
        self._starts = np.cumsum([0] + [len(dataset) for dataset in self.datasets])
        super().__init__(
            labels=first.labels,
            targets=np.concatenate([dataset.targets for dataset in self.datasets]),
            lengths=np.concatenate([dataset.lengths for dataset in self.datasets]),
            height=first.height,
            channels=first.channels,
        )

    def place_of(self, index: int) -> tuple[int, int]:
        """Which dataset strip ``index`` is in, and its position there."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def read_strip(self, index: int) -> Tensor:
        """Read it from the dataset that it falls in."""
        number, inside = self.place_of(index)
        return self.datasets[number].read_strip(inside)


class StripCache(StripDataset):
    """Keeps every strip in memory after its first use, so that later epochs only copy it.

    One buffer of ``channels * height * sum(lengths)`` bytes; 20,000 strips of 28 x 280 take 157 MB.
    The system hands out its pages as strips are used. Processes that are forked share it: what one
    of them has read is there for all. A copy made by pickle starts empty.

    Parameters
    ----------
    dataset
        Where the strips come from.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> cached = StripCache(StripDigits("test", size=100))
    >>> bool((cached[5][0] == cached.dataset[5][0]).all())
    True
    """

    def __init__(self, dataset: StripDataset) -> None:
        super().__init__(
            labels=dataset.labels,
            targets=dataset.targets,
            lengths=dataset.lengths,
            height=dataset.height,
            channels=dataset.channels,
        )
        self.dataset = dataset
        self.frame_width = dataset.frame_width
        sizes = self.lengths * (self.channels * self.height)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._allocate()

    def _allocate(self) -> None:
        size = int(self._starts[-1])
        # Anonymous shared memory, which isn't taken from /dev/shm, small in many containers.
        memory = mmap.mmap(-1, max(1, size + len(self)))
        self._pixels = torch.frombuffer(memory, dtype=torch.uint8)[:size]
        self._filled = np.frombuffer(memory, dtype=bool)[size : size + len(self)]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_pixels", "_filled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._allocate()

    def read_strip(self, index: int) -> Tensor:
        """Copy it from memory, after reading it once."""
        slot = self._pixels[self._starts[index] : self._starts[index + 1]]
        if not self._filled[index]:
            strip = self.dataset.read_strip(index)
            slot.copy_(strip.reshape(-1))
            self._filled[index] = True
            return strip
        # a copy, so that a caller that changes its strip doesn't change the cache
        return slot.clone().view(self.channels, self.height, -1)


class StripTruncate(StripDataset):
    """Shortens every strip to at most ``max_width`` columns.

    Parameters
    ----------
    dataset
        Where the strips come from.
    max_width
        Columns to keep, at least 1.
    keep
        Which ones: the first ("head"), the last ("tail"), or those in the middle ("centre").

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> short = StripTruncate(StripDigits("test", size=100), max_width=200)
    >>> int(short.lengths.max()), short[0][0].shape[-1] <= 200
    (200, True)
    """

    def __init__(self, dataset: StripDataset, max_width: int, keep: Keep = "head") -> None:
        self.dataset = dataset
        self.max_width = positive_int("max_width", max_width)
        check_keep(keep)
        lengths = np.minimum(dataset.lengths, self.max_width)
        self._starts = kept_start(dataset.lengths - lengths, keep)
        super().__init__(
            labels=dataset.labels,
            targets=dataset.targets,
            lengths=lengths,
            height=dataset.height,
            channels=dataset.channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Read the columns to keep."""
        start = int(self._starts[index])
        return self.dataset.read_strip(index)[..., start : start + int(self.lengths[index])]


class StripWindows(StripDataset):
    """The windows of all strips, each with its strip's target.

    A strip's windows begin every ``stride`` columns and together cover it, as those of `windows`;
    the last one may be shorter than the others. Windows that are read one after the other come
    from a strip that is read once; in a shuffled order, put a `StripCache` behind.

    Parameters
    ----------
    dataset
        Where the strips come from.
    size
        Columns of a window, at least 1.
    stride
        Columns from one window's start to the next, 1 .. ``size``.
    drop_short
        Leave out windows of fewer than ``size`` columns, unless they are all there is of a strip.

    Attributes
    ----------
    strip_of : numpy.ndarray
        int64 ``[M]`` the position in ``dataset`` of each window's strip, ascending.
    starts : numpy.ndarray
        int64 ``[M]`` the window's first column there.

    Raises
    ------
    ValueError, TypeError
        If ``size`` or ``stride`` is wrong.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> parts = StripWindows(StripDigits("test", size=10), size=100, stride=50)
    >>> window, target = parts[1]
    >>> parts.strip_of[1], parts.starts[1], tuple(window.shape)
    (np.int64(0), np.int64(50), (1, 28, 100))
    """

    strip_of: IntArray
    starts: IntArray

    def __init__(
        self, dataset: StripDataset, size: int, stride: int, *, drop_short: bool = False
    ) -> None:
        self.dataset = dataset
        self.size, self.stride = check_window(size, stride)
        if dataset.frame_width and not (
            self.size % dataset.frame_width or self.stride % dataset.frame_width
        ):
            self.frame_width = dataset.frame_width
        counts = count_windows(dataset.lengths, self.size, self.stride)
        strip_of = np.repeat(np.arange(len(dataset)), counts)
        numbers = np.arange(len(strip_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = numbers * self.stride
        lengths = np.minimum(self.size, dataset.lengths[strip_of] - starts)
        if drop_short:
            kept = (lengths == self.size) | (starts == 0)
            strip_of, starts, lengths = strip_of[kept], starts[kept], lengths[kept]
        self.strip_of, self.starts = strip_of, starts
        self._last: tuple[int, Tensor] | None = None
        super().__init__(
            labels=dataset.labels,
            targets=dataset.targets[strip_of],
            lengths=lengths,
            height=dataset.height,
            channels=dataset.channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Copy the window's columns from its strip."""
        number, start = int(self.strip_of[index]), int(self.starts[index])
        last = self._last  # once, since another thread may change it
        if last is None or last[0] != number:
            last = self._last = (number, self.dataset.read_strip(number))
        # a copy, so that a caller that changes its window doesn't change the others
        return last[1][..., start : start + int(self.lengths[index])].clone()

    def batches(self, *, max_padded_steps: int) -> StripBatches:
        """All windows in batches that keep those of a strip together, short strips first.

        Parameters
        ----------
        max_padded_steps
            Budget of a batch: windows times width of the widest.
        """
        budget = positive_int("max_padded_steps", max_padded_steps)
        order = np.lexsort((self.starts, self.strip_of, self.dataset.lengths[self.strip_of]))
        ends = batch_ends(self.lengths[order], budget)
        return StripBatches(self, np.split(order, ends[:-1]) if len(order) else [])
