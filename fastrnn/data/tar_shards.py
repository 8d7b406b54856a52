"""Tar shards in WebDataset's layout."""

import contextlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.image import (
    IMAGE_SUFFIXES,
    StripDecodeError,
    read_image,
    read_image_size,
    read_unscaled,
    scaled_width,
)
from fastrnn.data.shard_samples import MOST_CLASSES, Label, Sample, Shard

LABEL_SUFFIXES = (".cls", ".json", ".txt")
_MOST_LABEL_BYTES = 1 << 20
_NUMBER = re.compile(rb"-?[0-9]{1,7}")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}

# What tarfile raises for damaged headers, beside its own errors.
_TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, EOFError, LookupError, OSError)


class TarShard(Shard):
    """A tar file of images and labels.

    Members with the same name up to its first dot, next to each other, are one sample:
    ``0001.png`` and ``0001.json``. Its image has one of the endings in `IMAGE_SUFFIXES`; its label
    is, with the ending

    - ``.json``, an object with ``"label"``: a class name, a class number, or null (unlabelled);
    - ``.cls``, a class number in digits, -1 for unlabelled;
    - ``.txt``, a class name in UTF-8, empty for unlabelled.

    Members with other endings (``0001.mask.png`` is one) are passed over, and so are those whose
    name begins with a dot.
    """

    def index(self, *, widths: bool) -> Iterator[Sample | StripDecodeError]:
        """See `Shard.index`."""
        with self.path.open("rb") as file:
            try:
                tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (closed with the file)
            except _TAR_ERRORS as error:
                yield self.error(_not_a_tar(file, error))
                return
            yield from self._samples(tar, file, widths)

    def read(self, key: str, offset: int, size: int, *, verify: bool) -> NDArray[np.uint8]:
        """See `Shard.read`."""
        with self._image(key, offset, size) as image:
            return read_image(self.path, self.height, self.channels, file=image)

    def read_stored(self, key: str, offset: int, size: int) -> tuple[str, NDArray[np.uint8]]:
        """Read a sample in its own size; as `read_unscaled`."""
        with self._image(key, offset, size) as image:
            return read_unscaled(self.path, image)

    @contextlib.contextmanager
    def _image(self, key: str, offset: int, size: int) -> Iterator[io.BytesIO]:
        """Bytes of a sample's image; an error inside names the sample."""
        with self.path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        try:
            yield io.BytesIO(content)
        except StripDecodeError as error:
            raise self.error(error.reason, key) from error

    def _samples(
        self, tar: tarfile.TarFile, file: BinaryIO, widths: bool
    ) -> Iterator[Sample | StripDecodeError]:
        """Group the members by key. The last group is given out only once its end was seen."""
        seen: set[str] = set()
        group: _Group | None = None
        try:
            for member in _members(tar):
                key, ending = _split(member.name)
                if not key:
                    continue
                if group is None or group.key != key:
                    if group is not None:
                        yield self._sample(tar, group, widths)
                    group = _Group(key, apart=key in seen)
                    seen.add(key)
                group.add(ending, member)
            _check_end(tar, file)
        except _TAR_ERRORS as error:
            within = "its first sample" if group is None else f"sample {group.key!r}"
            yield self.error(f"is damaged or was cut off in or after {within} ({error})")
            return
        if group is not None:
            yield self._sample(tar, group, widths)

    def _sample(
        self, tar: tarfile.TarFile, group: "_Group", widths: bool
    ) -> Sample | StripDecodeError:
        try:
            image = group.only("image", group.images)
            label = _label(tar, group.only("label", group.labels))
            width = self._width(tar, image) if widths else None
        except StripDecodeError as error:
            return self.error(error.reason, group.key)
        except ValueError as error:
            return self.error(str(error), group.key)
        return Sample(group.key, label, image.offset_data, image.size, width)

    def _width(self, tar: tarfile.TarFile, image: tarfile.TarInfo) -> int:
        file = tar.extractfile(image)
        assert file is not None  # it is a regular file
        return scaled_width(*read_image_size(self.path, file), self.height)


@dataclass
class _Group:
    """Members of one sample."""

    key: str
    apart: bool
    images: list[tarfile.TarInfo] = field(default_factory=list)
    labels: list[tarfile.TarInfo] = field(default_factory=list)

    def add(self, ending: str, member: tarfile.TarInfo) -> None:
        if ending in IMAGE_SUFFIXES:
            self.images.append(member)
        elif ending in LABEL_SUFFIXES:
            self.labels.append(member)

    def only(self, what: str, members: list[tarfile.TarInfo]) -> tarfile.TarInfo:
        """Return the image or label; ValueError if there is none, or more than one."""
        if self.apart:
            raise ValueError("its members are not next to each other, or the key is used twice")
        if not members:
            hint = f" ({', '.join(LABEL_SUFFIXES)})" if what == "label" else ""
            raise ValueError(f"has no {what}{hint}")
        if len(members) > 1:
            names = " and ".join(PurePosixPath(member.name).name for member in members)
            raise ValueError(f"has {len(members)} {what}s: {names}")
        if not members[0].isfile() or members[0].issparse():
            raise ValueError(f"{members[0].name} is a link or sparse; it must be a plain file")
        return members[0]


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members but folders; ReadError where they don't go forward, which would never end."""
    end = -1
    while (member := tar.next()) is not None:
        if member.offset <= end:
            raise tarfile.ReadError("a header points backwards")
        end = member.offset
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        if not member.isdir():
            yield member


def _check_end(tar: tarfile.TarFile, file: BinaryIO) -> None:
    """Tarfile takes a damaged header for the end, and so it does the end of a file cut off."""
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("the end mark is missing")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"bad header at byte {tar.offset}")


def _split(name: str) -> tuple[str, str]:
    """Key and ending, divided at the first dot of the file's name, as WebDataset does."""
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    return (str(path.with_name(stem)) if stem else ""), (dot + ending).lower()


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Label:
    file = tar.extractfile(member)
    if file is None or member.size > _MOST_LABEL_BYTES:
        raise ValueError(f"label {member.name} has {member.size:,} bytes, too many for a label")
    content = file.read()
    ending = _split(member.name)[1]
    if ending == ".json":
        return _json_label(content)
    if ending == ".txt":
        try:
            return content.decode().strip() or None
        except UnicodeDecodeError as error:
            raise ValueError(f"label is not UTF-8 ({error})") from error
    if not _NUMBER.fullmatch(content.strip()):
        shown = content[:40].decode(errors="replace")
        raise ValueError(f"label {shown!r} is not a class number (.txt is for class names)")
    return _number(int(content))


def _json_label(content: bytes) -> Label:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"label is not JSON ({error})") from error
    if not isinstance(value, dict) or "label" not in value:
        raise ValueError('label has no "label" in its JSON')
    label = value["label"]
    if isinstance(label, str):
        return label or None
    if label is None:
        return None
    if not isinstance(label, int) or isinstance(label, bool):
        raise ValueError(f'"label" is {label!r}, but must be a name, a number or null')
    return _number(label)


def _number(number: int) -> int | None:
    if not -1 <= number < MOST_CLASSES:
        raise ValueError(f"class number {number} is not in -1 .. {MOST_CLASSES - 1:,}")
    return None if number == -1 else number


def _not_a_tar(file: BinaryIO, error: Exception) -> str:
    file.seek(0)
    start = file.read(2)
    if not start:
        return "the file is empty"
    if start in _COMPRESSED:
        return f"is compressed ({_COMPRESSED[start]}); unpack it, so that samples can be found"
    return f"not a tar file ({error})"
