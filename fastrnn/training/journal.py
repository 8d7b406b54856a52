"""A journal of JSON lines, one object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastrnn.training.checkpoint import write_atomically


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, allow_nan=False).encode() + b"\n"


class Journal:
    """Appends entries to a file, each on disk before the next one is made.

    Parameters
    ----------
    path
        The file, or None to keep no journal.
    entries
        What the file holds at the start: nothing, or the entries up to the checkpoint that a
        training goes on from. Whatever else the file held is dropped, so that no line is double.
    """

    def __init__(self, path: Path | None, entries: Iterable[Mapping[str, Any]] = ()) -> None:
        self._path = path
        if path is not None:
            text = b"".join(_line(entry) for entry in entries)
            write_atomically(path, lambda file: file.write(text))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one entry."""
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())
