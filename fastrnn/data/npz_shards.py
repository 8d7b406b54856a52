"""NPZ shards: strips, lengths and targets as NumPy arrays in one uncompressed file."""

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastrnn.data.checks import IntArray, check_labels, check_range, counted, int_array, listed
from fastrnn.data.image import StripDecodeError, scale_strip, scaled_width
from fastrnn.data.shard_samples import MOST_CLASSES, Label, Sample, Shard

# What a file in a ZIP archive begins with (APPNOTE.TXT 6.3.10, 4.3.7); the lengths of its name and
# of its extra field are the last two words.
_LOCAL_HEADER = struct.Struct("<26xHH")
_CHUNK = 1 << 20

# What zipfile and NumPy raise for damaged files. NotImplementedError: features of ZIP they lack.
_NPZ_ERRORS = (
    *(zipfile.BadZipFile, ValueError, TypeError, LookupError, OverflowError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, struct.error),
)


class NpzShard(Shard):
    """An NPZ file of arrays, not compressed, as `numpy.savez` writes it.

    - ``strips``, uint8 ``[columns, C, H]``: the columns of all strips, one strip after the other;
    - ``lengths``, integers ``[N]``: columns of each strip;
    - ``targets``, integers ``[N]``: class numbers, -1 for unlabelled;
    - ``labels``, strings ``[K]``: class names; may be missing.

    Other arrays are passed over. A sample's key is its number in the shard.

    Only the three small arrays are read as a whole. A strip is read from its place in the file,
    since NumPy can't map arrays in NPZ files. The file's checksum is over all strips, so a wrong
    pixel is found only where the whole shard is verified. Arrays of Python objects are refused:
    nothing is unpickled.
    """

    _rows: int | None = None  # of the strips in the file

    def index(self, *, widths: bool) -> Iterator[Sample | StripDecodeError]:
        """See `Shard.index`."""
        try:
            content = self._content()
        except StripDecodeError as error:
            yield error
            return
        self._rows = content.rows
        starts = np.cumsum(content.lengths) - content.lengths
        column = self.channels * content.rows
        for number, length in enumerate(content.lengths.tolist()):
            try:
                label = content.label(number)
            except ValueError as error:
                yield self.error(str(error), str(number))
                continue
            yield Sample(
                key=str(number),
                label=label,
                offset=content.offset + int(starts[number]) * column,
                size=length * column,
                width=scaled_width(length, content.rows, self.height) if widths else None,
            )

    def read(self, key: str, offset: int, size: int, *, verify: bool) -> NDArray[np.uint8]:
        """See `Shard.read`."""
        if verify and self._fault:
            raise self.error(self._fault, key)
        if self._rows is None:
            self._rows = self._content().rows
        with self.path.open("rb") as file:
            file.seek(offset)
            stored = np.frombuffer(file.read(size), np.uint8)
        if len(stored) != size:
            raise self.error("the file ends within it", key)
        strip = stored.reshape(-1, self.channels, self._rows).transpose(1, 2, 0)
        return np.array(scale_strip(strip, self.height), order="C")

    @cached_property
    def _fault(self) -> str:
        """What is wrong with the pixels by the file's checksum; empty if nothing is."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("strips.npy") as strips:
                while strips.read(_CHUNK):
                    pass
        except _NPZ_ERRORS as error:
            return f"the shard is damaged ({error})"
        return ""

    def _content(self) -> "_Content":
        try:
            with self.path.open("rb") as file, zipfile.ZipFile(file) as archive:
                if any(m.file_size > file.seek(0, os.SEEK_END) for m in archive.infolist()):
                    raise zipfile.BadZipFile("an array is larger than the file")
                strips = _header(archive, "strips")
                rows = self._check_strips(strips)
                lengths = int_array("lengths", _small_array(archive, "lengths"))
                check_range("lengths", lengths, 1, None)
                targets = int_array("targets", _small_array(archive, "targets"))
                has_labels = "labels.npy" in archive.namelist()
                labels = _labels(_small_array(archive, "labels")) if has_labels else None
                offset = _data_start(file, strips.member) + strips.size
        except zipfile.BadZipFile as error:
            raise self.error(f"not an NPZ file, or cut off ({error})") from error
        except _NPZ_ERRORS as error:
            raise self.error(str(error)) from error
        columns = strips.shape[0]
        if len(lengths) != len(targets) or lengths.sum() != columns:
            raise self.error(
                f"arrays don't fit together: strips has {columns} columns, lengths "
                f"{len(lengths)} entries with the sum {lengths.sum()}, targets {len(targets)}"
            )
        return _Content(offset, rows, lengths, targets, labels)

    def _check_strips(self, strips: "_Header") -> int:
        """Rows of the strips; ValueError if they can't be read as they are."""
        if strips.dtype != np.uint8 or len(strips.shape) != 3 or 0 in strips.shape[1:]:
            raise ValueError(
                f"array 'strips' is {strips.dtype} {list(strips.shape)}, but must be uint8 "
                "[columns, C, H]"
            )
        if strips.fortran_order:
            raise ValueError("array 'strips' is in Fortran's order; store numpy.ascontiguousarray")
        _, channels, rows = strips.shape
        if channels != self.channels:
            raise ValueError(
                f"strips have {counted(channels, 'channel')}, but {self.channels} were asked for; "
                f"open it with channels={channels}"
            )
        return rows


