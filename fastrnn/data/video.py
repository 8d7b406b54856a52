"""Strips that are video clips: their frames side by side."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, OnError, as_path, positive_int
from fastrnn.data.finding import FileKind, StripKind, class_files, find_files
from fastrnn.data.frames import FrameChoice, frames_to_strip
from fastrnn.data.image import IMAGE_SUFFIXES, StripDecodeError
from fastrnn.data.keeping import Keep
from fastrnn.data.reading import FileStrips, StripReader, measure_files
from fastrnn.data.video_decoding import (
    VIDEO_SUFFIXES,
    count_frames,
    read_frame_size,
    read_frames,
    require_pyav,
)

_MOST_COLUMNS = 2**16  # of a frame; beyond it is a slip or damage


@dataclass(frozen=True)
class VideoReader(StripReader):
    """How a video file becomes a strip: frames side by side, all scaled to one size.

    Parameters
    ----------
    height, channels
        As for `StripVideo`.
    frame_width
        Columns of every frame. By default the width that keeps the aspect of the file, or, where
        a list of files is opened, of the first one.
    stride, max_frames, keep
        As for `StripVideo`.

    Raises
    ------
    ValueError, TypeError
        If a setting is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> frames = [Image.new("L", (80, 56), level) for level in (0, 90, 180)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frames[0].save(f"{folder}/wave.gif", save_all=True, append_images=frames[1:])
    ...     VideoReader(height=28, stride=2).read(f"{folder}/wave.gif").shape
    (1, 28, 80)
    """

    kind: ClassVar[StripKind] = "videos"
    files: ClassVar[FileKind] = "videos"

    height: int = 28
    channels: int = 1
    frame_width: int | None = None
    stride: int = 1
    max_frames: int | None = None
    keep: Keep = "head"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels!r}, but must be 1 (grey) or 3 (RGB)")
        width = self.frame_width
        if width is not None and positive_int("frame_width", width) > _MOST_COLUMNS:
            raise ValueError(f"frame_width is {width}, but must be at most {_MOST_COLUMNS}")
        positive_int("height", self.height)
        FrameChoice(self.stride, self.max_frames, self.keep)

    @property
    def choice(self) -> FrameChoice:
        """Which frames of a clip are taken."""
        return FrameChoice(self.stride, self.max_frames, self.keep)

    def require(self) -> None:
        """See `StripReader.require`: PyAV."""
        require_pyav()

    def full_width(self, path: Path) -> int:
        """Columns of all frames that are taken; counts them."""
        return len(self.choice.of(self.count(path))) * self.for_file(path)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Decode a clip."""
        return self.clip(path, self.count(path))

    def count(self, path: Path, *, decode: bool = False) -> int:
        """Count the frames of a clip, as `count_frames`; an image is none."""
        if path.suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES:  # FFmpeg would take it for one
            raise StripDecodeError(path, "is an image by its ending, not a video")
        return count_frames(path, decode=decode)

    def clip(self, path: Path, total: int) -> NDArray[np.uint8]:
        """Decode a clip of so many frames."""
        size = (self.height, self.for_file(path))
        frames = read_frames(path, self.choice.of(total), total, size, self.channels)
        return frames_to_strip(torch.from_numpy(frames)).numpy()

    def for_file(self, path: Path) -> int:
        """Columns of a frame of a file."""
        return self.frame_width or _width_of_aspect(path, self.height)

    def open_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        targets: ArrayLike | None = None,
        labels: Sequence[str] = (),
        on_error: OnError = "raise",
    ) -> "StripVideo":
        """Open a list of clips; see `StripReader.open_files`."""
        return StripVideo(paths, targets=targets, labels=labels, on_error=on_error, **vars(self))


