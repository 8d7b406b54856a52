"""Counting and decoding the frames of one video file, with PyAV."""

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.containers import cut_off
from fastrnn.data.image import StripDecodeError
from fastrnn.data.image_modes import as_mode, upright

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts"}
    | {".webm", ".wmv"}
)
"""Endings (in lower case) of the files that are taken for video."""

# VP8 puts reference frames that are never shown into packets of their own (RFC 6386, 9.1).
_HIDDEN_FRAMES = frozenset(["vp8"])
# MPEG-4 may mark a frame that didn't change by a packet of a few bytes, which shows nothing.
_NOT_CODED_BYTES = 16
_PROGRESSIVE = 1  # AVFieldOrder; 0 is unknown, others put the fields of a frame apart

# EXIF's orientations by whether, in the picture as it is seen, columns and rows go on to the right
# and downwards; in the second half a column is seen as a row.
_STANDING = {(True, True): 1, (False, True): 2, (False, False): 3, (True, False): 4}
_LYING = {(True, True): 5, (True, False): 6, (False, False): 7, (False, True): 8}


def require_pyav() -> None:
    """Raise a ModuleNotFoundError that says how to get PyAV, if it is missing."""
    _pyav()


def count_frames(path: str | os.PathLike[str], *, decode: bool = False) -> int:
    """Count the frames that decoding a video file gives.

    Packets are counted without decoding them. Where a packet may be anything but one frame (it
    may show nothing, its codec has hidden frames, the file begins in the middle of a group of
    frames), frames are decoded once and counted. What the container itself states is not
    trusted: it counts frames that are not shown.

    Parameters
    ----------
    path
        The file.
    decode
        Decode in any case, and find damage in the pixels that way.

    Raises
    ------
    StripDecodeError
        If the file is missing, empty, cut off, damaged, or holds no video.
    """
    with _reporting(path):
        if Path(path).stat().st_size and (missing := cut_off(path)):
            raise StripDecodeError(path, f"is cut off: {missing}")
    with _open(path) as (container, stream):
        count = None if decode else _count_packets(container, stream)
    if count is None:
        with _open(path) as (container, stream):
            count = sum(1 for _ in _frames(container, stream))
    if not count:
        raise StripDecodeError(path, "has a video stream without any frame")
    return count


def read_frame_size(path: str | os.PathLike[str]) -> tuple[float, float]:
    """Width and height of the first frame as it is to be seen, upright and with square pixels.

    Raises
    ------
    StripDecodeError
        As for `count_frames`.
    """
    with _open(path) as (container, stream):
        for frame in _frames(container, stream):
            aspect = float(stream.sample_aspect_ratio or 1)
            width, height = frame.width * aspect, float(frame.height)
            return (height, width) if _orientation(frame) >= 5 else (width, height)
    raise StripDecodeError(path, "has a video stream without any frame")


def read_frames(
    path: str | os.PathLike[str], chosen: range, total: int, size: tuple[int, int], channels: int
) -> NDArray[np.uint8]:
    """Decode some frames of a video file, each scaled to one size.

    Parameters
    ----------
    path
        The file.
    chosen
        Numbers of the frames, ascending.
    total
        Frames that `count_frames` found.
    size
        Height and width of the frames.
    channels
        1 for grey, 3 for RGB.

    Returns
    -------
    numpy.ndarray
        uint8 ``[len(chosen), channels, height, width]``.

    Raises
    ------
    StripDecodeError
        As for `count_frames`; also if there turn out to be more or fewer frames than ``total``.
    """
    scaler = import_module("av.video.reformatter").VideoReformatter()  # one, as it keeps its tables
    frames = np.empty((len(chosen), channels, *size), np.uint8)
    found = 0
    with _open(path) as (container, stream):
        for number, frame in enumerate(_frames(container, stream)):
            found = number + 1
            if number in chosen:
                frames[chosen.index(number)] = _pixels(scaler, frame, size, channels)
            if found > total or number == chosen[-1] < total - 1:
                break
    if found <= chosen[-1] or found > total:
        raise StripDecodeError(
            path,
            f"decodes to {found} frames, but {total} were found before: it has changed, or "
            'is damaged; on_error="skip" counts by decoding',
        )
    return frames


