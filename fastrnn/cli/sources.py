"""Where strips come from: folders, CSV manifests, shards, or a built-in name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import typer

from fastrnn.cli.builtin_sources import BUILT_IN, is_built_in, open_built_in
from fastrnn.cli.errors import CommandError
from fastrnn.cli.reading import (
    Opened,
    Reading,
    check_options,
    reader_for,
    settled,
    shortened,
)
from fastrnn.cli.wording import as_typed
from fastrnn.data import (
    UNLABELLED,
    StripCache,
    StripConcat,
    StripDataset,
    StripShards,
    StripSubset,
    group_split,
    stratified_split,
)
from fastrnn.data.composition import DIGIT
from fastrnn.data.files import ImageReader
from fastrnn.data.groups import groups_by_path
from fastrnn.data.listing import listed_paths
from fastrnn.data.npz_shards import stored_shape
from fastrnn.data.reading import FileStrips
from fastrnn.data.shard_samples import holds_shards, shard_paths

Split = Literal["train", "test"]

_CACHE_BYTES = 1 << 30


def open_source(
    source: str,
    reading: Reading,
    *,
    split: Split = "train",
    size: int | None = None,
    labels: Sequence[str] | None = None,
) -> Opened:
    """Open a source of labelled strips.

    Parameters
    ----------
    source
        A folder, a CSV file, shards, or a built-in name.
    reading
        How strips are read.
    split
        Which part of a built-in source.
    size
        Number of strips of a built-in source, all by default. From others so many are chosen, each
        class in proportion.
    labels
        Class names in the order of a trained model; those of the source by default.

    Returns
    -------
    strips : StripDataset
        The strips.
    reading : Reading
        How strips of another source are read in the same way.

    Raises
    ------
    CommandError
        If there is no such source, an option does not fit what it holds, or it does not fit the
        model's height, channels or labels.
    """
    if is_built_in(source):
        strips, reading = open_built_in(source, reading, split, size)
    elif holds_shards(source):
        strips, reading = _open_shards(source, reading, labels)
    else:
        strips, reading = _open_files(Path(source), reading, labels)
    strips = _limited(strips, size, reading.seed)
    if labels is not None and tuple(labels) != strips.labels:
        raise CommandError(
            f"{source} has the classes {', '.join(strips.labels)}, "
            f"but the model knows {', '.join(labels)}"
        )
    return Opened(strips, reading)


def open_unlabelled(source: str, reading: Reading, labels: Sequence[str]) -> StripDataset:
    """Open a folder of files, a CSV file, shards or a single file as unlabelled strips.

    Labels in a CSV file or in shards are passed over.
    """
    path = Path(source)
    if holds_shards(source):
        strips, _ = _open_shards(source, reading, None)
    else:
        reader = reader_for(path, reading)
        if path.is_file() and path.suffix.lower() == ".csv":
            paths = listed_paths(path, reading.on_error)
        else:
            paths = [path] if path.is_file() else reader.find(path)
        files = reader.open_files(paths, on_error=reading.on_error)
        _report_skipped(files)
        strips = files
    everything = np.arange(len(strips))
    return StripSubset(strips, everything, np.full(len(strips), UNLABELLED), labels=labels)


def split_off(
    dataset: StripDataset, share: float, seed: int, group_regex: str | None = None
) -> tuple[StripDataset, StripDataset]:
    """Split a validation part off; returns the rest and the part.

    Each class is in both in proportion; a class of a single strip stays in the rest, as what is
    never trained on can't be learned. With a regular expression, whole groups of files are split
    off instead; see `groups_by_path`.
    """
    if group_regex is not None:
        try:
            part, rest = group_split(groups_by_path(dataset, group_regex), share, seed)
        except ValueError as error:
            raise CommandError(f"--group-regex: {error}") from error
        return StripSubset(dataset, rest), StripSubset(dataset, part)
    part, _ = stratified_split(dataset.targets, share, seed)
    class_sizes = np.bincount(dataset.targets, minlength=len(dataset.labels))
    part = part[class_sizes[dataset.targets[part]] > 1]
    rest = np.setdiff1d(np.arange(len(dataset)), part)
    if not len(part):
        raise CommandError(
            "every class has a single labelled strip, so none can be split off for validation: "
            "give more strips, or --validation-share 0"
        )
    return StripSubset(dataset, rest), StripSubset(dataset, part)


def only_labelled(dataset: StripDataset) -> tuple[StripDataset, StripDataset | None]:
    """Divide a dataset into its labelled strips and, if there are any, its unlabelled ones."""
    unknown = dataset.targets == UNLABELLED
    if not unknown.any():
        return dataset, None
    if unknown.all():
        raise CommandError(f"none of the {len(dataset):,} strips has a label")
    labelled = StripSubset(dataset, np.flatnonzero(~unknown))
    return labelled, StripSubset(dataset, np.flatnonzero(unknown))


def joined(datasets: Sequence[StripDataset]) -> StripDataset:
    """One dataset out of several, without a wrapper around a single one."""
    return datasets[0] if len(datasets) == 1 else StripConcat(datasets)


def in_memory(dataset: StripDataset) -> StripDataset:
    """Decode all strips into memory if they take at most 1 GiB.

    Epochs then cost no decoding, and a damaged file is found before any work.
    """
    if int(dataset.lengths.sum()) * dataset.channels * dataset.height > _CACHE_BYTES:
        return dataset
    cache = StripCache(dataset)
    for index in range(len(cache)):
        cache.read_strip(index)
    return cache


def open_shards(
    source: str, height: int, channels: int, labels: Sequence[str] | None, reading: Reading
) -> StripShards:
    """Open shards, and report what is left out of them."""
    shards = StripShards(
        source, height=height, channels=channels, labels=labels, on_error=reading.on_error
    )
    _report_skipped(shards)
    return shards


def _open_shards(source: str, reading: Reading, labels: Sequence[str] | None) -> Opened:
    options = reading.options
    if reading.shape is None:
        check_options(options, "shards", source)
        first = shard_paths(source)[0]
        stored = stored_shape(first) if first.suffix.lower() == ".npz" else None
        channels = 3 if options.rgb else stored[0] if stored else 1
        height = options.height or (stored[1] if stored else DIGIT)
    else:
        height, channels = reading.shape
    shards = open_shards(source, height, channels, labels, reading)
    reader = reading.reader
    if reader is None and channels in (1, 3):
        reader = ImageReader(height, channels, None, options.max_width, reading.keep)
    elif reader is None and options.max_width is not None:
        raise CommandError(f"--max-width is for strips of 1 or 3 channels; {source} has {channels}")
    return settled(shortened(shards, reader), replace(reading, reader=reader))


def _open_files(path: Path, reading: Reading, labels: Sequence[str] | None) -> Opened:
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".csv"):
        what = "is a file, but not a CSV file" if path.exists() else "does not exist"
        raise CommandError(
            f"{path} {what}: give a folder with one folder of files per class, a CSV file with the "
            f"columns path and label, shards (.tar, .npz), or a built-in one: {', '.join(BUILT_IN)}"
        )
    reader = reader_for(path, reading)
    open_ = reader.open_folder if path.is_dir() else reader.open_manifest
    files = open_(path, labels=labels, on_error=reading.on_error)
    _report_skipped(files)
    return settled(files, replace(reading, reader=files.reader))


def _report_skipped(files: FileStrips | StripShards) -> None:
    for path, reason in files.skipped:
        typer.secho(as_typed(f"skipped {path}: {reason}"), fg="yellow", err=True)


def _limited(dataset: StripDataset, size: int | None, seed: int) -> StripDataset:
    if size is None or size >= len(dataset):
        return dataset
    chosen, _ = stratified_split(dataset.targets, size / len(dataset), seed)
    return StripSubset(dataset, chosen)
