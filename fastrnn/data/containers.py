"""Whether a video file is all there, by what its container states.

FFmpeg plays a file that was cut off as far as it goes, and says nothing.
"""

import os
import struct
from pathlib import Path
from typing import IO

# Boxes at the top of an MP4 or QuickTime file; whatever else follows the last one is no box.
_BOXES = frozenset(
    b"ftyp moov mdat free skip wide uuid meta udta pnot moof mfra sidx ssix styp emsg prft".split()
)
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # RFC 8794, RFC 9559
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B  # GIF89a specification
_UNFINISHED = (0, 0xFFFFFFFF)  # sizes in an AVI file whose writer never came back to its start


def cut_off(path: str | os.PathLike[str]) -> str | None:
    """Why a file is not all there, None if it is or its container doesn't tell.

    AVI, MP4 and QuickTime, Matroska and WebM, and GIF state their length or mark their end. MPEG
    streams and FLV don't.
    """
    with Path(path).open("rb") as file:
        there = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(12)
        file.seek(0)
        if start.startswith((b"GIF87a", b"GIF89a")):
            return None if _gif_ends(file) else "its end mark is missing"
        stated = 0
        if start.startswith(b"RIFF"):
            stated = _riff_end(file, there)
        elif start.startswith(_EBML):
            stated = _segment_end(file)
        elif start[4:8] in _BOXES:
            stated = _boxes_end(file, there)
    if stated > there:
        return f"its container states at least {stated:,} bytes, but the file has {there:,}"
    return None


def _riff_end(file: IO[bytes], there: int) -> int:
    """Where the last chunk ends; large files have several."""
    end = 0
    while end + 8 <= there:
        file.seek(end)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size in _UNFINISHED:
            break
        end += 8 + size
    return end


def _boxes_end(file: IO[bytes], there: int) -> int:
    """Where the last box ends."""
    end = 0
    while end + 8 <= there:
        file.seek(end)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:  # the size proper follows, in 64 bits
            size = int.from_bytes(file.read(8), "big")
        if name not in _BOXES or size < 8:  # zero: up to the end of the file
            break
        end += size
    return end


def _segment_end(file: IO[bytes]) -> int:
    """Where the segment with everything in it ends; 0 if that is unknown, as in a live stream."""
    _, header_size = _element(file)
    if header_size is None:
        return 0
    file.seek(header_size, os.SEEK_CUR)
    name, size = _element(file)
    return 0 if name != _SEGMENT or size is None else file.tell() + size


def _element(file: IO[bytes]) -> tuple[bytes, int | None]:
    """Name of an EBML element and the size of its content, None if unknown."""
    name, size = _number(file), _number(file)
    bits = 7 * len(size)
    value = int.from_bytes(size, "big") & ((1 << bits) - 1)
    return name, None if not size or value == (1 << bits) - 1 else value


def _number(file: IO[bytes]) -> bytes:
    """EBML number: as many zero bits as bytes that follow the first one, a one, the value."""
    first = file.read(1)
    if not first or not first[0]:
        return b""
    return first + file.read(8 - first[0].bit_length())


def _gif_ends(file: IO[bytes]) -> bool:
    """Whether a GIF's blocks lead to its trailer, or to something that is no block."""
    header = file.read(13)
    if len(header) < 13:
        return False
    _skip_colours(file, header[10])
    while introducer := file.read(1):
        kind = introducer[0]
        if kind == _IMAGE:
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return False
            _skip_colours(file, descriptor[8])
        if kind in (_IMAGE, _EXTENSION):
            file.read(1)  # size of a code, or kind of an extension
            while size := file.read(1):
                if not size[0]:
                    break
                file.seek(size[0], os.SEEK_CUR)
        else:
            return True
    return False


def _skip_colours(file: IO[bytes], flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)
