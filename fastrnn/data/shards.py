"""Strips in shards: a few large files instead of very many small ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastrnn.data.checks import OnError, positive_int
from fastrnn.data.dataset import StripDataset
from fastrnn.data.image import StripDecodeError
from fastrnn.data.npz_shards import NpzShard
from fastrnn.data.shard_samples import (
    Classes,
    Sample,
    Shard,
    ShardPaths,
    shard_classes,
    shard_paths,
)
from fastrnn.data.tar_shards import TarShard


class StripShards(StripDataset):
    """Strips in tar or NPZ shards, read from their places in the files when they are asked for.

    Works like a `StripFiles` on data that are larger than memory: opening reads the headers once
    and keeps about 120 bytes a strip, reading a strip opens its shard and reads its bytes. For the
    layouts see `TarShard` (that of WebDataset) and `NpzShard`; `write_shards` writes both.

    Parameters
    ----------
    paths
        Shards, ending in .tar or .npz: paths, patterns such as ``train-{000..012}.tar`` or
        ``train-*.npz``, or a folder of shards. Their order is the order of the strips.
    height, channels
        Rows and channels of every strip. Strips are scaled to ``height`` with their aspect kept.
        Tar shards can be read with 1 channel (grey) or 3 (RGB), NPZ shards with as many as they
        have.
    labels
        Class names in the order of the targets. By default those in ``labels.json`` beside the
        first shard; without this file the names found, sorted, or "0", "1", ... up to the
        largest class number found.
    on_error
        "raise": a shard or sample that is not as it should be raises at once, one with damaged
        pixels when it is asked for (a wrong pixel in an NPZ shard is not noticed, as its checksum
        is over all strips). "skip": everything is read and decoded once at the start; what is bad
        is left out and listed in `skipped`.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        The shards.
    keys : tuple of str
        Each strip's key in its shard.
    shard_numbers : numpy.ndarray
        ``[N]`` position in `paths` of each strip's shard.
    positions : numpy.ndarray
        ``[N]`` number of each strip among all samples of all shards, bad ones counted too: the
        ``indices`` of a `ShardStream` of the same shards.
    skipped : tuple of (pathlib.Path, str)
        What was left out: the shard, and a reason that names the sample.

    Raises
    ------
    StripDecodeError
        If a shard or a sample is not as it should be; names both.
    FileNotFoundError
        If a shard does not exist.
    ValueError
        If there are no shards, no good samples, or an argument is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.data.shard_writing import write_shards
    >>> folder = tempfile.TemporaryDirectory()
    >>> _ = write_shards(StripDigits("test", size=50), Path(folder.name) / "test", max_strips=20)
    >>> strips = StripShards(Path(folder.name) / "test")
    >>> strips, strips.paths[2].name, strips.keys[49]
    (StripShards(50 strips, height 28, 1 channel, 10 classes), 'strips-000002.tar', '00000049')
    >>> folder.cleanup()
    """

    def __init__(
        self,
        paths: ShardPaths,
        *,
        height: int = 28,
        channels: int = 1,
        labels: Sequence[str] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self._shards = open_shards(paths, height, channels, on_error)
        self.paths = tuple(shard.path for shard in self._shards)
        entries: list[tuple[int, Sample | StripDecodeError]] = []
        for number, entry in index_shards(self._shards, widths=True):
            if isinstance(entry, StripDecodeError) and on_error == "raise":
                raise entry
            entries.append((number, entry))
        found = {entry.label for _, entry in entries if isinstance(entry, Sample)}
        classes = shard_classes(labels, self.paths[0], found)

        kept: list[tuple[int, int, Sample, int]] = []
        skipped: list[tuple[Path, str]] = []
        for position, (number, entry) in enumerate(entries):
            try:
                shard = self._shards[number]
                sample, target = _checked(shard, entry, classes, decode=on_error == "skip")
                kept.append((position, number, sample, target))
            except StripDecodeError as error:
                if on_error == "raise":
                    raise
                skipped.append((error.path, error.reason))
        if not kept:
            path, reason = skipped[0]
            raise ValueError(f"no sample is good; the first: {path}: {reason}")
        positions, numbers, samples, targets = zip(*kept, strict=True)
        self.skipped = tuple(skipped)
        self.keys = tuple(sample.key for sample in samples)
        self.positions = np.array(positions, np.int64)
        self.shard_numbers = np.array(numbers, np.int64)
        self._places = np.array([(sample.offset, sample.size) for sample in samples], np.int64)
        super().__init__(
            labels=classes.names,
            targets=targets,
            lengths=[sample.width for sample in samples],
            height=height,
            channels=channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Read strip ``index`` from its place in its shard."""
        shard = self._shards[self.shard_numbers[index]]
        offset, size = self._places[index].tolist()
        return torch.from_numpy(shard.read(self.keys[index], offset, size, verify=False))


def open_shards(
    paths: ShardPaths, height: int, channels: int, on_error: OnError
) -> tuple[Shard, ...]:
    """Check the arguments that all readers of shards share; nothing is read yet."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error is {on_error!r}, but must be "raise" or "skip"')
    height, channels = positive_int("height", height), positive_int("channels", channels)
    shards: list[Shard] = []
    for path in shard_paths(paths):
        is_tar = path.suffix.lower() == ".tar"
        if is_tar and channels not in (1, 3):
            raise ValueError(
                f"channels is {channels}, but images in tar shards give 1 (grey) or 3 (RGB); "
                "NPZ shards hold any number"
            )
        shards.append((TarShard if is_tar else NpzShard)(path, height, channels))
    return tuple(shards)


def index_shards(
    shards: Sequence[Shard], *, widths: bool
) -> Iterator[tuple[int, Sample | StripDecodeError]]:
    """All samples of all shards in their order, or what is wrong with them.

    Parameters
    ----------
    shards
        The shards.
    widths
        Read the images' headers too.

    Yields
    ------
    number : int
        Position of the shard.
    entry : Sample or StripDecodeError
        As `Shard.index` gives it; an error also for a shard without any sample.
    """
    for number, shard in enumerate(shards):
        is_empty = True
        for entry in shard.index(widths=widths):
            is_empty = False
            yield number, entry
        if is_empty:
            yield number, shard.error("holds no samples")


def _checked(
    shard: Shard, entry: Sample | StripDecodeError, classes: Classes, *, decode: bool
) -> tuple[Sample, int]:
    """Return a sample with its target; StripDecodeError if anything is wrong with it."""
    if isinstance(entry, StripDecodeError):
        raise entry
    target = shard.target(entry, classes)
    if decode:
        shard.read(entry.key, entry.offset, entry.size, verify=True)
    return entry, target
