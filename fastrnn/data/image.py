"""Decoding an image file and scaling it to one height."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import ValueRange, check_value_range
from fastrnn.data.image_array import (
    ARRAY_SUFFIX,
    is_array_file,
    read_array,
    read_array_shape,
)
from fastrnn.data.image_modes import (
    as_mode,
    exif_orientation,
    from_array,
    pnm_scale,
    seen_size,
    upright,
)

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp", ARRAY_SUFFIX}
)
"""Endings (in lower case) of the files that are taken for images."""


class StripDecodeError(ValueError):
    """An image or sound file that can't be read.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it.

    Examples
    --------
    >>> print(StripDecodeError("strips/0001.png", "the file is empty"))
    strips/0001.png: the file is empty
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(os.fspath(path), reason)  # args as given, so that it can be pickled
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read_image_size(path: str | os.PathLike[str], file: IO[bytes] | None = None) -> tuple[int, int]:
    """Width and height of an image as it is to be seen, from its header alone.

    Parameters
    ----------
    path
        The file. An EXIF orientation that swaps width and height is honoured.
    file
        Where to read from, open for reading bytes, if not from ``path``, which then only names
        the image in errors.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty or not an image.
    """
    if file is None and is_array_file(path):
        with _reporting(path):
            rows, columns = read_array_shape(path)[:2]
            return columns, rows
    with _reporting(path, file), _open(path, file) as image:
        return seen_size(image)


def read_orientation(path: str | os.PathLike[str]) -> int:
    """EXIF orientation of an image, 1 (upright) to 8, from its header alone.

    Raises
    ------
    StripDecodeError
        As for `read_image_size`.
    """
    if is_array_file(path):
        return 1
    with _reporting(path), _open(path) as image:
        return exif_orientation(image)


def scaled_width(width: int, image_height: int, height: int) -> int:
    """Width after scaling an image to ``height`` with its aspect kept, at least 1.

    >>> scaled_width(100, 56, 28), scaled_width(1, 1000, 28)
    (50, 1)
    """
    return max(1, (2 * width * height + image_height) // (2 * image_height))


def read_image(
    path: str | os.PathLike[str],
    height: int,
    channels: int,
    value_range: ValueRange | None = None,
    file: IO[bytes] | None = None,
) -> NDArray[np.uint8]:
    """Decode an image file and scale it to a strip of ``height`` rows, aspect kept.

    Transparent parts become white, like paper.

    Parameters
    ----------
    path
        The file, in any format that Pillow reads (of several frames or pages the first), or a
        ``.npy`` file with what ``numpy.asarray(image)`` gives: ``[H, W]`` or ``[H, W, C]``.
    height
        Rows of the strip.
    channels
        1 for grey, 3 for RGB.
    value_range
        The two values of the file that become 0 and 255; those between are mapped linearly,
        those beyond are clipped. By default 16 bits keep their high byte. Needed for
        floating-point pixels.
    file
        As for `read_image_size`.

    Returns
    -------
    numpy.ndarray
        uint8 ``[channels, height, width]``, ``width`` from `scaled_width`.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty, damaged or not an image, or its pixels can't be mapped.
    """
    from PIL import Image

    if value_range is not None:
        value_range = check_value_range("value_range", value_range)
    with _reporting(path, file):
        seen = _decode(path, "RGB" if channels == 3 else "L", value_range, file)
        width = scaled_width(*seen.size, height)
        if seen.size != (width, height):
            seen = seen.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(seen).reshape(height, width, channels)
        return np.array(pixels.transpose(2, 0, 1), order="C")


def read_unscaled(
    path: str | os.PathLike[str], file: IO[bytes] | None = None
) -> tuple[str, NDArray[np.uint8]]:
    """Pillow's mode of an image file, and its pixels as uint8 ``[3, H, W]`` in its own size.

    What is more than eight bits, turned or transparent becomes what `read_image` makes of it.

    Parameters
    ----------
    path, file
        As for `read_image_size`.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty, damaged or not an image.
    """
    pixels = read_image(path, read_image_size(path, file)[1], 3, file=file)
    if file is None and is_array_file(path):
        return "array", pixels
    with _reporting(path, file), _open(path, file) as image:
        return image.mode, pixels


def read_values(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Decode an image of one channel to the numbers that its file holds.

    Parameters
    ----------
    path
        The file, as for `read_image`.

    Returns
    -------
    numpy.ndarray
        ``[H, W]``, of the file's type.

    Raises
    ------
    StripDecodeError
        As for `read_image`; also if the image has several channels, or an EXIF orientation.
    """
    with _reporting(path):
        if is_array_file(path):
            values = read_array(path)
            if values.ndim == 3 and values.shape[2] > 1:
                raise ValueError(f"has {values.shape[2]} channels, but should have one")
            return values.reshape(values.shape[:2])
        with _open(path) as image:
            if exif_orientation(image) != 1:
                raise ValueError("has an EXIF orientation of its own")
            if image.mode not in ("L", "F") and not image.mode.startswith("I"):
                raise ValueError(f"has mode {image.mode}, but should have one channel of numbers")
            full, highest = pnm_scale(image)
            stored = np.asarray(image)
            return stored if full == highest else np.rint(stored * (highest / full))


def scale_strip(strip: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Scale uint8 ``[C, H, W]`` to ``height`` rows with the aspect kept."""
    from PIL import Image

    _, rows, columns = strip.shape
    if rows == height:
        return strip
    size = (scaled_width(columns, rows, height), height)
    return np.stack(
        [
            np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
            for plane in np.ascontiguousarray(strip)
        ]
    )


@contextlib.contextmanager
def _reporting(path: str | os.PathLike[str], file: IO[bytes] | None = None) -> Iterator[None]:
    """Report whatever goes wrong inside as a `StripDecodeError`."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise StripDecodeError(path, "the file does not exist") from error
    except IsADirectoryError as error:
        raise StripDecodeError(path, "is a folder, but must be a file") from error
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error and more
        if _is_empty(path, file):
            empty = "the file is empty" if file is None else "its image is empty"
            raise StripDecodeError(path, empty) from error
        if isinstance(error, UnidentifiedImageError):
            reason = "not an image, or in a format Pillow can't read"
            raise StripDecodeError(path, reason) from error
        raise StripDecodeError(path, f"can't be decoded ({error})") from error


def _is_empty(path: str | os.PathLike[str], file: IO[bytes] | None) -> bool:
    if file is not None:
        return file.seek(0, os.SEEK_END) == 0
    return Path(path).is_file() and Path(path).stat().st_size == 0


@contextlib.contextmanager
def _open(path: str | os.PathLike[str], file: IO[bytes] | None = None) -> Iterator["Image.Image"]:
    """Open an image from a file object, not by its path.

    Pillow maps a file of known path into memory, and takes the lines of a TIFF file that is to be
    turned at the wrong length then.
    """
    from PIL import Image

    with contextlib.ExitStack() as opened:
        if file is None:
            file = opened.enter_context(Path(path).open("rb"))
        yield opened.enter_context(Image.open(file))


def _decode(
    path: str | os.PathLike[str],
    mode: str,
    value_range: ValueRange | None,
    file: IO[bytes] | None = None,
) -> "Image.Image":
    """Decode to an upright image of mode "L" or "RGB"."""
    if file is None and is_array_file(path):
        return from_array(read_array(path), mode, value_range)
    with _open(path, file) as image:
        # Pillow turns TIFF itself while loading
        orientation = 1 if image.format == "TIFF" else exif_orientation(image)
        return upright(as_mode(image, mode, value_range), orientation)
