"""Looking through all strips of a data set for what training would trip over."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import as_path
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.image import StripDecodeError
from fastrnn.data.inspect_sources import Look, mode_of, parts_of
from fastrnn.data.reading import FileStrips
from fastrnn.data.report import DatasetReport, SeenPart, SeenStrip, make_report
from fastrnn.data.shards import StripShards

OnStrip = Callable[[int, int], None]


def inspect_dataset(
    datasets: StripDataset | Mapping[str, StripDataset], *, on_strip: OnStrip | None = None
) -> DatasetReport:
    """Look through every strip of one or several datasets.

    Parameters
    ----------
    datasets
        A dataset, or several by the name of their part, the training part first.
    on_strip
        Called after each strip with the number of those done and of all.

    Returns
    -------
    DatasetReport
        Sizes are those after scaling.

    Raises
    ------
    ValueError
        If there is no dataset.

    Examples
    --------
    >>> from fastrnn.data import StripDigits, StripSubset
    >>> digits = StripDigits("train", size=40)
    >>> report = inspect_dataset({"train": digits, "test": StripSubset(digits, [3, 4, 5])})
    >>> report.shared
    (('train', 'test', 3),)
    >>> [warning for warning in report.warnings if "both" in warning]
    ['3 strips are in both train and test, for instance strip 3 and strip 0']
    """
    named = {"data": datasets} if isinstance(datasets, StripDataset) else dict(datasets)
    if not named:
        raise ValueError("datasets is empty; give at least one")
    progress = _Progress(sum(map(len, named.values())), on_strip)
    parts: list[SeenPart] = []
    for part_name, dataset in named.items():
        parts.append(part := SeenPart(part_name, dataset.labels))
        if isinstance(dataset, FileStrips | StripShards):
            part.unreadable.extend((str(path), reason) for path, reason in dataset.skipped)
        mode = mode_of(dataset.channels)
        for index in range(len(dataset)):
            name = _strip_name(dataset, index)
            try:
                strip, target = dataset[index]
            except StripDecodeError as error:
                part.unreadable.append((name, error.reason))
            else:
                label = None if target == UNLABELLED else dataset.labels[target]
                part.strips.append(_seen(name, label, Look(mode, strip.numpy())))
            progress.step()
    return make_report(parts)


def inspect_source(
    source: str | os.PathLike[str],
    *,
    against: Iterable[str | os.PathLike[str]] = (),
    on_strip: OnStrip | None = None,
) -> DatasetReport:
    """Look through every file of whatever can be trained on.

    If all folders in a folder are called train, validation (valid, val) or test, each is a part
    with class folders of its own. A part without class folders is taken for unlabelled files, and
    so is a folder ``unlabelled`` among class folders, as `export_strips` makes it.

    Parameters
    ----------
    source
        A folder of class folders, as for `StripFolder`, with images, sounds, videos, or pictures
        with depth maps; a CSV file, as for `StripManifest`; or shards, as for `StripShards`.
    against
        Other sources, whose strips should not be in the first.
    on_strip
        As for `inspect_dataset`.

    Returns
    -------
    DatasetReport
        Of images, those in shards too, sizes and modes are those in the files; sounds and videos
        have the columns and rows that they are read with by default. Copies are strips that look
        the same: images decoded to 8 bits, upright and on white paper, as all readers of strips do,
        with the same depths where they have depth maps.

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    ValueError
        If a source mixes kinds of files or has none, is malformed, or is given twice.
    ModuleNotFoundError
        If a library is missing that is needed to read it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastrnn.data import StripDigits, export_strips
    >>> folder = tempfile.TemporaryDirectory()
    >>> for part in ("train", "test"):
    ...     _ = export_strips(StripDigits(part, size=40), Path(folder.name) / part)
    >>> report = inspect_source(folder.name)
    >>> [(part.name, part.strips) for part in report.parts], report.copies
    ([('train', 40), ('test', 40)], ())
    >>> folder.cleanup()
    """
    sources = [as_path("source", path) for path in (source, *against)]
    for number, path in enumerate(sources):
        if any(_is_same(path, other) for other in sources[:number]):
            raise ValueError(f"{path} is given twice")
    found = [part for path in sources for part in parts_of(path, alone=len(sources) == 1)]
    progress = _Progress(sum(len(items) for _, items in found), on_strip)
    for part, items in found:
        for item in items:
            try:
                part.strips.append(_seen(item.name, item.label, item.look()))
            except StripDecodeError as error:
                part.unreadable.append((item.name, error.reason))
            progress.step()
    return make_report([part for part, _ in found])


def _is_same(first: Path, second: Path) -> bool:
    there = first.exists() and second.exists()  # a pattern of shards is no file
    return first.samefile(second) if there else first == second


class _Progress:
    """Counts strips, and tells whoever wants to know."""

    def __init__(self, total: int, on_strip: OnStrip | None) -> None:
        self._done = 0
        self._total = total
        self._on_strip = on_strip

    def step(self) -> None:
        self._done += 1
        if self._on_strip is not None:
            self._on_strip(self._done, self._total)


def _seen(name: str, label: str | None, look: Look) -> SeenStrip:
    pixels = look.pixels
    blank = bool((pixels == pixels[:, :1, :1]).all())
    if len(pixels) == 1:  # grey is a copy of the same grey in three channels
        pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:]))
    seen: list[NDArray[Any]] = [pixels]
    if look.depth is not None:
        seen.append(look.depth.astype(np.float64))
        blank = blank and bool((look.depth == look.depth[:1, :1]).all())
    content = hashlib.blake2b(digest_size=16)
    for values in seen:
        content.update(repr(values.shape).encode())
        content.update(np.ascontiguousarray(values).data)
    return SeenStrip(
        name=name,
        label=label,
        width=pixels.shape[2],
        height=pixels.shape[1],
        mode=look.mode,
        digest=content.digest(),
        blank=blank,
    )


def _strip_name(dataset: StripDataset, index: int) -> str:
    if isinstance(dataset, FileStrips):
        return str(dataset.paths[index])
    if isinstance(dataset, StripShards):
        return f"{dataset.paths[dataset.shard_numbers[index]]}: {dataset.keys[index]}"
    return f"strip {index}"
