"""The files that a manifest lists: a CSV file with the columns ``path`` and ``label``."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from fastrnn.data.checks import OnError, as_path, check_labels, listed
from fastrnn.data.dataset import UNLABELLED

_Lines: TypeAlias = list[tuple[int, str, str]]


def listed_files(
    csv_path: Path,
    root: str | os.PathLike[str] | None,
    labels: Sequence[str] | None,
    on_error: OnError,
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files that a manifest lists, the target of each, and the labels."""
    lines = read_manifest(csv_path)
    found = sorted({label for _, _, label in lines if label})
    names = check_labels(found if labels is None else labels)
    target_of = {name: target for target, name in enumerate(names)} | {"": UNLABELLED}
    for line, _, label in lines:
        if label not in target_of:
            raise ValueError(
                f"{csv_path}, line {line}: label {label!r} is not among {listed(names)}"
            )
    paths = _paths(csv_path, lines, root, on_error)
    _check_one_label_each(csv_path, paths, lines)
    return paths, [target_of[label] for _, _, label in lines], names


def listed_paths(csv_path: Path, on_error: OnError) -> list[Path]:
    """Files that a manifest lists, whatever their labels are."""
    return _paths(csv_path, read_manifest(csv_path), None, on_error)


def _paths(
    csv_path: Path, lines: _Lines, root: str | os.PathLike[str] | None, on_error: OnError
) -> list[Path]:
    base = csv_path.parent if root is None else as_path("root", root)
    paths = [base / path for _, path, _ in lines]
    for path, (line, _, _) in zip(paths, lines, strict=True):
        if on_error == "raise" and not path.is_file():
            where = f"{csv_path}, line {line}"
            if path.is_dir():
                raise IsADirectoryError(f"{where}: {path} is a folder, but must be a file")
            if not path.exists():
                raise FileNotFoundError(f"{where}: {path} does not exist")
    return paths


def _check_one_label_each(csv_path: Path, paths: Sequence[Path], lines: _Lines) -> None:
    """Raise ValueError if a file has two labels; none, and the same one twice, are no other."""
    seen: dict[Path, tuple[int, str]] = {}
    for path, (line, _, label) in zip(paths, lines, strict=True):
        if not label:
            continue
        first_line, first = seen.setdefault(path, (line, label))
        if label != first:
            raise ValueError(
                f"{csv_path}, lines {first_line} and {line}: {path} is labelled {first!r} and "
                f"{label!r}; a file has one label"
            )


def read_manifest(path: Path) -> _Lines:
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
