"""Writing a dataset's strips to image files."""

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from torch import Tensor

from fastrnn.data.dataset import UNLABELLED, StripDataset

UNLABELLED_FOLDER = "unlabelled"


def export_strips(dataset: StripDataset, folder: str | os.PathLike[str]) -> Path:
    """Write every strip as a PNG in a folder per class, and a manifest of all.

    ``folder/<label>/000042.png`` is strip 42; unlabelled strips go to ``folder/unlabelled``. The
    folder can be opened as a `StripFolder` (if all is labelled), the manifest as a
    `StripManifest`. The folder appears when all is written.

    Parameters
    ----------
    dataset
        Strips of one channel (grey) or three (RGB).
    folder
        Must not exist yet, or be empty.

    Returns
    -------
    pathlib.Path
        The manifest, ``folder/manifest.csv``.

    Raises
    ------
    FileExistsError
        If ``folder`` holds something already.
    ValueError
        If the strips have another number of channels, or a label can't name a folder.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_strips(StripDigits("test", size=3), Path(folder) / "strips").name
    'manifest.csv'
    """
    folder = Path(folder)
    _check(dataset)
    with new_folder(folder) as partial:
        rows = [_write(dataset, index, partial) for index in range(len(dataset))]
        with (partial / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *rows])
    return folder / "manifest.csv"


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill, which takes the place of `folder` if all goes well.

    Raises
    ------
    FileExistsError
        If `folder` holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already and is not an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(dataset: StripDataset) -> None:
    if dataset.channels not in (1, 3):
        raise ValueError(
            f"the strips have {dataset.channels} channels, but PNG files need 1 (grey) or 3 (RGB)"
        )
    for label in dataset.labels:
        if label.startswith(".") or Path(label).name != label or label == UNLABELLED_FOLDER:
            raise ValueError(f"label {label!r} can't be the name of a class folder")


def _write(dataset: StripDataset, index: int, folder: Path) -> tuple[str, str]:
    strip, target = dataset[index]
    label = "" if target == UNLABELLED else dataset.labels[target]
    path = Path(label or UNLABELLED_FOLDER) / f"{index:06d}.png"
    (folder / path).parent.mkdir(exist_ok=True)
    write_png(strip, folder / path)
    return path.as_posix(), label


def write_png(strip: Tensor, path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write a strip, uint8 ``[1, H, W]`` or ``[3, H, W]``, as a PNG file or into an open one."""
    from PIL import Image

    pixels = strip.numpy()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy()).save(
        path, format="PNG"
    )
