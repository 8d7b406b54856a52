"""Finding files: those of one kind in a folder, those of each class, and of which kind they are."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from fastrnn.data.checks import as_path, check_labels, listed
from fastrnn.data.image import IMAGE_SUFFIXES
from fastrnn.data.listing import read_manifest
from fastrnn.data.video_decoding import VIDEO_SUFFIXES
from fastrnn.data.wav import WAV_SUFFIXES

FileKind = Literal["images", "sounds", "videos"]
StripKind = Literal["images", "sounds", "videos", "depth"]
"""Kinds of strips; those of "depth" are images that have depth maps beside them."""

_SUFFIXES: dict[FileKind, frozenset[str]] = {
    "images": IMAGE_SUFFIXES,
    "sounds": WAV_SUFFIXES,
    "videos": VIDEO_SUFFIXES,
}
_DEPTH = ".depth"  # a.depth.png, or a.depth.npy, is the depth map of a.png


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files in a folder: `find_files` of kind "images"."""
    return find_files(folder, "images")


def find_files(folder: str | os.PathLike[str], kind: FileKind) -> list[Path]:
    """Files of one kind in a folder and the folders in it, by their endings, sorted by path.

    Parameters
    ----------
    folder
        The folder. What begins with a dot is passed over, and files of no kind.
    kind
        "images", "sounds" (WAV) or "videos". GIF is both an image and a video.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If ``folder`` is not a folder.
    ValueError
        If there are none, or files of another kind too.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("b.wav", "a.WAV", "notes.txt"):
    ...     _ = (Path(folder.name) / name).write_bytes(b"")
    >>> [path.name for path in find_files(folder.name, "sounds")]
    ['a.WAV', 'b.wav']
    >>> folder.cleanup()
    """
    if kind not in _SUFFIXES:
        raise ValueError(f"kind is {kind!r}, but must be {' or '.join(map(repr, _SUFFIXES))}")
    folder = existing_folder(as_path("folder", folder))
    visible = _visible_files(folder)
    wanted = [path for path in visible if path.suffix.lower() in _SUFFIXES[kind]]
    others = []
    for other, suffixes in _SUFFIXES.items():
        strays = (p for p in visible if p.suffix.lower() in suffixes - _SUFFIXES[kind])
        if stray := next(strays, None):
            others.append(f"{other} such as {stray.relative_to(folder)}")
    if wanted and others:
        first = wanted[0].relative_to(folder)
        raise ValueError(
            f"{folder} mixes {kind} such as {first} with {' and '.join(others)}; "
            "put each kind into a folder of its own"
        )
    if not wanted:
        endings = ", ".join(sorted(_SUFFIXES[kind]))
        but = f", but {' and '.join(others)}" if others else ""
        raise ValueError(f"there are no {kind} in {folder} (endings looked for: {endings}){but}")
    return wanted


def detect_kind(
    source: str | os.PathLike[str], *, gif: Literal["images", "videos"] = "images"
) -> StripKind:
    """Tell of which kind the files of a source are, by their endings.

    Parameters
    ----------
    source
        A folder of class folders, a folder of files, or a manifest: a CSV file as for
        `StripManifest`. Files of no kind are passed over; if those of a manifest are all of none,
        they are taken for images.
    gif
        What GIF files are if there are no others: both are possible.

    Returns
    -------
    str
        "images", "sounds", "videos", or "depth": images some of which have a depth map beside
        them, as ``a.depth.png`` or ``a.depth.npy`` is that of ``a.png``.

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    ValueError
        If it mixes kinds, or is a folder without files of any.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("a.wav", "notes.txt"):
    ...     _ = (Path(folder.name) / name).write_bytes(b"")
    >>> detect_kind(folder.name)
    'sounds'
    >>> folder.cleanup()
    """
    source = as_path("source", source)
    files = _files_of(source)
    kind = _common_kind(source, files, gif)
    if kind == "images" and depth_endings(files):
        return "depth"
    return kind


