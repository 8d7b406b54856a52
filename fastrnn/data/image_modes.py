"""Pillow's images, upright and as grey or RGB."""

import contextlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import ValueRange
from fastrnn.data.image_array import to_bytes

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # TIFF 6.0, tag 274, which EXIF took over
_DEEP = re.compile("(RGB|LA|CMYK).*;16")  # Pillow's names for 16 bits in each of several channels


def exif_orientation(image: "Image.Image") -> int:
    """EXIF orientation, 1 (upright) to 8, of an image that has not been loaded yet."""
    from PIL import Image

    # A damaged EXIF block is no reason to refuse the pixels. The base class's method, because
    # PNG's own decodes all pixels to look for EXIF behind them.
    with contextlib.suppress(Exception):
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
        if found in range(1, 9):
            return int(found)
    return 1


def seen_size(image: "Image.Image") -> tuple[int, int]:
    """Width and height of an image that has not been loaded yet, once it is upright."""
    width, height = image.size
    if image.format == "TIFF":  # newer Pillows have swapped ``size`` already, older ones have not
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags[256], tags[257]
    return (height, width) if exif_orientation(image) >= 5 else (width, height)


def upright(image: "Image.Image", orientation: int) -> "Image.Image":
    """Turn an image as its EXIF orientation, 1 to 8, says."""
    from PIL import Image

    turns = Image.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def as_mode(image: "Image.Image", mode: str, value_range: ValueRange | None) -> "Image.Image":
    """Convert to "L" or "RGB" without the surprises of a plain ``convert``."""
    from PIL import Image

    if value_range is not None:
        value_range = _pillow_range(image, value_range)
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip at 255
        values = np.asarray(image)
        if value_range is None and image.mode != "F":
            values = np.clip(values, 0, 0xFFFF).astype(np.uint16)
        return from_array(values, mode, value_range)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    image = image.convert(mode)
    if value_range is None:
        return image
    table = to_bytes(np.arange(256), value_range).tolist()
    return image.point(table * len(image.getbands()))


def from_array(array: NDArray[Any], mode: str, value_range: ValueRange | None) -> "Image.Image":
    """Make an image of mode "L" or "RGB" of ``[H, W]`` or ``[H, W, C]``."""
    from PIL import Image

    channels = array.shape[2] if array.ndim == 3 else 1
    if channels == 1:
        array = array.reshape(array.shape[:2])
    if array.dtype == np.uint8:
        return as_mode(Image.fromarray(np.ascontiguousarray(array)), mode, value_range)
    if channels in (2, 4):
        raise ValueError(f"has {channels} channels of {array.dtype}; alpha is read from uint8 only")
    return Image.fromarray(to_bytes(array, value_range)).convert(mode)


def pnm_scale(image: "Image.Image") -> tuple[int, int]:
    """Highest value that Pillow will give for a PGM or PPM file, and the one that it stands for.

    Pillow stretches what the file's header states as its highest value to all of 8 or 16 bits.
    """
    for codec, layout in _tiles(image):
        if codec.startswith("ppm"):
            return (0xFFFF if image.mode == "I" else 0xFF), int(layout.split()[-1])
    return 1, 1


def _pillow_range(image: "Image.Image", value_range: ValueRange) -> ValueRange:
    """``value_range`` in the units of the pixels that Pillow will give, before they are loaded."""
    full, highest = pnm_scale(image)
    several = image.mode != "F" and not image.mode.startswith("I")
    if several and (highest > 255 or any(_DEEP.match(layout) for _, layout in _tiles(image))):
        raise ValueError(
            "has 16 bits in several channels, of which Pillow keeps the high bytes; "
            "value_range needs grey pixels, or a .npy file"
        )
    low, high = value_range
    return low * full / highest, high * full / highest


def _tiles(image: "Image.Image") -> list[tuple[str, str]]:
    """Codec and pixel layout of each part of an image that has not been loaded yet."""
    found = []
    for codec, _, _, arguments in getattr(image, "tile", []):
        parts = arguments if isinstance(arguments, tuple) else (arguments,)
        found.append((codec, " ".join(str(part) for part in parts)))
    return found
