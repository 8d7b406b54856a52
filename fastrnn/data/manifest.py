"""Strips listed in a CSV file."""

import os
from collections.abc import Sequence

from fastrnn.data.audio import StripAudio
from fastrnn.data.checks import OnError, ValueRange, as_path
from fastrnn.data.files import StripFiles
from fastrnn.data.listing import listed_files
from fastrnn.data.spectrogram import LogMel


class StripManifest(StripFiles):
    """Strips listed in a CSV file with the columns ``path`` and ``label``.

    A path is relative to the CSV's folder (or to ``root``); an empty label means unlabelled.
    Other columns are passed over.

    Parameters
    ----------
    csv_path
        The CSV file, UTF-8, separated by commas, first line the header.
    height, channels, value_range, on_error
        As for `StripFiles`.
    labels
        Class names in the order of the targets. By default the labels found, sorted.
    root
        Folder that the paths are relative to, if not the CSV's.

    Raises
    ------
    FileNotFoundError
        If the CSV or a file that it lists does not exist.
    ValueError
        If a column is missing, a line is malformed, there are no lines, or a label is not among
        ``labels``, or a file has two labels; names the line.
    StripDecodeError
        As for `StripFiles`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastrnn.data import StripDigits, export_strips
    >>> folder = tempfile.TemporaryDirectory()
    >>> manifest = export_strips(StripDigits("test", size=50), Path(folder.name) / "strips")
    >>> StripManifest(manifest, height=14)
    StripManifest(50 strips, height 14, 1 channel, 10 classes)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        csv_path: str | os.PathLike[str],
        *,
        height: int = 28,
        channels: int = 1,
        value_range: ValueRange | None = None,
        labels: Sequence[str] | None = None,
        root: str | os.PathLike[str] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.csv_path = as_path("csv_path", csv_path)
        paths, targets, names = listed_files(self.csv_path, root, labels, on_error)
        super().__init__(
            paths,
            targets=targets,
            labels=names,
            height=height,
            channels=channels,
            value_range=value_range,
            on_error=on_error,
        )


class StripAudioManifest(StripAudio):
    r"""WAV files listed in a CSV file with the columns ``path`` and ``label``.

    The file is as for `StripManifest`.

    Parameters
    ----------
    csv_path, labels, root
        As for `StripManifest`.
    config, on_error
        As for `StripAudio`.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `StripManifest`.
    StripDecodeError, ModuleNotFoundError
        As for `StripAudio`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from scipy.io import wavfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("1.wav", "2.wav"):
    ...     wavfile.write(Path(folder.name) / name, 8000, np.zeros(4000, np.int16))
    >>> manifest = Path(folder.name) / "sounds.csv"
    >>> _ = manifest.write_text("path,label\n1.wav,yes\n2.wav,no\n")
    >>> StripAudioManifest(manifest)
    StripAudioManifest(2 strips, height 40, 1 channel, 2 classes)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        csv_path: str | os.PathLike[str],
        *,
        config: LogMel | None = None,
        labels: Sequence[str] | None = None,
        root: str | os.PathLike[str] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.csv_path = as_path("csv_path", csv_path)
        paths, targets, names = listed_files(self.csv_path, root, labels, on_error)
        super().__init__(paths, targets=targets, labels=names, config=config, on_error=on_error)
