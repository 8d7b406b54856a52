"""How files become strips: readers, and the strips in a list of files."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, OnError, as_path, counted, int_array, positive_int
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.finding import FileKind, StripKind, class_files, find_files
from fastrnn.data.image import StripDecodeError
from fastrnn.data.keeping import Keep, check_keep, kept_start
from fastrnn.data.listing import listed_files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class StripReader(ABC):
    """How a file becomes a strip: the base of the readers of images, sounds, videos and depth.

    Readers are frozen dataclasses, which check their settings when they are made. A model keeps
    the one that its strips were read by, as JSON.

    Attributes
    ----------
    kind : str
        Of the strips: "images", "sounds", "videos" or "depth".
    height, channels : int
        Rows and channels of every strip.
    max_width : int or None
        Columns that are kept of a strip; all if None.
    keep : str
        Which ones: the first ("head"), the last ("tail"), or those in the middle ("centre").
    """

    kind: ClassVar[StripKind]
    files: ClassVar[FileKind]
    max_width: int | None = None
    keep: Keep = "head"

    @property
    @abstractmethod
    def height(self) -> int:
        """Rows of every strip."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of every strip."""

    @abstractmethod
    def full_width(self, path: Path) -> int:
        """Columns of the whole strip in a file, from its header."""

    @abstractmethod
    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Whole strip in a file, uint8 ``[C, H, W]``."""

    def require(self) -> None:
        """Raise a ModuleNotFoundError if a library is missing that is needed to read."""
        return

    def width(self, path: str | os.PathLike[str]) -> int:
        """Columns of the strip in a file, from its header.

        Raises
        ------
        StripDecodeError, ModuleNotFoundError
            As `read`, for what a header shows.
        """
        width = self.full_width(Path(path))
        return width if self.max_width is None else min(width, self.max_width)

    def read(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """Read a file as a strip.

        Returns
        -------
        numpy.ndarray
            uint8 ``[C, H, W]``.

        Raises
        ------
        StripDecodeError
            If the file can't be read; names it.
        ModuleNotFoundError
            If a library is missing.
        """
        strip = self.decode(Path(path))
        kept = self.kept_of(strip.shape[2])
        return strip if kept == slice(0, strip.shape[2]) else strip[:, :, kept].copy()

    def kept_of(self, columns: int) -> slice:
        """Which of so many columns of a whole strip are kept."""
        surplus = columns - (self.max_width or columns)
        if surplus <= 0:
            return slice(0, columns)
        start = kept_start(surplus, self.keep)
        return slice(start, start + columns - surplus)

    def picture(self, path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
        """Read the whole picture in its own size, with the strip's channels.

        Returns
        -------
        numpy.ndarray or None
            uint8 ``[C, H, W]``, of which the whole strip is a scaled copy; None where the file
            holds no picture.

        Raises
        ------
        StripDecodeError, ModuleNotFoundError
            As `read`.
        """
        return None

    def find(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Files in a folder and the folders in it that are strips, sorted; see `find_files`."""
        return self.strips_among(find_files(folder, self.files))

    def files_by_class(
        self, root: str | os.PathLike[str], labels: Sequence[str] | None
    ) -> tuple[list[Path], list[int], tuple[str, ...]]:
        """Files in class folders, the target of each, and the labels; as `StripFolder`."""
        return class_files(as_path("root", root), self.files, labels)

    def strips_among(self, paths: Iterable[Path]) -> list[Path]:
        """Leave out files that only belong to another one's strip."""
        return list(paths)

    def strips_of(self, path: Path) -> list[Path]:
        """Give the strips that a file makes which is asked for by its name."""
        return self.strips_among([path])

    def open_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        targets: ArrayLike | None = None,
        labels: Sequence[str] = (),
        on_error: OnError = "raise",
    ) -> "FileStrips":
        """Open a list of files.

        Parameters
        ----------
        paths
            The files.
        targets
            ``[N]`` class numbers; all unlabelled by default.
        labels
            Class names.
        on_error
            "raise": a file whose header can't be read raises at once, one whose content is damaged
            when it is asked for. "skip": every file is read once at the start, and those that
            can't be are left out and listed in `FileStrips.skipped`.

        Raises
        ------
        StripDecodeError
            If a file can't be read; names it.
        ValueError, TypeError
            If there are no files, or none that can be read, or an argument is wrong.
        ModuleNotFoundError
            If a library is missing.
        """
        return FileStrips(self.measured(paths, targets, on_error), reader=self, labels=labels)

    def open_folder(
        self,
        root: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        on_error: OnError = "raise",
    ) -> "FileStrips":
        """Open a folder that holds one folder of files per class; as `StripFolder`."""
        paths, targets, names = self.files_by_class(root, labels)
        return self.open_files(paths, targets=targets, labels=names, on_error=on_error)

    def open_manifest(
        self,
        csv_path: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        root: str | os.PathLike[str] | None = None,
        on_error: OnError = "raise",
    ) -> "FileStrips":
        """Open a CSV file with the columns ``path`` and ``label``; as `StripManifest`."""
        paths, targets, names = listed_files(as_path("csv_path", csv_path), root, labels, on_error)
        return self.open_files(paths, targets=targets, labels=names, on_error=on_error)

    def measured(
        self,
        paths: Iterable[str | os.PathLike[str]],
        targets: ArrayLike | None,
        on_error: OnError,
    ) -> "MeasuredFiles":
        """Find the width of the strip in each file; parameters and errors as for `open_files`."""
        self.require()  # a missing library should not wait for the first strip

        def width(path: Path) -> int:
            columns = self.width(path)
            return self.read(path).shape[2] if on_error == "skip" else columns

        return measure_files(paths, targets, on_error, width)

    def as_json(self) -> dict[str, Any]:
        """Put it into JSON types, of which `reader_from_json` makes it again."""
        settings = asdict(cast("DataclassInstance", self))
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return {"kind": self.kind, **plain}


