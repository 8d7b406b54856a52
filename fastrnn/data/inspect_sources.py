"""What there is to look at in a source of files: its parts, and the strips of each."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.audio import SoundReader
from fastrnn.data.checks import counted, listed
from fastrnn.data.depth import DepthReader
from fastrnn.data.export import UNLABELLED_FOLDER
from fastrnn.data.finding import StripKind, depth_ending, detect_kind, existing_folder, files_in
from fastrnn.data.image import StripDecodeError, read_unscaled, read_values
from fastrnn.data.listing import read_manifest
from fastrnn.data.npz_shards import NpzShard, stored_shape
from fastrnn.data.readers import READERS
from fastrnn.data.report import SeenPart
from fastrnn.data.shard_samples import Sample, Shard, holds_shards, shard_classes, shard_paths
from fastrnn.data.shards import index_shards
from fastrnn.data.tar_shards import TarShard
from fastrnn.data.video import VideoReader
from fastrnn.data.video_decoding import read_frame_size
from fastrnn.data.wav import read_wav_header

PART_FOLDERS = ("train", "validation", "valid", "val", "test")
_MODES = {1: "L", 3: "RGB"}
_NOUNS: dict[StripKind, str] = {
    "images": "image",
    "sounds": "sound",
    "videos": "video",
    "depth": "picture",
}


@dataclass(frozen=True)
class Look:
    """What a strip looks like.

    Attributes
    ----------
    mode
        How it is stored: Pillow's mode of an image, the rate of a sound, the size of a frame.
    pixels
        uint8 ``[C, H, W]``.
    depth
        The numbers of its depth map, if it has one.
    """

    mode: str
    pixels: NDArray[np.uint8]
    depth: NDArray[Any] | None = None


@dataclass(frozen=True)
class Item:
    """A strip to look at: its name, its label, and what reads it or raises a StripDecodeError."""

    name: str
    label: str | None
    look: Callable[[], Look]


Part: TypeAlias = tuple[SeenPart, list[Item]]


def mode_of(channels: int) -> str:
    """Name the mode of a strip that is no file of its own."""
    return _MODES.get(channels, f"{channels} channels")


def parts_of(source: str | os.PathLike[str], *, alone: bool) -> list[Part]:
    """Find the parts of a source; they are named after the whole path unless it is `alone`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such source, or it is none that could be trained on.
    """
    path = Path(source)
    name = path.resolve().name if alone else str(path)
    if holds_shards(path):
        return [_shards(path, name)]
    if path.is_file() and path.suffix.lower() == ".csv":
        return [_manifest(path, name)]
    if not path.is_dir():
        kind = FileNotFoundError if not path.exists() else ValueError
        what = "is a file, but not a CSV file" if path.exists() else "does not exist"
        raise kind(
            f"{path} {what}: give a folder with one folder of files per class, a CSV file with the "
            "columns path and label, or shards (.tar, .npz)"
        )
    inside = _folders(path)
    parts = [folder for folder in inside if folder.name in PART_FOLDERS]
    if parts and len(parts) == len(inside):
        parts.sort(key=lambda folder: PART_FOLDERS.index(folder.name))
        return [_folder(folder, folder.name if alone else str(folder)) for folder in parts]
    part, items = _folder(path, name)
    if parts:
        names = listed([folder.name for folder in parts])
        other = next(folder.name for folder in inside if folder not in parts)
        part.notes.append(
            f"{names} in {path} look like parts of the data, but are taken for classes, since "
            f"{other} lies beside them"
        )
    return [(part, items)]


def _folder(folder: Path, name: str) -> Part:
    if holds_shards(folder):
        return _shards(folder, name)
    kind = detect_kind(folder)
    look = _looker(kind, folder)
    found = files_in(folder, READERS[kind].files)
    if kind == "depth":
        found = _depth_reader(folder).strips_among(found)
    inside = [path.name for path in _folders(folder)]
    classes = [label for label in inside if label != UNLABELLED_FOLDER]
    part = SeenPart(name, classes)
    items: list[Item] = []
    for path in found:
        top = path.relative_to(folder).parts[0]
        if top in inside or not classes:
            label = top if top in classes else None
            items.append(Item(str(path), label, partial(look, path)))
    if beside := len(found) - len(items):
        part.notes.append(
            f"{counted(beside, _NOUNS[kind])} directly in {folder}, beside the class folders, "
            "where training reads nothing"
        )
    if classes and len(classes) < len(inside):
        part.notes.append(
            f"{folder / UNLABELLED_FOLDER} is a class of this name to whoever trains on the "
            f"folder; train on a list of the {_NOUNS[kind]}s (a CSV file), or move it"
        )
    return part, items


def _manifest(manifest: Path, name: str) -> Part:
    rows = read_manifest(manifest)
    look = _looker(detect_kind(manifest), manifest)
    items = [
        Item(
            f"{manifest}, line {line}: {manifest.parent / path}",
            label or None,
            partial(look, manifest.parent / path),
        )
        for line, path, label in rows
    ]
    return SeenPart(name, sorted({label for _, _, label in rows if label})), items


def _shards(source: Path, name: str) -> Part:
    paths = shard_paths(source)
    bad: list[StripDecodeError] = []
    shards: list[Shard] = []
    for path in paths:
        try:
            shards.append(_open_shard(path))
        except StripDecodeError as error:
            bad.append(error)
    samples: list[tuple[Shard, Sample]] = []
    for number, entry in index_shards(shards, widths=False):
        if isinstance(entry, StripDecodeError):
            bad.append(entry)
        else:
            samples.append((shards[number], entry))
    classes = shard_classes(None, paths[0], {sample.label for _, sample in samples})
    items: list[Item] = []
    for shard, sample in samples:
        try:
            target = shard.target(sample, classes)
        except StripDecodeError as error:
            bad.append(error)
            continue
        label = None if target < 0 else classes.names[target]
        look = partial(_look_into_shard, shard, sample)
        items.append(Item(f"{shard.path}: {sample.key}", label, look))
    part = SeenPart(name, classes.names)
    part.unreadable.extend((str(error.path), error.reason) for error in bad)
    return part, items


def _open_shard(path: Path) -> Shard:
    """Open a shard so that strips come in the size in which they are stored."""
    if path.suffix.lower() == ".tar":
        return TarShard(path, height=1, channels=3)  # the size is each image's own
    channels, rows = stored_shape(path)
    return NpzShard(path, rows, channels)


def _look_into_shard(shard: Shard, sample: Sample) -> Look:
    if isinstance(shard, TarShard):
        return Look(*shard.read_stored(sample.key, sample.offset, sample.size))
    pixels = shard.read(sample.key, sample.offset, sample.size, verify=True)
    return Look(mode_of(shard.channels), pixels)


def _looker(kind: StripKind, source: Path) -> Callable[[Path], Look]:
    """Return what looks at a file of a kind."""
    if kind == "images":
        return lambda path: Look(*read_unscaled(path))
    if kind == "depth":
        return partial(_look_at_depth, _depth_reader(source))
    if kind == "videos":
        VideoReader().require()
        return partial(_look_at_video, VideoReader())
    SoundReader().require()
    return partial(_look_at_sound, SoundReader())


def _depth_reader(source: Path) -> DepthReader:
    """Return a reader that finds and checks depth maps; its range is never used."""
    return DepthReader((0, 1), depth_ending=depth_ending(source))


def _look_at_depth(reader: DepthReader, path: Path) -> Look:
    reader.full_width(path)  # raises if the depth map is missing or does not cover the picture
    depth = reader.depth_of(path)
    assert depth is not None
    mode, pixels = read_unscaled(path)
    return Look(f"{mode} + depth", pixels, read_values(depth))


def _look_at_sound(reader: SoundReader, path: Path) -> Look:
    return Look(f"{read_wav_header(path).sample_rate:,} Hz", reader.read(path))


def _look_at_video(reader: VideoReader, path: Path) -> Look:
    pixels = reader.read(path)
    columns, rows = read_frame_size(path)
    return Look(f"frames of {columns:.0f} x {rows:.0f}", pixels)


def _folders(folder: Path) -> list[Path]:
    inside = sorted(existing_folder(folder).iterdir())
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
