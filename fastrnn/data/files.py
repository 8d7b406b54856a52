"""Strips in a list of files, and of image files in particular."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.data.checks import (
    IntArray,
    ValueRange,
    check_value_range,
    int_array,
    positive_int,
)
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.image import (
    StripDecodeError,
    read_image,
    read_image_size,
    scaled_width,
)

OnError = Literal["raise", "skip"]


class FileStrips(StripDataset):
    """Base of datasets that read each strip from a file when it is asked for.

    Parameters
    ----------
    paths, targets, labels, on_error
        As for `StripFiles`.
    height, channels
        Rows and channels of every strip.

    Attributes
    ----------
    paths, skipped
        As of `StripFiles`.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        targets: ArrayLike | None,
        labels: Sequence[str],
        height: int,
        channels: int,
        on_error: OnError,
    ) -> None:
        # known before the rest: the two methods below need them
        self.height, self.channels = height, channels

        def length(path: Path) -> int:
            columns = self.length_in(path)
            return self.decode(path).shape[-1] if on_error == "skip" else columns

        files = measure_files(paths, targets, on_error, length)
        self.paths = files.paths
        self.skipped = files.skipped
        super().__init__(
            labels=labels,
            targets=files.targets,
            lengths=files.measures,
            height=height,
            channels=channels,
        )

    @abstractmethod
    def length_in(self, path: Path) -> int:
        """Width of the strip in a file, from its header; StripDecodeError if there is none."""

    @abstractmethod
    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Strip in a file, uint8 ``[C, H, W]``; StripDecodeError if it can't be read."""

    def read_strip(self, index: int) -> Tensor:
        """Decode the file of strip ``index``."""
        return torch.from_numpy(self.decode(self.paths[index]))


class StripFiles(FileStrips):
    """Strips from a list of image files, decoded when they are asked for.

    Only headers are read at first. RGB for ``channels=3``, grey for 1; EXIF orientation is
    honoured; every strip is scaled to ``height`` rows with its aspect kept.

    Parameters
    ----------
    paths
        The image files.
    targets
        ``[N]`` class numbers; all unlabelled by default.
    labels
        Class names.
    height
        Rows of every strip.
    channels
        1 (grey) or 3 (RGB).
    value_range
        The two values of the files that become 0 and 255, as for `read_image`.
    on_error
        "raise": a file without a readable header raises at once, one whose pixels are damaged
        when it is asked for. "skip": every file is decoded once at the start, and those that
        can't be are left out and listed in `skipped`.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        The file of each strip.
    skipped : tuple of (pathlib.Path, str)
        Files left out, with the reason.

    Raises
    ------
    StripDecodeError
        If a file can't be read; names it.
    ValueError
        If there are no files, or none that can be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "a.png"
    >>> Image.new("L", (100, 56)).save(path)
    >>> strips = StripFiles([path], height=28)
    >>> strips.lengths.tolist(), tuple(strips[0][0].shape)
    ([50], (1, 28, 50))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        targets: ArrayLike | None = None,
        labels: Sequence[str] = (),
        height: int = 28,
        channels: int = 1,
        value_range: ValueRange | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels!r}, but must be 1 (grey) or 3 (RGB)")
        if value_range is not None:
            value_range = check_value_range("value_range", value_range)
        self.value_range = value_range
        super().__init__(
            paths,
            targets=targets,
            labels=labels,
            height=positive_int("height", height),
            channels=channels,
            on_error=on_error,
        )

    def length_in(self, path: Path) -> int:
        """Width after scaling, from the header of an image."""
        return scaled_width(*read_image_size(path), self.height)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Decode an image and scale it."""
        return read_image(path, self.height, self.channels, self.value_range)


@dataclass(frozen=True)
class MeasuredFiles:
    """The files of a list that can be read.

    Attributes
    ----------
    paths
        The files.
    targets
        ``[N]`` class numbers, -1 where none were given.
    measures
        ``[N]`` what was measured of each.
    skipped
        Files left out, with the reason.
    """

    paths: tuple[Path, ...]
    targets: IntArray
    measures: IntArray
    skipped: tuple[tuple[Path, str], ...]


def measure_files(
    paths: Iterable[str | os.PathLike[str]],
    targets: ArrayLike | None,
    on_error: OnError,
    measure: Callable[[Path], int],
) -> MeasuredFiles:
    """Measure every file, leaving out those that can't be read if that is wanted.

    Parameters
    ----------
    paths
        The files.
    targets
        ``[N]`` class numbers; all unlabelled if None.
    on_error
        "raise": a `StripDecodeError` of ``measure`` is raised; "skip": the file is left out.
    measure
        Gives what a dataset needs to know of a file beforehand.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, there are no files, or none that can be read.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths is {paths!r}, but must be a sequence of files")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error is {on_error!r}, but must be "raise" or "skip"')
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("paths is empty; give at least one file")
    wanted = int_array("targets", [UNLABELLED] * len(files) if targets is None else targets)
    if len(wanted) != len(files):
        raise ValueError(f"targets has {len(wanted)} entries, but there are {len(files)} files")

    measures: list[int] = []
    kept: list[int] = []
    skipped: list[tuple[Path, str]] = []
    for number, path in enumerate(files):
        try:
            measures.append(measure(path))
            kept.append(number)
        except StripDecodeError as error:
            if on_error == "raise":
                raise
            skipped.append((error.path, error.reason))
    if not kept:
        raise ValueError(
            f"none of the {len(files)} files can be read; the first is "
            f"{skipped[0][0]}: {skipped[0][1]}"
        )
    return MeasuredFiles(
        tuple(files[number] for number in kept),
        wanted[kept],
        int_array("measures", measures),
        tuple(skipped),
    )
