"""The files that a manifest lists: a CSV file with the columns ``path`` and ``label``."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from fastrnn.data.checks import OnError, check_labels, listed
from fastrnn.data.dataset import UNLABELLED


def listed_files(
    csv_path: Path,
    root: str | os.PathLike[str] | None,
    labels: Sequence[str] | None,
    on_error: OnError,
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files that a manifest lists, the target of each, and the labels."""
    base = csv_path.parent if root is None else Path(root)
    lines = read_manifest(csv_path)
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


def read_manifest(path: Path) -> list[tuple[int, str, str]]:
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
