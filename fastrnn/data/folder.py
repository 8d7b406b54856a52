"""Strips in a folder of class folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from fastrnn.data.checks import check_labels, listed
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
    height, channels, on_error
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
        on_error: OnError = "raise",
        labels: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        classes = _class_folders(self.root)
        names = check_labels([folder.name for folder in classes] if labels is None else labels)
        paths: list[Path] = []
        targets: list[int] = []
        for folder in classes:
            if folder.name not in names:
                raise ValueError(f"class folder {folder} is not among the labels {listed(names)}")
            images = find_images(folder)
            paths += images
            targets += [names.index(folder.name)] * len(images)
        super().__init__(
            paths,
            targets=targets,
            labels=names,
            height=height,
            channels=channels,
            on_error=on_error,
        )


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
    folder = existing_folder(Path(folder))
    found = images_in(folder)
    if not found:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"there are no images in {folder} (endings looked for: {endings})")
    return found


def images_in(folder: Path) -> list[Path]:
    """Find images as `find_images` does; there may be none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def existing_folder(folder: Path) -> Path:
    """Return the folder; FileNotFoundError or NotADirectoryError if it is none."""
    if not folder.exists():
        raise FileNotFoundError(f"folder {folder} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but must be a folder")
    return folder


def _class_folders(root: Path) -> list[Path]:
    content = [path for path in existing_folder(root).iterdir() if not path.name.startswith(".")]
    classes = sorted(path for path in content if path.is_dir())
    if classes:
        return classes
    if not content:
        raise ValueError(f"folder {root} is empty; it should hold one folder of images per class")
    raise ValueError(
        f"folder {root} has no class folders (only files such as {min(content).name}); "
        "it should hold one folder of images per class"
    )