def depth_ending(source: str | os.PathLike[str]) -> str:
    """Find the ending of the depth maps in a source of kind "depth", such as ".depth.png".

    Raises
    ------
    ValueError
        If there are none, or they have different endings.
    """
    source = as_path("source", source)
    found = sorted(depth_endings(_files_of(source)))
    if not found:
        raise ValueError(f"there are no depth maps such as a{_DEPTH}.png in {source}")
    if len(found) > 1:
        raise ValueError(f"depth maps in {source} end in {listed(found)}; give all the same ending")
    return found[0]


def depth_endings(files: Iterable[Path]) -> set[str]:
    """Find the endings of the depth maps that lie beside some images."""
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    stems = {(path.parent, path.stem) for path in pictures}
    found = set()
    for folder in {path.parent for path in pictures}:
        for beside in folder.iterdir() if folder.is_dir() else ():
            stem = beside.name[: -len(beside.suffix)] if beside.suffix else ""
            if not stem.lower().endswith(_DEPTH) or beside.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            if (folder, stem[: -len(_DEPTH)]) in stems:
                found.add(beside.name[len(stem) - len(_DEPTH) :])
    return found


def _files_of(source: Path) -> list[Path]:
    """Files in class folders, in a folder without such, or in a manifest, whatever they are."""
    if source.is_file():
        return [source.parent / path for _, path, _ in read_manifest(source)]
    inside = _visible_folders(existing_folder(source))
    return [path for folder in inside or [source] for path in _visible_files(folder)]


def _common_kind(source: Path, files: Sequence[Path], gif: Literal["images", "videos"]) -> FileKind:
    possible: set[FileKind] = set(_SUFFIXES)
    last: Path | None = None
    for path in files:
        suffix = path.suffix.lower()
        kinds = {kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes}
        if not kinds:
            continue
        if last is not None and not kinds & possible:
            raise ValueError(
                f"{source} mixes {' or '.join(sorted(possible))} such as {last} with "
                f"{' or '.join(sorted(kinds))} such as {path}; put each kind into a source of "
                "its own"
            )
        if last is None or kinds < possible:
            last = path
        possible &= kinds
    if last is None and source.is_dir():
        raise ValueError(
            f"folder {source} is empty; it should hold one folder of files per class"
            if not any(source.iterdir())
            else f"folder {source} holds no images, sounds or videos"
        )
    if len(possible) == 1:
        return possible.pop()
    return gif if last is not None else "images"


def files_in(folder: Path, kind: FileKind) -> list[Path]:
    """Find files as `find_files` does; there may be none, and others beside them."""
    return [path for path in _visible_files(folder) if path.suffix.lower() in _SUFFIXES[kind]]


def _visible_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _visible_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def class_files(
    root: Path, kind: FileKind, labels: Sequence[str] | None
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files of a kind in class folders, the target of each, and the labels; as `StripFolder`."""
    classes = _class_folders(root, kind)
    names = check_labels([folder.name for folder in classes] if labels is None else labels)
    paths: list[Path] = []
    targets: list[int] = []
    for folder in classes:
        if folder.name not in names:
            raise ValueError(f"class folder {folder} is not among the labels {listed(names)}")
        files = find_files(folder, kind)
        paths += files
        targets += [names.index(folder.name)] * len(files)
    return paths, targets, names


def existing_folder(folder: Path) -> Path:
    """Return the folder; FileNotFoundError or NotADirectoryError if it is none."""
    if not folder.exists():
        raise FileNotFoundError(f"folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but must be a folder")
    return folder


def _class_folders(root: Path, kind: FileKind) -> list[Path]:
    if classes := _visible_folders(existing_folder(root)):
        return classes
    content = [path for path in root.iterdir() if not path.name.startswith(".")]
    if not content:
        raise ValueError(f"folder {root} is empty; it should hold one folder of {kind} per class")
    raise ValueError(
        f"folder {root} has no class folders (only files such as {min(content).name}); "
        f"it should hold one folder of {kind} per class"
    )
