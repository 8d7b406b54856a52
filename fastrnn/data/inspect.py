"""Looking through all strips of a data set for what training would trip over."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import listed
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.export import UNLABELLED_FOLDER
from fastrnn.data.finding import existing_folder, images_in
from fastrnn.data.image import IMAGE_SUFFIXES, StripDecodeError, read_unscaled
from fastrnn.data.reading import FileStrips
from fastrnn.data.report import DatasetReport, SeenPart, SeenStrip, counted, make_report
from fastrnn.data.shards import StripShards

PART_FOLDERS = ("train", "validation", "valid", "val", "test")
_MODES = {1: "L", 3: "RGB"}

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
        mode = _MODES.get(dataset.channels, f"{dataset.channels} channels")
        for index in range(len(dataset)):
            name = _strip_name(dataset, index)
            try:
                strip, target = dataset[index]
            except StripDecodeError as error:
                part.unreadable.append((name, error.reason))
            else:
                label = None if target == UNLABELLED else dataset.labels[target]
                part.strips.append(_seen(name, label, mode, strip.numpy()))
            progress.step()
    return make_report(parts)


def inspect_folder(
    folder: str | os.PathLike[str],
    *,
    against: Iterable[str | os.PathLike[str]] = (),
    on_strip: OnStrip | None = None,
) -> DatasetReport:
    """Look through every image in a folder of class folders.

    If all folders in it are called train, validation (valid, val) or test, each is a part with
    class folders of its own. A part without class folders is taken for unlabelled images, and so is
    a folder ``unlabelled`` among class folders, as `export_strips` makes it.

    Parameters
    ----------
    folder
        The folder.
    against
        Other folders of the same kind, whose images should not be in the first.
    on_strip
        As for `inspect_dataset`.

    Returns
    -------
    DatasetReport
        Sizes and modes are those in the files. Copies are images that look the same when they are
        decoded to 8 bits, upright and on white paper, as all readers of strips do.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    ValueError
        If there are no images in a folder or part, or a folder is given twice.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits, export_strips
    >>> folder = tempfile.TemporaryDirectory()
    >>> for part in ("train", "test"):
    ...     _ = export_strips(StripDigits(part, size=40), Path(folder.name) / part)
    >>> report = inspect_folder(folder.name)
    >>> [(part.name, part.strips) for part in report.parts], report.copies
    ([('train', 40), ('test', 40)], ())
    >>> folder.cleanup()
    """
    folders = [Path(folder), *map(Path, against)]
    for number, path in enumerate(folders):
        if any(existing_folder(path).samefile(other) for other in folders[:number]):
            raise ValueError(f"folder {path} is given twice")
    found = [part for path in folders for part in _parts(path, alone=len(folders) == 1)]
    progress = _Progress(sum(len(images) for _, images in found), on_strip)
    for part, images in found:
        for path, label in images:
            try:
                mode, pixels = read_unscaled(path)
            except StripDecodeError as error:
                part.unreadable.append((str(path), error.reason))
            else:
                part.strips.append(_seen(str(path), label, mode, pixels))
            progress.step()
    return make_report([part for part, _ in found])


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


def _seen(name: str, label: str | None, mode: str, pixels: NDArray[np.uint8]) -> SeenStrip:
    _, height, width = pixels.shape
    content = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(pixels).data)
    return SeenStrip(
        name=name,
        label=label,
        width=width,
        height=height,
        mode=mode,
        digest=content.digest(),
        blank=bool((pixels == pixels[:, :1, :1]).all()),
    )


def _strip_name(dataset: StripDataset, index: int) -> str:
    if isinstance(dataset, FileStrips):
        return str(dataset.paths[index])
    if isinstance(dataset, StripShards):
        return f"{dataset.paths[dataset.shard_numbers[index]]}: {dataset.keys[index]}"
    return f"strip {index}"


_Images = list[tuple[Path, str | None]]


def _parts(folder: Path, *, alone: bool) -> list[tuple[SeenPart, _Images]]:
    """Parts of a folder with their images; named after the folder too unless it is `alone`."""
    inside = _folders(folder)
    parts = [path for path in inside if path.name in PART_FOLDERS]
    if parts and len(parts) == len(inside):
        parts.sort(key=lambda path: PART_FOLDERS.index(path.name))
        return [_part(path, path.name if alone else str(path)) for path in parts]
    part, images = _part(folder, folder.resolve().name if alone else str(folder))
    if parts:
        names = listed([path.name for path in parts])
        other = next(path.name for path in inside if path not in parts)
        part.notes.append(
            f"{names} in {folder} look like parts of the data, but are taken for classes, since "
            f"{other} lies beside them"
        )
    return [(part, images)]


def _part(folder: Path, name: str) -> tuple[SeenPart, _Images]:
    found = images_in(folder)
    if not found:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"there are no images in {folder} (endings looked for: {endings})")
    inside = [path.name for path in _folders(folder)]
    classes = [label for label in inside if label != UNLABELLED_FOLDER]
    part = SeenPart(name, classes)
    images: _Images = []
    for path in found:
        top = path.relative_to(folder).parts[0]
        if top in classes or top == UNLABELLED_FOLDER:
            images.append((path, top if top in classes else None))
        elif not classes:
            images.append((path, None))
    if beside := len(found) - len(images):
        part.notes.append(
            f"{counted(beside, 'image')} directly in {folder}, beside the class folders, where "
            "training reads nothing"
        )
    if classes and len(classes) < len(inside):
        part.notes.append(
            f"{folder / UNLABELLED_FOLDER} is a class of this name to whoever trains on the "
            "folder; train on a list of the images (a CSV file), or move it"
        )
    return part, images


def _folders(folder: Path) -> list[Path]:
    inside = sorted(existing_folder(folder).iterdir())
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
