"""Strips that are video clips: their frames side by side."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastrnn.data.checks import IntArray, positive_int
from fastrnn.data.dataset import StripDataset
from fastrnn.data.files import OnError, measure_files
from fastrnn.data.folder import class_files, find_files
from fastrnn.data.frames import FrameChoice, Keep, frames_to_strip
from fastrnn.data.video_decoding import count_frames, read_frame_size, read_frames, require_pyav


class StripVideo(StripDataset):
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
        height = _checked_size(height, channels, frame_width)
        self.choice = FrameChoice(stride, max_frames, keep)
        require_pyav()
        files = measure_files(
            paths, targets, on_error, lambda path: count_frames(path, decode=on_error == "skip")
        )
        self.paths = files.paths
        self.skipped = files.skipped
        self._totals = files.measures
        self.frames: IntArray = np.array([len(self.choice.of(int(n))) for n in self._totals])
        self.frame_width = frame_width or _width_of_aspect(files.paths[0], height)
        super().__init__(
            labels=labels,
            targets=files.targets,
            lengths=self.frames * self.frame_width,
            height=height,
            channels=channels,
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
        paths, targets, names = class_files(Path(root), "videos", labels)
        return cls(paths, targets=targets, labels=names, **options)

    def read_strip(self, index: int) -> Tensor:
        """Decode the clip of strip ``index``."""
        total = int(self._totals[index])
        size = (self.height, self.frame_width)
        pixels = read_frames(self.paths[index], self.choice.of(total), total, size, self.channels)
        return frames_to_strip(torch.from_numpy(pixels))


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
    height = _checked_size(height, channels, frame_width)
    choice = FrameChoice(stride, max_frames, keep)
    require_pyav()
    total = count_frames(path)
    size = (height, frame_width or _width_of_aspect(path, height))
    return torch.from_numpy(read_frames(path, choice.of(total), total, size, channels))


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """Video files in a folder and the folders in it, by their endings; see `find_files`."""
    return find_files(folder, "videos")


def _checked_size(height: int, channels: int, frame_width: int | None) -> int:
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}, but must be 1 (grey) or 3 (RGB)")
    if frame_width is not None:
        positive_int("frame_width", frame_width)
    return positive_int("height", height)


def _width_of_aspect(path: str | os.PathLike[str], height: int) -> int:
    columns, rows = read_frame_size(path)
    return max(1, round(columns * height / rows))