def stored_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Channels and rows of the strips in an NPZ shard.

    Raises
    ------
    StripDecodeError
        If it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shape = _header(archive, "strips").shape
    except _NPZ_ERRORS as error:
        raise StripDecodeError(path, f"not an NPZ shard ({error})") from error
    if len(shape) != 3 or 0 in shape[1:]:
        raise StripDecodeError(path, f"array 'strips' is {list(shape)}, not [columns, C, H]")
    return shape[1], shape[2]


@dataclass(frozen=True)
class _Content:
    """What an NPZ file holds, without the pixels; `offset` is the byte where these begin."""

    offset: int
    rows: int
    lengths: IntArray
    targets: IntArray
    labels: tuple[str, ...] | None

    def label(self, number: int) -> Label:
        """Label of a strip; ValueError if its target is not a class number."""
        target = int(self.targets[number])
        classes = MOST_CLASSES if self.labels is None else len(self.labels)
        if not -1 <= target < classes:
            raise ValueError(f"class number {target} is not in -1 .. {classes - 1:,}")
        if target == -1:
            return None
        return target if self.labels is None else self.labels[target]


@dataclass(frozen=True)
class _Header:
    """Header of an array in an NPZ file, `size` bytes long."""

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    size: int


def _header(archive: zipfile.ZipFile, name: str) -> _Header:
    """Read an array's header; ValueError if it is none that may and can be read."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"has no array {name!r}; it holds {listed(archive.namelist())}")
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"array {name!r} is compressed; write it with numpy.savez")
    with archive.open(member) as file:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(file)
        if version not in readers:
            raise ValueError(f"array {name!r} is in version {version} of NumPy's format")
        shape, fortran_order, dtype = readers[version](file)
        size = file.tell()
    if dtype.hasobject:
        raise ValueError(f"array {name!r} holds Python objects, which are never unpickled")
    content = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or member.file_size != size + content:
        raise ValueError(
            f"array {name!r} should have {content:,} bytes, but has {member.file_size - size:,}"
        )
    return _Header(member, shape, fortran_order, dtype, size)


def _small_array(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    with archive.open(_header(archive, name).member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _labels(names: NDArray[np.generic]) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError(f"array 'labels' has dtype {names.dtype}, but must be a list of strings")
    return check_labels(names.tolist())


def _data_start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Byte of the file where a member's own bytes begin."""
    file.seek(member.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)
