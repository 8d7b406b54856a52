"""What shards of every format have in common: their paths, samples and labels."""

import glob
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import check_labels, listed
from fastrnn.data.dataset import UNLABELLED
from fastrnn.data.image import StripDecodeError

ShardPaths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Label: TypeAlias = str | int | None

SHARD_SUFFIXES = (".tar", ".npz")
LABELS_FILE = "labels.json"
MOST_CLASSES = 1_000_000  # numbers beyond are taken for damage
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One strip in a shard.

    Attributes
    ----------
    key
        Its name, different from all others in the shard.
    label
        Name or number of its class, None if unlabelled.
    offset, size
        Where its pixels are: bytes of the file.
    width
        Columns after scaling; None if they were not asked for.
    """

    key: str
    label: Label
    offset: int
    size: int
    width: int | None


class Shard(ABC):
    """A file that holds many strips.

    Parameters
    ----------
    path
        The file.
    height, channels
        Rows and channels of every strip as it is read.
    """

    def __init__(self, path: Path, height: int, channels: int) -> None:
        self.path = path
        self.height = height
        self.channels = channels

    @abstractmethod
    def index(self, *, widths: bool) -> Iterator[Sample | StripDecodeError]:
        """All samples in their order; an error in the place of one that is not as it should be.

        What ends the shard before its time is the last error. Pixels are not read; image headers
        are, if `widths` are wanted.
        """

    @abstractmethod
    def read(self, key: str, offset: int, size: int, *, verify: bool) -> NDArray[np.uint8]:
        """Pixels ``[C, H, W]`` of a sample; StripDecodeError if they are damaged.

        Where the format's checksum is over all samples, it is looked at only to `verify`, once.
        """

    def target(self, sample: Sample, classes: "Classes") -> int:
        """Target of a sample; StripDecodeError if its label is none of the classes."""
        try:
            return classes.target(sample.label)
        except ValueError as error:
            raise self.error(str(error), sample.key) from error

    def error(self, reason: str, key: str | None = None) -> StripDecodeError:
        """Make an error that names the shard and, by its key, the sample that it is about."""
        return StripDecodeError(self.path, reason if key is None else f"sample {key!r}: {reason}")


def shard_paths(paths: ShardPaths) -> list[Path]:
    """Files that some paths, patterns and folders stand for.

    Parameters
    ----------
    paths
        One or several. ``train-{000..012}.tar`` stands for 13 files, ``{train,test}.tar`` for two,
        ``train-*.tar`` for all that exist, sorted, and a folder for all shards in it, sorted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If there are none at all, one is given twice, or ends neither in .tar nor in .npz.

    Examples
    --------
    >>> shard_paths("train-{000..012}.tar")
    Traceback (most recent call last):
    ...
    FileNotFoundError: shard train-000.tar does not exist
    """
    if not isinstance(paths, str | os.PathLike | Iterable):
        raise TypeError(f"paths is {paths!r}, but must be a path or a sequence of some")
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[Path, None] = {}
    for item in given:
        for path in _expanded(os.fspath(item)):
            if path.suffix.lower() not in SHARD_SUFFIXES:
                raise ValueError(f"{path} is no shard: its name must end in .tar or .npz")
            if path in found:
                raise ValueError(f"shard {path} is given twice")
            found[path] = None
    if not found:
        raise ValueError("paths is empty; give at least one shard")
    return list(found)


def holds_shards(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a shard or a pattern of some by its ending, or a folder of shards.

    A folder of shards has some directly in it, and no folders.
    """
    path = Path(source)
    if not path.is_dir():
        return path.suffix.lower() in SHARD_SUFFIXES
    inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    is_shard = (entry.suffix.lower() in SHARD_SUFFIXES for entry in inside)
    return any(is_shard) and not any(entry.is_dir() for entry in inside)


def _expanded(pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_dir():
        shards = sorted(file for file in path.iterdir() if file.suffix.lower() in SHARD_SUFFIXES)
        if not shards:
            raise ValueError(f"there are no shards (.tar, .npz) in folder {path}")
        yield from shards
    elif path.exists():
        yield path
    else:
        for name in _without_braces(pattern):
            yield from _matching(name)


def _without_braces(pattern: str) -> Iterator[str]:
    """All names that a pattern with ``{000..012}`` or ``{a,b}`` stands for."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    for option in _options(braces[1]):
        for rest in _without_braces(pattern[braces.end() :]):
            yield pattern[: braces.start()] + option + rest


def _options(inside: str) -> Iterator[str]:
    if span := _RANGE.fullmatch(inside):
        padded = any(len(end) > 1 and end.startswith("0") for end in span.groups())
        digits = max(map(len, span.groups())) if padded else 0
        if int(span[1]) > int(span[2]):
            raise ValueError(f"{{{inside}}} counts down; the smaller number must be the first")
        for number in range(int(span[1]), int(span[2]) + 1):
            yield f"{number:0{digits}d}"
    elif "," in inside:
        yield from inside.split(",")
    else:
        yield f"{{{inside}}}"


def _matching(name: str) -> list[Path]:
    if glob.has_magic(name):
        if matches := sorted(glob.glob(name)):  # noqa: PTH207 (a pattern may begin at the root)
            return [Path(match) for match in matches]
        raise FileNotFoundError(f"no shard matches {name}")
    if not Path(name).exists():
        raise FileNotFoundError(f"shard {name} does not exist")
    return [Path(name)]


class Classes:
    """The classes that the labels in shards stand for.

    Parameters
    ----------
    names
        Class names in the order of the targets.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = check_labels(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def target(self, label: Label) -> int:
        """Target of a label; ValueError, which says why, if it is none of the classes."""
        if label is None:
            return UNLABELLED
        if isinstance(label, str):
            if label not in self._numbers:
                raise ValueError(f"label {label!r} is not among {listed(self.names)}")
            return self._numbers[label]
        if label >= len(self.names):
            raise ValueError(f"class number {label} is too large for {len(self.names)} labels")
        return label


def shard_classes(
    labels: Sequence[str] | None, first_shard: Path, found: Iterable[Label]
) -> Classes:
    """Classes by the labels that are given, those in the shards' labels.json, or those found.

    Raises
    ------
    ValueError
        If labels.json is damaged, or names and numbers were found without any list of names.
    """
    if labels is not None:
        return Classes(labels)
    stored = _stored_labels(first_shard.parent / LABELS_FILE)
    if stored is not None:
        return stored
    names = {label for label in found if isinstance(label, str)}
    numbers = {label for label in found if isinstance(label, int)}
    if names and numbers:
        raise ValueError(
            f"the shards hold class names (such as {min(names)!r}) and class numbers (such as "
            f"{min(numbers)}); give labels= to say which name has which number"
        )
    return Classes(sorted(names) or [str(number) for number in range(max(numbers, default=-1) + 1)])


def _stored_labels(path: Path) -> Classes | None:
    if not path.exists():
        return None
    try:
        names = json.loads(path.read_bytes())
        if not isinstance(names, list):
            raise ValueError("it holds no list")
        return Classes(names)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a JSON list of class names ({error}); mend it, or give labels="
        ) from error
