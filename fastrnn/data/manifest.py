"""Strips listed in a CSV file."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from fastrnn.data.audio import StripAudio
from fastrnn.data.checks import ValueRange, check_labels, listed
from fastrnn.data.dataset import UNLABELLED
from fastrnn.data.files import OnError, StripFiles
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
        ``labels``; names the line.
    StripDecodeError
        As for `StripFiles`.

    Examples
    --------
    >>> import tempfile
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
        self.csv_path = Path(csv_path)
        paths, targets, names = _listed_files(self.csv_path, root, labels, on_error)
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
    >>> import numpy as np
    >>> from scipy.io import wavfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> wavfile.write(Path(folder.name) / "1.wav", 8000, np.zeros(4000, np.int16))
    >>> manifest = Path(folder.name) / "sounds.csv"
    >>> _ = manifest.write_text("path,label\n1.wav,yes\n1.wav,no\n")
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
        self.csv_path = Path(csv_path)
        paths, targets, names = _listed_files(self.csv_path, root, labels, on_error)
        super().__init__(paths, targets=targets, labels=names, config=config, on_error=on_error)


def _listed_files(
    csv_path: Path,
    root: str | os.PathLike[str] | None,
    labels: Sequence[str] | None,
    on_error: OnError,
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files that a manifest lists, the target of each, and the labels."""
    base = csv_path.parent if root is None else Path(root)
    lines = _read_manifest(csv_path)
    found = sorted({label for _, _, label in lines if label})
    names = check_labels(found if labels is None else labels)
    target_of = {name: target for target, name in enumerate(names)} | {"": UNLABELLED}
    paths: list[Path] = []
    for line, path, label in lines:
        where = f"{csv_path}, line {line}"
        if label not in target_of:
            raise ValueError(f"{where}: label {label!r} is not among {listed(names)}")
        paths.append(base / path)
        if on_error == "raise" and not paths[-1].exists():
            raise FileNotFoundError(f"{where}: {paths[-1]} does not exist")
    return paths, [target_of[label] for _, _, label in lines], names


def _read_manifest(path: Path) -> list[tuple[int, str, str]]:
    """Line number, path and label of each row."""
    if not path.exists():
        raise FileNotFoundError(f"manifest {path} does not exist")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a BOM
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            missing = [name for name in ("path", "label") if name not in header]
            if missing:
                raise ValueError(
                    f"{path}: column{'s' * (len(missing) > 1)} {' and '.join(missing)} missing; "
                    f"the first line should be path,label but is {','.join(header)!r}"
                )
            rows = [
                (reader.line_num, *_row(path, reader.line_num, header, cells))
                for cells in reader
                if cells
            ]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} lists no strips")
    return rows


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> tuple[str, str]:
    if len(cells) != len(header):
        raise ValueError(
            f"{path}, line {line}: {len(cells)} fields, but the first line has {len(header)}"
        )
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    if not row["path"]:
        raise ValueError(f"{path}, line {line}: the path is empty")
    return row["path"], row["label"]
