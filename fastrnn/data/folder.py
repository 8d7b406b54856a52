"""Strips in a folder of class folders, of images or of sounds; files of one kind in a folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fastrnn.data.audio import StripAudio
from fastrnn.data.checks import ValueRange, check_labels, listed
from fastrnn.data.files import OnError, StripFiles
from fastrnn.data.image import IMAGE_SUFFIXES
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video_decoding import VIDEO_SUFFIXES
from fastrnn.data.wav import WAV_SUFFIXES

FileKind = Literal["images", "sounds", "videos"]

_SUFFIXES: dict[FileKind, frozenset[str]] = {
    "images": IMAGE_SUFFIXES,
    "sounds": WAV_SUFFIXES,
    "videos": VIDEO_SUFFIXES,
}


class StripFolder(StripFiles):
    """Strips in a folder that holds one folder of images per class.

    ``root/cat/1.png`` is a strip of class "cat". Images may lie deeper; hidden files and files
    that are neither images, sounds nor videos by their ending are passed over.

    Parameters
    ----------
    root
        The folder.
    height, channels, value_range, on_error
        As for `StripFiles`.
    labels
        Class names in the order of the targets, for instance those of a trained model; some may
        have no folder. By default the names of the class folders, sorted.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If ``root`` is not a folder.
    ValueError
        If there are no class folders, one has no images or has other kinds too, or one is not among
        ``labels``.
    StripDecodeError
        As for `StripFiles`.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits, export_strips
    >>> folder = tempfile.TemporaryDirectory()
    >>> _ = export_strips(StripDigits("test", size=50), Path(folder.name) / "strips")
    >>> StripFolder(Path(folder.name) / "strips")
    StripFolder(50 strips, height 28, 1 channel, 10 classes)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        height: int = 28,
        channels: int = 1,
        value_range: ValueRange | None = None,
        on_error: OnError = "raise",
        labels: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        paths, targets, names = class_files(self.root, "images", labels)
        super().__init__(
            paths,
            targets=targets,
            labels=names,
            height=height,
            channels=channels,
            value_range=value_range,
            on_error=on_error,
        )


class StripAudioFolder(StripAudio):
    """Strips in a folder that holds one folder of WAV files per class.

    ``root/yes/1.wav`` is a strip of class "yes". WAV files may lie deeper; hidden files and files
    that are neither sounds, images nor videos by their ending are passed over.

    Parameters
    ----------
    root
        The folder.
    config, on_error
        As for `StripAudio`.
    labels
        As for `StripFolder`.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If ``root`` is not a folder.
    ValueError
        If there are no class folders, one has no sounds or has other kinds too, or one is not among
        ``labels``.
    StripDecodeError, ModuleNotFoundError
        As for `StripAudio`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from scipy.io import wavfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("no", "yes"):
    ...     (Path(folder.name) / name).mkdir()
    ...     wavfile.write(Path(folder.name) / name / "1.wav", 8000, np.zeros(4000, np.int16))
    >>> StripAudioFolder(folder.name)
    StripAudioFolder(2 strips, height 40, 1 channel, 2 classes)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        config: LogMel | None = None,
        on_error: OnError = "raise",
        labels: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        paths, targets, names = class_files(self.root, "sounds", labels)
        super().__init__(paths, targets=targets, labels=names, config=config, on_error=on_error)


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
    folder = existing_folder(Path(folder))
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


def images_in(folder: Path) -> list[Path]:
    """Find images as `find_images` does; there may be none, and other files beside them."""
    return [path for path in _visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def _visible_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


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
    content = [path for path in existing_folder(root).iterdir() if not path.name.startswith(".")]
    classes = sorted(path for path in content if path.is_dir())
    if classes:
        return classes
    if not content:
        raise ValueError(f"folder {root} is empty; it should hold one folder of {kind} per class")
    raise ValueError(
        f"folder {root} has no class folders (only files such as {min(content).name}); "
        f"it should hold one folder of {kind} per class"
    )
