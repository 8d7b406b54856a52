"""Decoding an image file and scaling it to one height, with Pillow."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Endings (in lower case) of the files that are taken for images."""

_ORIENTATION = 0x0112  # TIFF 6.0, tag 274, which EXIF took over


class StripDecodeError(ValueError):
    """An image file that can't be read.

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
        Read this open file instead, if the image is a part of another file; ``path`` then only
        names it in errors.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty or not an image.
    """
    with _open(path, file) as image:
        return _seen_size(image)


def scaled_width(width: int, image_height: int, height: int) -> int:
    """Width after scaling an image to ``height`` with its aspect kept, at least 1.

    >>> scaled_width(100, 56, 28), scaled_width(1, 1000, 28)
    (50, 1)
    """
    return max(1, (2 * width * height + image_height) // (2 * image_height))


def read_image(
    path: str | os.PathLike[str], height: int, channels: int, file: IO[bytes] | None = None
) -> NDArray[np.uint8]:
    """Decode an image file and scale it to a strip of ``height`` rows, aspect kept.

    Sixteen-bit grey keeps its high byte; transparent parts become white, like paper.

    Parameters
    ----------
    path
        The file, in any format that Pillow reads; of several frames or pages the first.
    height
        Rows of the strip.
    channels
        1 for grey, 3 for RGB.
    file
        As for `read_image_size`.

    Returns
    -------
    numpy.ndarray
        uint8 ``[channels, height, width]``, ``width`` from `scaled_width`.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty, damaged or not an image.
    """
    with _open(path, file) as image:
        return _decode(image, height, channels)


def read_unscaled(path: str | os.PathLike[str]) -> tuple[str, NDArray[np.uint8]]:
    """Pillow's mode of an image file, and its pixels as uint8 ``[3, H, W]`` in its own size.

    What is more than eight bits, turned or transparent becomes what `read_image` makes of it.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty, damaged or not an image.
    """
    with _open(path) as image:
        return image.mode, _decode(image, _seen_size(image)[1], 3)


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
def _open(path: str | os.PathLike[str], file: IO[bytes] | None = None) -> Iterator["Image.Image"]:
    """Open an image; whatever goes wrong inside is reported as a `StripDecodeError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path if file is None else file) as image:
            yield image
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise StripDecodeError(path, "the file does not exist") from error
    except UnidentifiedImageError as error:
        size = Path(path).stat().st_size if file is None else file.seek(0, os.SEEK_END)
        reason = "not an image, or in a format Pillow can't read" if size else "the file is empty"
        raise StripDecodeError(path, reason) from error
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error and more
        raise StripDecodeError(path, f"can't be decoded ({error})") from error


def _decode(image: "Image.Image", height: int, channels: int) -> NDArray[np.uint8]:
    """Decode an image that has not been loaded yet and scale it, as `read_image` says."""
    from PIL import Image

    width = scaled_width(*_seen_size(image), height)
    turn = _turn(image)
    image.load()
    seen = _as_mode(image, "RGB" if channels == 3 else "L")
    if turn is not None:
        seen = seen.transpose(turn)
    if seen.size != (width, height):
        seen = seen.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(seen).reshape(height, width, channels)
    return np.array(pixels.transpose(2, 0, 1), order="C")


def _orientation(image: "Image.Image") -> int:
    """EXIF orientation, 1 (upright) to 8, of an image that has not been loaded yet."""
    from PIL import Image

    # A damaged EXIF block is no reason to refuse the pixels. The base class's method, because
    # PNG's own decodes all pixels to look for EXIF behind them.
    with contextlib.suppress(Exception):
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
        if found in range(1, 9):
            return int(found)
    return 1


def _seen_size(image: "Image.Image") -> tuple[int, int]:
    width, height = image.size
    if image.format == "TIFF":  # newer Pillows have swapped ``size`` already, older ones have not
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags[256], tags[257]
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _turn(image: "Image.Image") -> "Image.Transpose | None":
    """Find the transposition that makes an image upright after loading, None if it is."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow does it while loading
        return None
    turns = Image.Transpose
    return {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(_orientation(image))


def _as_mode(image: "Image.Image", mode: str) -> "Image.Image":
    """Convert to "L" or "RGB" without the surprises of a plain ``convert``."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("has floating-point pixels; store it with 8 or 16 bits")
    if image.mode.startswith("I"):  # convert() would clip 16 bits at 255
        high_byte = np.clip(np.asarray(image), 0, 0xFFFF) // 256
        image = Image.fromarray(high_byte.astype(np.uint8))
    elif image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    return image.convert(mode)
