"""Where strips come from: a folder of class folders, a CSV manifest, or a built-in name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import typer

from fastrnn.cli.errors import CommandError
from fastrnn.data import (
    UNLABELLED,
    StripCache,
    StripConcat,
    StripDataset,
    StripDigits,
    StripFiles,
    StripFolder,
    StripManifest,
    StripMNIST,
    StripSubset,
    find_images,
    stratified_split,
)
from fastrnn.data.checks import OnError
from fastrnn.data.composition import DIGIT

BUILT_IN = ("strip-mnist", "strip-digits")
SOURCE_HELP = (
    "A folder with one folder of images per class, a CSV file with the columns path and label, "
    "or strip-mnist or strip-digits."
)

Split = Literal["train", "test"]

_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Reading:
    """How strips are read.

    Attributes
    ----------
    height, channels
        Rows and channels of every strip.
    skip_bad
        Leave out files that can't be read, with a warning, instead of stopping.
    data_root
        Folder of the MNIST files, None for the usual places.
    seed
        Makes the built-in strips.
    """

    height: int = DIGIT
    channels: int = 1
    skip_bad: bool = False
    data_root: Path | None = None
    seed: int = 0


class _FileOptions(TypedDict):
    height: int
    channels: int
    on_error: OnError


def open_source(
    source: str,
    reading: Reading,
    *,
    split: Split = "train",
    size: int | None = None,
    labels: Sequence[str] | None = None,
) -> StripDataset:
    """Open a source of labelled strips.

    Parameters
    ----------
    source
        A folder, a CSV file, or one of `BUILT_IN`.
    reading
        How strips are read.
    split
        Which part of a built-in source.
    size
        Number of strips of a built-in source, all by default. From a folder or a CSV file so
        many are chosen, each class in proportion.
    labels
        Class names in the order of a trained model; those of the source by default.

    Raises
    ------
    CommandError
        If there is no such source, or it does not fit the model's height, channels or labels.
    """
    if source in BUILT_IN:
        dataset: StripDataset = _open_built_in(source, reading, split, size)
    else:
        files = _open_files(Path(source), reading, labels)
        _report_skipped(files)
        dataset = _limited(files, size, reading.seed)
    if labels is not None and tuple(labels) != dataset.labels:
        raise CommandError(
            f"{source} has the classes {', '.join(dataset.labels)}, "
            f"but the model knows {', '.join(labels)}"
        )
    return dataset


def open_unlabelled(source: str, reading: Reading, labels: Sequence[str]) -> StripDataset:
    """Open a folder of images, a CSV file or a single image as unlabelled strips.

    Labels in a CSV file are passed over.
    """
    path = Path(source)
    if path.suffix.lower() == ".csv" and path.is_file():
        known = StripManifest(path, **_file_options(reading))
        paths: Sequence[Path] = known.paths
        _report_skipped(known)
    else:
        paths = [path] if path.is_file() else find_images(path)
    files = StripFiles(paths, labels=labels, **_file_options(reading))
    _report_skipped(files)
    return files


def split_off(dataset: StripDataset, share: float, seed: int) -> tuple[StripDataset, StripDataset]:
    """Split a validation part off, each class in proportion; returns the rest and the part.

    A class of a single strip stays in the rest: what is never trained on can't be learned.
    """
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


def _open_built_in(
    source: str, reading: Reading, split: Split, size: int | None
) -> StripMNIST | StripDigits:
    if (reading.height, reading.channels) != (DIGIT, 1):
        raise CommandError(
            f"{source} has grey strips of {DIGIT} rows, but {reading.height} rows and "
            f"{reading.channels} channels were asked for"
        )
    if source == "strip-digits":
        return StripDigits(split, size=size, seed=reading.seed)
    return StripMNIST(reading.data_root, split, size=size, seed=reading.seed)


def _open_files(path: Path, reading: Reading, labels: Sequence[str] | None) -> StripFiles:
    if path.is_dir():
        return StripFolder(path, labels=labels, **_file_options(reading))
    if path.is_file() and path.suffix.lower() == ".csv":
        return StripManifest(path, labels=labels, **_file_options(reading))
    what = "is a file, but not a CSV file" if path.exists() else "does not exist"
    raise CommandError(
        f"{path} {what}: give a folder with one folder of images per class, a CSV file with the "
        f"columns path and label, or {' or '.join(BUILT_IN)}"
    )


def _file_options(reading: Reading) -> _FileOptions:
    return {
        "height": reading.height,
        "channels": reading.channels,
        "on_error": "skip" if reading.skip_bad else "raise",
    }


def _report_skipped(files: StripFiles) -> None:
    for path, reason in files.skipped:
        typer.secho(f"skipped {path}: {reason}", fg="yellow", err=True)


def _limited(dataset: StripDataset, size: int | None, seed: int) -> StripDataset:
    if size is None or size >= len(dataset):
        return dataset
    chosen, _ = stratified_split(dataset.targets, size / len(dataset), seed)
    return StripSubset(dataset, chosen)
