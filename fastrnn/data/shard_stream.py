"""Strips and batches straight out of shards, in the order of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data.arrays import StripArrays
from fastrnn.data.batching import StripBatch, collate, plan_batches
from fastrnn.data.checks import IntArray, OnError, natural_int, positive_int
from fastrnn.data.image import StripDecodeError
from fastrnn.data.shard_samples import (
    Classes,
    Label,
    Sample,
    Shard,
    ShardPaths,
    shard_classes,
)
from fastrnn.data.shards import index_shards, open_shards

DEFAULT_BUFFER = 1024  # strips


@dataclass(frozen=True, slots=True)
class _Strip:
    """A strip, and its number among all samples of all shards."""

    position: int
    pixels: NDArray[np.uint8]
    target: int


class ShardStream:
    """Strips read one after the other from tar or NPZ shards, with memory for a buffer of them.

    Files are read from front to back, so this suits slow disks and any amount of data. Opening
    reads the shards' headers once, to find labels, numbers of strips and what is wrong; nothing
    of it is kept but the number of samples in each shard. While iterating, one strip is in memory
    (or `shuffle_buffer` of them), in `batches` a buffer of strips and the batch; beside them there
    are some 200 bytes for each sample of one shard.

    A `StripShards` of the same shards offers access in any order, for a little memory for each
    strip; it is what `Trainer` takes.

    Parameters
    ----------
    paths, height, channels, labels
        As for `StripShards`.
    shuffle_buffer
        Strips that are held and drawn from at random while iterating, with the shards in random
        order; 0 for the order of the shards. `batches` holds as many, 1,024 if it is 0.
    seed, epoch
        Integers >= 0. The same pair gives the same order; `epoch` may be changed afterwards.
    on_error
        "raise": what is wrong in a header raises at once, damaged pixels when they are met. "skip":
        bad samples are left out, and listed in `skipped` once they were met.

    Attributes
    ----------
    labels : tuple of str
        Class names; target ``k`` means ``labels[k]``.

    Raises
    ------
    StripDecodeError, FileNotFoundError, ValueError, TypeError
        As for `StripShards`.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.data.shard_writing import write_shards
    >>> folder = tempfile.TemporaryDirectory()
    >>> _ = write_shards(StripDigits("test", size=50), Path(folder.name) / "test", max_strips=20)
    >>> stream = ShardStream(Path(folder.name) / "test" / "strips-{000000..000002}.tar")
    >>> sum(1 for strip, target in stream)
    50
    >>> sum(len(batch) for batch in stream.batches(max_padded_steps=4096, shuffle=True))
    50
    >>> folder.cleanup()
    """

    def __init__(
        self,
        paths: ShardPaths,
        *,
        height: int = 28,
        channels: int = 1,
        labels: Sequence[str] | None = None,
        shuffle_buffer: int = 0,
        seed: int = 0,
        epoch: int = 0,
        on_error: OnError = "raise",
    ) -> None:
        self.shuffle_buffer = natural_int("shuffle_buffer", shuffle_buffer)
        self.seed = natural_int("seed", seed)
        self.epoch = natural_int("epoch", epoch)
        self._shards = open_shards(paths, height, channels, on_error)
        self.paths = tuple(shard.path for shard in self._shards)
        self.height, self.channels = height, channels
        self._on_error = on_error
        self._classes, counts = self._survey(labels)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._skipped: dict[tuple[Path, str], None] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; target ``k`` means ``labels[k]``."""
        return self._classes.names

    @property
    def skipped(self) -> tuple[tuple[Path, str], ...]:
        """Bad samples that were met and left out: the shard, and a reason that names the sample."""
        return tuple(self._skipped)

    def __len__(self) -> int:
        """Count the samples in all shards, bad ones too: all ``indices`` are below it."""
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Give ``(strip, target)``, a uint8 tensor ``[C, H, W]`` and an integer, for each strip."""
        random = self._random()
        strips = self._read(self._order(random if self.shuffle_buffer else None))
        if self.shuffle_buffer:
            strips = _mixed(strips, self.shuffle_buffer, random)
        for strip in strips:
            yield torch.from_numpy(strip.pixels), strip.target

    def batches(self, *, max_padded_steps: int, shuffle: bool) -> Iterator[StripBatch]:
        """Every strip once, in batches of strips of similar length.

        A buffer is filled with strips, sorted by length and cut into batches, then the next one.

        Parameters
        ----------
        max_padded_steps
            Budget of a batch: strips times width of the widest. A wider strip is a batch of its
            own.
        shuffle
            Read the shards in random order, and mix the strips of a buffer as `strip_batches` does.
            Otherwise the batches of a buffer go from short to long.

        Yields
        ------
        StripBatch
            Its ``indices`` number the samples in the order of the shards, however they are read.
        """
        budget = positive_int("max_padded_steps", max_padded_steps)
        return self._batches(budget, shuffle)

    def _batches(self, budget: int, shuffle: bool) -> Iterator[StripBatch]:
        random = self._random()
        strips = self._read(self._order(random if shuffle else None))
        while held := list(islice(strips, self.shuffle_buffer or DEFAULT_BUFFER)):
            yield from self._cut(held, budget, int(random.integers(1 << 62)) if shuffle else None)
            held.clear()  # before the next ones are read

    def _cut(self, held: list[_Strip], budget: int, seed: int | None) -> Iterator[StripBatch]:
        """Batches of the strips in a buffer, mixed by a seed unless it is None."""
        strips = StripArrays(
            [strip.pixels for strip in held], [strip.target for strip in held], self.labels
        )
        positions = torch.tensor([strip.position for strip in held])
        plan = plan_batches(
            strips.lengths, max_padded_steps=budget, shuffle=seed is not None, seed=seed or 0
        )
        for indices in plan:
            batch = collate(strips, indices)
            yield replace(batch, indices=positions[batch.indices])

    def _survey(self, labels: Sequence[str] | None) -> tuple[Classes, IntArray]:
        """Find the classes and each shard's number of samples; raise what is not to be skipped."""
        counts = np.zeros(len(self._shards), np.int64)
        first_of: dict[Label, tuple[Shard, Sample]] = {}
        first_error: StripDecodeError | None = None
        for number, entry in index_shards(self._shards, widths=False):
            counts[number] += 1
            if isinstance(entry, Sample):
                first_of.setdefault(entry.label, (self._shards[number], entry))
            elif self._on_error == "raise":
                raise entry
            else:
                first_error = first_error or entry
        if not first_of:
            raise ValueError(f"no sample is good; the first: {first_error}")
        classes = shard_classes(labels, self.paths[0], first_of)
        if self._on_error == "raise":
            for shard, sample in first_of.values():
                shard.target(sample, classes)
        return classes, counts

    def _random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, natural_int("epoch", self.epoch)])

    def _order(self, random: np.random.Generator | None) -> list[int]:
        """Numbers of the shards in the order in which they are read."""
        numbers = np.arange(len(self._shards))
        return (numbers if random is None else random.permutation(numbers)).tolist()

    def _read(self, order: list[int]) -> Iterator[_Strip]:
        for number in order:
            shard, first = self._shards[number], int(self._starts[number])
            for position, (_, entry) in enumerate(index_shards([shard], widths=False), first):
                try:
                    strip = self._strip(shard, position, entry)
                except StripDecodeError as error:
                    if self._on_error == "raise":
                        raise
                    self._skipped[error.path, error.reason] = None
                else:
                    yield strip

    def _strip(self, shard: Shard, position: int, entry: Sample | StripDecodeError) -> _Strip:
        if isinstance(entry, StripDecodeError):
            raise entry
        target = shard.target(entry, self._classes)
        pixels = shard.read(entry.key, entry.offset, entry.size, verify=True)
        return _Strip(position, pixels, target)


def _mixed(strips: Iterator[_Strip], size: int, random: np.random.Generator) -> Iterator[_Strip]:
    """Draw each strip at random from a buffer, which is filled up from `strips`."""
    held = list(islice(strips, size))
    for strip in strips:
        place = int(random.integers(len(held)))
        drawn, held[place] = held[place], strip
        yield drawn
    for place in random.permutation(len(held)):
        yield held[place]
