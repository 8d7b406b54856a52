"""Strips in a folder of class folders."""

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from fastrnn.data.checks import ValueRange, check_labels, listed
from fastrnn.data.files import OnError, StripFiles
from fastrnn.data.image import IMAGE_SUFFIXES


class StripFolder(StripFiles):
    """Strips in a folder that holds one folder of images per class.

    ``root/cat/1.png`` is a strip of class "cat". Images may lie deeper; hidden files and files
    that are not images by their ending are passed over.

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
        If there are no class folders, one has no images, or one is not among ``labels``.
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
        paths, targets, names = class_files(self.root, find_images, labels)
        super().__init__(
            paths,
            targets=targets,
            labels=names,
            height=height,
            channels=channels,
            value_range=value_range,
            on_error=on_error,
        )


def class_files(
    root: str | os.PathLike[str],
    find: Callable[[Path], list[Path]],
    labels: Sequence[str] | None = None,
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files, class numbers and class names of a folder that holds one folder per class.

    Parameters
    ----------
    root
        The folder.
    find
        Gives the files of a class folder.
    labels
        As for `StripFolder`.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        As for `StripFolder`.
    """
    classes = _class_folders(Path(root))
    names = check_labels([folder.name for folder in classes] if labels is None else labels)
    paths: list[Path] = []
    targets: list[int] = []
    for folder in classes:
        if folder.name not in names:
            raise ValueError(f"class folder {folder} is not among the labels {listed(names)}")
        found = find(folder)
        paths += found
        targets += [names.index(folder.name)] * len(found)
    return paths, targets, names


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files in a folder and the folders in it, by their endings, sorted by path.

    Parameters
    ----------
    folder
        The folder. What begins with a dot is passed over.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If ``folder`` is not a folder.
    ValueError
        If there is no image in it.
    """
    return find_files(folder, IMAGE_SUFFIXES, "images")


def find_files(folder: str | os.PathLike[str], suffixes: Collection[str], what: str) -> list[Path]:
    """Files in a folder and the folders in it with one of some endings, as `find_images`.

    Parameters
    ----------
    folder
        The folder.
    suffixes
        The endings, in lower case.
    what
        What such files are called in an error.
    """
    folder = _existing_folder(Path(folder))
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        endings = ", ".join(sorted(suffixes))
        raise ValueError(f"there are no {what} in {folder} (endings looked for: {endings})")
    return found


def _existing_folder(folder: Path) -> Path:
    if not folder.exists():
        raise FileNotFoundError(f"folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but must be a folder")
    return folder


def _class_folders(root: Path) -> list[Path]:
    content = [path for path in _existing_folder(root).iterdir() if not path.name.startswith(".")]
    classes = sorted(path for path in content if path.is_dir())
    if classes:
        return classes
    if not content:
        raise ValueError(f"folder {root} is empty; it should hold one folder per class")
    raise ValueError(
        f"folder {root} has no class folders (only files such as {min(content).name}); "
        "it should hold one folder per class"
    )