class StripVideo(FileStrips):
    """Strips that are video clips, decoded when they are asked for, with PyAV.

    A strip shows the frames of a clip side by side, in the order in which they are seen. All
    frames of all clips are scaled to one size. Needs ``pip install 'fastrnn[video]'``.

    Parameters
    ----------
    paths
        The video files, in any format that FFmpeg reads, GIF among them. Of several video
        streams the first is taken; a rotation that the file states is honoured.
    targets
        ``[N]`` class numbers; all unlabelled by default.
    labels
        Class names.
    height
        Rows of every frame.
    channels
        1 (grey) or 3 (RGB).
    frame_width
        Columns of every frame. By default the width that keeps the aspect of the first clip.
    stride
        Take every ``stride``-th frame.
    max_frames
        Take at most so many of those; all by default.
    keep
        If there are more: the first ones ("head"), the last ones ("tail"), or those in the
        middle ("centre").
    on_error
        "raise": a file that is no video, or obviously cut off, raises at once, one whose frames
        are damaged when it is asked for. "skip": every file is decoded once at the start, and
        those that can't be are left out and listed in `skipped`.

    Attributes
    ----------
    frame_width : int
        Columns of every frame: the strip's column ``t * frame_width`` is where frame ``t`` begins.
    frames : numpy.ndarray
        int64 ``[N]``, frames in each strip.
    reader : VideoReader
        How files become strips, with the width of a frame.
    paths : tuple of pathlib.Path
        The file of each strip.
    skipped : tuple of (pathlib.Path, str)
        Files left out, with the reason.

    Raises
    ------
    StripDecodeError
        If a file can't be read; names it.
    ValueError, TypeError
        If an argument is wrong, there are no files, or none that can be read.
    ModuleNotFoundError
        If PyAV is missing.

    Notes
    -----
    Frames are counted at the start by the packets of a file, without decoding them; see
    `count_frames`. A strip is decoded from the beginning of its clip to the last frame taken.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "wave.gif"
    >>> first, *others = [Image.new("L", (80, 56), level) for level in (0, 90, 180, 250)]
    >>> first.save(path, save_all=True, append_images=others)
    >>> clips = StripVideo([path], height=28, max_frames=3)
    >>> clips.frames.tolist(), clips.frame_width, tuple(clips[0][0].shape)
    ([3], 40, (1, 28, 120))
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
        frame_width: int | None = None,
        stride: int = 1,
        max_frames: int | None = None,
        keep: Keep = "head",
        on_error: OnError = "raise",
    ) -> None:
        reader = VideoReader(height, channels, frame_width, stride, max_frames, keep)
        reader.require()
        files = measure_files(
            paths, targets, on_error, lambda path: reader.count(path, decode=on_error == "skip")
        )
        self.frame_width = reader.for_file(files.paths[0])
        self._totals = files.measures
        self.frames: IntArray = np.array([len(reader.choice.of(int(n))) for n in self._totals])
        self._clips = replace(reader, frame_width=self.frame_width)
        super().__init__(
            files, reader=self._clips, labels=labels, lengths=self.frames * self.frame_width
        )

    @classmethod
    def from_folder(
        cls,
        root: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Open a folder that holds one folder of clips per class.

        Parameters
        ----------
        root, labels
            As for `StripFolder`; files of no kind by their ending are passed over.
        **options
            As for `StripVideo`.
        """
        paths, targets, names = class_files(as_path("root", root), "videos", labels)
        return cls(paths, targets=targets, labels=names, **options)

    def read_strip(self, index: int) -> Tensor:
        """Decode the clip of strip ``index``."""
        return torch.from_numpy(self._clips.clip(self.paths[index], int(self._totals[index])))


def read_video(
    path: str | os.PathLike[str],
    height: int,
    channels: int = 1,
    frame_width: int | None = None,
    *,
    stride: int = 1,
    max_frames: int | None = None,
    keep: Keep = "head",
) -> Tensor:
    """Decode a video file and scale its frames.

    Parameters
    ----------
    path
        The file.
    height, channels, frame_width, stride, max_frames, keep
        As for `StripVideo`.

    Returns
    -------
    torch.Tensor
        uint8 ``[T, channels, height, frame_width]``; `frames_to_strip` makes it a strip.

    Raises
    ------
    StripDecodeError, ValueError, TypeError, ModuleNotFoundError
        As for `StripVideo`.
    """
    reader = VideoReader(height, channels, frame_width, stride, max_frames, keep)
    reader.require()
    path = Path(path)
    total = reader.count(path)
    size = (height, reader.for_file(path))
    return torch.from_numpy(read_frames(path, reader.choice.of(total), total, size, channels))


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """Video files in a folder and the folders in it, by their endings; see `find_files`."""
    return find_files(folder, "videos")


def _width_of_aspect(path: str | os.PathLike[str], height: int) -> int:
    columns, rows = read_frame_size(path)
    return max(1, round(columns * height / rows))