def check_kept(max_width: int | None, keep: str) -> None:
    """Check the settings about what is kept of a strip."""
    if max_width is not None:
        positive_int("max_width", max_width)
    check_keep(keep)


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


class FileStrips(StripDataset):
    """Strips that a reader reads from files when they are asked for.

    It is what `StripReader.open_files` gives, and the base of `StripFiles` and others.

    Parameters
    ----------
    files
        The files and their targets.
    reader
        How they become strips.
    labels
        Class names.
    lengths
        ``[N]`` columns of each strip; what was measured of the files by default.

    Attributes
    ----------
    reader : StripReader
        How files become strips.
    paths : tuple of pathlib.Path
        The file of each strip.
    skipped : tuple of (pathlib.Path, str)
        Files left out, with the reason.
    """

    def __init__(
        self,
        files: MeasuredFiles,
        *,
        reader: StripReader,
        labels: Sequence[str],
        lengths: ArrayLike | None = None,
    ) -> None:
        self.reader = reader
        self.paths = files.paths
        self.skipped = files.skipped
        super().__init__(
            labels=labels,
            targets=files.targets,
            lengths=files.measures if lengths is None else lengths,
            height=reader.height,
            channels=reader.channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Read the file of strip ``index``."""
        return torch.from_numpy(self.reader.read(self.paths[index]))


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
    if isinstance(paths, (str, os.PathLike)) or not isinstance(paths, Iterable):
        raise TypeError(f"paths is {paths!r}, but must be a sequence of files")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error is {on_error!r}, but must be "raise" or "skip"')
    files = [as_path(f"paths[{number}]", path) for number, path in enumerate(paths)]
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
            f"none of {counted(len(files), 'file')} can be read; the first is "
            f"{skipped[0][0]}: {skipped[0][1]}"
        )
    return MeasuredFiles(
        tuple(files[number] for number in kept),
        wanted[kept],
        int_array("measures", measures),
        tuple(skipped),
    )
