"""Strips in a list of image files."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import OnError as OnError
from fastrnn.data.checks import ValueRange, check_value_range, positive_int
from fastrnn.data.finding import FileKind, StripKind
from fastrnn.data.image import read_image, read_image_size, scaled_width
from fastrnn.data.keeping import Keep
from fastrnn.data.reading import FileStrips, StripReader, check_kept


@dataclass(frozen=True)
class ImageReader(StripReader):
    """How an image file becomes a strip: grey or RGB, scaled to one height with its aspect kept.

    Parameters
    ----------
    height
        Rows of every strip.
    channels
        1 (grey) or 3 (RGB).
    value_range
        The two values of the files that become 0 and 255, as for `StripFiles`.
    max_width, keep
        As of `StripReader`.

    Raises
    ------
    ValueError, TypeError
        If a setting is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (100, 56)).save(f"{folder}/a.png")
    ...     ImageReader(height=28).read(f"{folder}/a.png").shape
    (1, 28, 50)
    >>> ImageReader(height=28, max_width=200).as_json()["max_width"]
    200
    """

    kind: ClassVar[StripKind] = "images"
    files: ClassVar[FileKind] = "images"

    height: int = 28
    channels: int = 1
    value_range: ValueRange | None = None
    max_width: int | None = None
    keep: Keep = "head"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels!r}, but must be 1 (grey) or 3 (RGB)")
        positive_int("height", self.height)
        if self.value_range is not None:
            pair = check_value_range("value_range", self.value_range)
            object.__setattr__(self, "value_range", pair)
        check_kept(self.max_width, self.keep)

    def full_width(self, path: Path) -> int:
        """Width after scaling, from the header of an image."""
        return scaled_width(*read_image_size(path), self.height)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Decode an image and scale it."""
        return read_image(path, self.height, self.channels, self.value_range)

    def picture(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """See `StripReader.picture`."""
        return read_image(path, read_image_size(path)[1], self.channels, self.value_range)


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
    reader : ImageReader
        How files become strips.
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
        reader = ImageReader(height, channels, value_range)
        super().__init__(reader.measured(paths, targets, on_error), reader=reader, labels=labels)
