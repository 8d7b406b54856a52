"""Strips in a folder of class folders, of images or of sounds."""

import os
from collections.abc import Sequence

from fastrnn.data.audio import StripAudio
from fastrnn.data.checks import OnError, ValueRange, as_path
from fastrnn.data.files import StripFiles
from fastrnn.data.finding import class_files
from fastrnn.data.finding import find_files as find_files
from fastrnn.data.finding import find_images as find_images
from fastrnn.data.spectrogram import LogMel


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
    >>> from pathlib import Path
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
        self.root = as_path("root", root)
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
    >>> from pathlib import Path
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
        self.root = as_path("root", root)
        paths, targets, names = class_files(self.root, "sounds", labels)
        super().__init__(paths, targets=targets, labels=names, config=config, on_error=on_error)
