"""Strips with a channel of depth: pictures that have a depth map beside them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import OnError, ValueRange, check_value_range, listed, positive_int
from fastrnn.data.finding import FileKind, StripKind
from fastrnn.data.image import (
    IMAGE_SUFFIXES,
    StripDecodeError,
    read_image,
    read_image_size,
    read_orientation,
    read_values,
    scaled_width,
)
from fastrnn.data.image_modes import upright
from fastrnn.data.keeping import Keep
from fastrnn.data.reading import FileStrips, StripReader, check_kept

Missing = Literal["raise", "zeros"]

NO_READING = 0
"""Depth of a pixel that the sensor has no reading for; what it read is 1 .. 255."""


@dataclass(frozen=True)
class DepthReader(StripReader):
    """How a picture and the depth map beside it become a strip; see `StripDepth`.

    Parameters
    ----------
    depth_range, height, channels, depth_ending, missing, missing_picture
        As for `StripDepth`.
    max_width, keep
        As of `StripReader`.

    Raises
    ------
    ValueError, TypeError
        If a setting is wrong.

    Examples
    --------
    >>> DepthReader(depth_range=(500, 4500)).channels
    4
    """

    kind: ClassVar[StripKind] = "depth"
    files: ClassVar[FileKind] = "images"

    depth_range: ValueRange
    height: int = 28
    channels: int = 4
    depth_ending: str = ".depth.png"
    missing: Missing = "raise"
    max_width: int | None = None
    keep: Keep = "head"
    missing_picture: Missing = "raise"

    def __post_init__(self) -> None:
        if self.channels not in (2, 4):
            raise ValueError(
                f"channels is {self.channels!r}, but must be 2 (grey and depth) or 4 (RGB and "
                "depth)"
            )
        for name in ("missing", "missing_picture"):
            value = getattr(self, name)
            if value not in get_args(Missing):
                raise ValueError(f'{name} is {value!r}, but must be "raise" or "zeros"')
        _check_ending(self.depth_ending)
        pair = check_value_range("depth_range", self.depth_range)
        object.__setattr__(self, "depth_range", pair)
        positive_int("height", self.height)
        check_kept(self.max_width, self.keep)

    def full_width(self, path: Path) -> int:
        """Width after scaling, from the headers of a picture and its depth map."""
        alone = self._read_alone(path)
        size = read_image_size(path)
        depth = None if alone else self.depth_of(path)
        if depth is not None:
            _check_size(path, size, depth)
        return scaled_width(*size, self.height)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Decode a picture and its depth map, or a depth map alone."""
        if self._read_alone(path):
            size = (scaled_width(*read_image_size(path), self.height), self.height)
            strip = np.zeros((self.channels, *size[::-1]), np.uint8)
            strip[-1] = _read_depth(path, self.depth_range, size, 1)
            return strip
        picture = read_image(path, self.height, self.channels - 1)
        strip = np.zeros((self.channels, *picture.shape[1:]), np.uint8)
        strip[:-1] = picture
        depth = self.depth_of(path)
        if depth is not None:
            size = (strip.shape[2], strip.shape[1])
            strip[-1] = _read_depth(depth, self.depth_range, size, read_orientation(path))
        return strip

    def picture(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """See `StripReader.picture`; depth is scaled to the picture's size."""
        return replace(self, height=read_image_size(path)[1]).decode(Path(path))

    def depth_of(self, picture: Path) -> Path | None:
        """Depth map of a picture, None if it may be missing and is; of a depth map, itself."""
        if self._read_alone(picture):
            return picture
        path = picture.with_name(picture.stem + self.depth_ending)
        if path.exists():
            return path
        if self.missing == "zeros":
            return None
        raise StripDecodeError(
            path,
            f'the depth map of {picture.name} does not exist; missing="zeros" allows that',
        )

    def is_depth(self, path: Path) -> bool:
        """Whether a file is a depth map, by its ending."""
        return path.name.endswith(self.depth_ending)

    def strips_among(self, paths: Iterable[Path]) -> list[Path]:
        """Leave out depth maps, but those without a picture if these are allowed."""
        paths = list(paths)
        if self.missing_picture == "raise":
            return [path for path in paths if not self.is_depth(path)]
        pictured = self._pictured({path.parent for path in paths if self.is_depth(path)})
        return [path for path in paths if self._depth_place(path) not in pictured]

    def strips_of(self, path: Path) -> list[Path]:
        """See `StripReader.strips_of`; of a depth map without a picture, itself."""
        if self._lacks_picture(path):
            return [path]  # reading it says so, where that is not allowed
        return super().strips_of(path)

    def _read_alone(self, path: Path) -> bool:
        """Whether a file is a depth map to be read by itself; an error if that is not allowed."""
        if not self.is_depth(path) or self.missing_picture == "zeros":
            return self.is_depth(path)
        if path.with_name(path.stem + self.depth_ending) == path:
            raise ValueError(
                f"depth_ending is {self.depth_ending!r}, by which {path} is its own depth map"
            )
        raise StripDecodeError(
            path,
            'a depth map is read without its picture by missing_picture="zeros" only',
        )

    def _lacks_picture(self, path: Path) -> bool:
        """Whether a file is a depth map that has no picture."""
        return self.is_depth(path) and self._depth_place(path) not in self._pictured({path.parent})

    def _depth_place(self, path: Path) -> Path | None:
        """Where the picture of a depth map lies, without its ending; None for a picture."""
        if not self.is_depth(path):
            return None
        return path.with_name(path.name.removesuffix(self.depth_ending) or path.name)

    def _pictured(self, folders: Iterable[Path]) -> set[Path]:
        """Pictures in some folders, without their endings."""
        return {
            path.with_name(path.stem)
            for folder in folders
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not self.is_depth(path)
        }

    def files_by_class(
        self, root: str | os.PathLike[str], labels: Sequence[str] | None
    ) -> tuple[list[Path], list[int], tuple[str, ...]]:
        """Pictures in class folders; see `StripReader.files_by_class`."""
        paths, targets, names = super().files_by_class(root, labels)
        target_of = dict(zip(paths, targets, strict=True))
        pictures = self.strips_among(paths)
        if alone := set(targets) - {target_of[path] for path in pictures}:
            raise ValueError(
                f"there are depth maps, but no pictures of class {names[min(alone)]!r} in {root}"
            )
        return pictures, [target_of[path] for path in pictures], names


class StripDepth(FileStrips):
    """Strips of pictures with a depth map beside each, decoded when they are asked for.

    ``a.png`` and ``a.depth.png`` make a strip of 4 channels, RGB and depth, or of 2, grey and
    depth. The depth map has the size of the picture's pixels as they are stored, or is scaled to
    it, and gets the EXIF orientation of its picture.

    Parameters
    ----------
    paths
        The pictures, as for `StripFiles`; with ``missing_picture="zeros"`` also depth maps.
    depth_range
        Depths, in the units of the depth files, that become 1 and 255; those between are mapped
        linearly, those beyond are clipped. 0 in a depth file means that there is no reading, and
        so does NaN, by which ROS marks it (REP 118); both become 0.
    targets
        ``[N]`` class numbers; all unlabelled by default.
    labels
        Class names.
    height
        Rows of every strip.
    channels
        4 (RGB and depth) or 2 (grey and depth).
    depth_ending
        The depth map of ``a.png`` is ``a`` with this ending: an image of one channel (8 or 16
        bits, 32 bits, floating point), or a ``.npy`` file of ``[H, W]``.
    missing
        "raise": a picture without a depth map is an error. "zeros": its depth is all zero.
    missing_picture
        "raise": a depth map among the paths is an error. "zeros": it is read by itself, and its
        colours are all zero.
    on_error
        As for `StripFiles`; goes for pictures and their depth maps.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        The picture of each strip, or its depth map where it has no picture.
    depth_paths : tuple of (pathlib.Path or None)
        Its depth map, None where it is missing.
    reader : DepthReader
        How files become strips.
    skipped : tuple of (pathlib.Path, str)
        Files left out, with the reason.

    Raises
    ------
    StripDecodeError
        If a file can't be read, a depth map is missing or has not the shape of its picture;
        names it.
    ValueError, TypeError
        If an argument is wrong, there are no files, or none that can be read.

    Notes
    -----
    Depth is scaled to its nearest neighbour: an average over an edge is a depth where nothing is.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "a.png"
    >>> Image.new("RGB", (100, 56)).save(path)
    >>> np.save(path.with_name("a.depth.npy"), np.full((56, 100), 2.5))  # metres
    >>> strips = StripDepth([path], depth_range=(0.5, 4.5), depth_ending=".depth.npy")
    >>> tuple(strips[0][0].shape), strips[0][0][:, 0, 0].tolist()
    ((4, 28, 50), [0, 0, 0, 128])
    >>> folder.cleanup()
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        depth_range: ValueRange,
        targets: ArrayLike | None = None,
        labels: Sequence[str] = (),
        height: int = 28,
        channels: int = 4,
        depth_ending: str = ".depth.png",
        missing: Missing = "raise",
        missing_picture: Missing = "raise",
        on_error: OnError = "raise",
    ) -> None:
        reader = DepthReader(
            depth_range, height, channels, depth_ending, missing, missing_picture=missing_picture
        )
        super().__init__(reader.measured(paths, targets, on_error), reader=reader, labels=labels)
        self.depth_paths = tuple(reader.depth_of(path) for path in self.paths)

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike[str],
        *,
        depth_range: ValueRange,
        depth_ending: str = ".depth.png",
        missing_picture: Missing = "raise",
        labels: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Open a folder that holds one folder of pictures and their depth maps per class.

        Parameters
        ----------
        root, labels
            As for `StripFolder`.
        depth_range, depth_ending, missing_picture, **options
            As for `StripDepth`. Files with this ending are no pictures; with
            ``missing_picture="zeros"`` those without a picture are strips too.
        """
        reader = DepthReader(
            depth_range, depth_ending=depth_ending, missing_picture=missing_picture
        )
        paths, targets, names = reader.files_by_class(root, labels)
        return cls(
            paths,
            targets=targets,
            labels=names,
            depth_range=depth_range,
            depth_ending=depth_ending,
            missing_picture=missing_picture,
            **options,
        )


def _check_ending(ending: str) -> None:
    if not isinstance(ending, str):
        raise TypeError(f"depth_ending is {ending!r}, but must be a string")
    if Path(f"a{ending}").suffix.lower() not in IMAGE_SUFFIXES:
        endings = listed(sorted(IMAGE_SUFFIXES), len(IMAGE_SUFFIXES))
        raise ValueError(f"depth_ending is {ending!r}, but must end with one of {endings}")


def _check_size(picture: Path, picture_size: tuple[int, int], depth: Path) -> None:
    """Check that a depth map covers its picture, to within a pixel of the coarser of the two."""
    if read_orientation(depth) != 1:
        raise StripDecodeError(
            depth, "has an EXIF orientation of its own, but a depth map gets its picture's"
        )
    size = read_image_size(depth)
    if read_orientation(picture) >= 5:
        size = size[::-1]
    if not _same_aspect(size, picture_size):
        raise StripDecodeError(
            depth,
            f"a depth map of {size[0]} x {size[1]} pixels does not cover {picture.name} with its "
            f"{picture_size[0]} x {picture_size[1]}, at any scale",
        )


def _same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether one size is the other one scaled, with each side rounded by less than a pixel."""
    (width, height), (wide, high) = min(first, second), max(first, second)
    if width == wide or height == high:  # not scaled, so nothing was rounded
        return abs(width - wide) <= 1 and abs(height - high) <= 1
    return (width - 1) * high <= (height + 1) * wide and (height - 1) * wide <= (width + 1) * high


def _read_depth(
    path: Path, depth_range: ValueRange, size: tuple[int, int], orientation: int
) -> NDArray[np.uint8]:
    """Depth map as bytes ``[H, W]`` of the wanted size (width, height), 0 where unknown."""
    from PIL import Image

    near, far = depth_range
    values = read_values(path).astype(np.float64)
    known = (values != 0) & ~np.isnan(values)
    share = np.clip((np.where(known, values, near) - near) / (far - near), 0, 1)
    levels = np.where(known, np.floor(1.5 + 254 * share), NO_READING).astype(np.uint8)
    image = upright(Image.fromarray(levels), orientation)
    return np.array(image.resize(size, Image.Resampling.NEAREST))