def _pyav() -> Any:
    try:
        return import_module("av")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading video needs PyAV: pip install 'fastrnn[video]'", name=error.name
        ) from error


@contextlib.contextmanager
def _reporting(path: str | os.PathLike[str]) -> Iterator[None]:
    """Report whatever goes wrong inside as a `StripDecodeError`."""
    try:
        yield
    except (MemoryError, StripDecodeError):
        raise
    except FileNotFoundError as error:
        raise StripDecodeError(path, "the file does not exist") from error
    except IsADirectoryError as error:
        raise StripDecodeError(path, "is a folder, but must be a file") from error
    except Exception as error:
        if Path(path).is_file() and Path(path).stat().st_size == 0:
            raise StripDecodeError(path, "the file is empty") from error
        reason = getattr(error, "strerror", None) or error
        raise StripDecodeError(path, f"can't be decoded ({reason})") from error


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Open a file and its video; whatever goes wrong is reported as a `StripDecodeError`."""
    av = _pyav()
    with _reporting(path):
        try:
            # with "file:" no name is taken for an address, and no playlist leads elsewhere
            container = av.open(f"file:{os.fspath(path)}")
        except av.error.InvalidDataError:
            raise ValueError("not a video, or in a format that FFmpeg can't read") from None
        with container:
            yield container, _video_stream(path, container)


def _video_stream(path: str | os.PathLike[str], container: Any) -> Any:
    attached = import_module("av.stream").Disposition.attached_pic  # the cover of a record
    for stream in container.streams.video:
        if not stream.disposition & attached:
            return stream
    others = sorted({stream.type for stream in container.streams} - {"video"})
    raise StripDecodeError(path, f"holds no video (only {' and '.join(others) or 'a picture'})")


def _count_packets(container: Any, stream: Any) -> int | None:
    """Frames in a video by its packets, None if packets may be something else."""
    codec = stream.codec_context
    if codec.name in _HIDDEN_FRAMES or getattr(codec, "field_order", 0) > _PROGRESSIVE:
        return None
    least = _NOT_CODED_BYTES if codec.name == "mpeg4" else 1
    count, first = 0, None
    for packet in container.demux(stream):
        if packet.dts is None and not packet.size:  # the last one, to flush the decoder
            continue
        if packet.is_corrupt:
            raise ValueError(f"packet {count} is incomplete")
        time = packet.dts if packet.pts is None else packet.pts
        if first is None:
            first = time
            if not packet.is_keyframe:
                return None
        shown_first = time is not None and first is not None and time >= first
        if packet.size < least or packet.is_discard or not shown_first:
            return None
        count += 1
    return count


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decode frame by frame; what the decoder marks as damaged is an error."""
    for number, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise ValueError(f"frame {number} is damaged")
        yield frame


def _orientation(frame: Any) -> int:
    """EXIF's number, 1 to 8, for the way in which a frame is to be turned."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1
    # ISO 14496-12, 6.2.2: column p, row q is seen at (a p + c q, b p + d q), beside a shift
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return _LYING[b > 0, c > 0]
    return _STANDING[a > 0, d > 0] if a or d else 1


def _pixels(scaler: Any, frame: Any, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Scale a frame to uint8 ``[channels, height, width]``."""
    from PIL import Image

    orientation = _orientation(frame)
    rows, columns = size[::-1] if orientation >= 5 else size
    alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    scaled = scaler.reformat(
        frame,
        width=columns,
        height=rows,
        format="rgba" if alpha else "rgb24",
        interpolation="BILINEAR",
    )
    image = as_mode(Image.fromarray(scaled.to_ndarray()), "RGB" if channels == 3 else "L", None)
    return np.asarray(upright(image, orientation)).reshape(*size, channels).transpose(2, 0, 1)
