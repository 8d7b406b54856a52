"""Files of a training: written whole or not at all, and read without running any code in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch


class CheckpointError(ValueError):
    """A checkpoint that can't be read, or that belongs to another training."""


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` if all goes well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place."""
    with _replacing(path) as file:
        write(file)


def save_checkpoint(path: Path, kind: str, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts.

    Parameters
    ----------
    path
        The file; a former one is replaced only when the new one is complete on disk.
    kind
        What the state belongs to; asked for again by `load_checkpoint`.
    state
        The state.
    """
    write_atomically(path, lambda file: torch.save({"kind": kind, "state": state}, file))


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Read a state, its tensors to the CPU. Nothing pickled is run.

    Raises
    ------
    CheckpointError
        If the file can't be read, or holds something else than a `kind`.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"checkpoint {path} can't be read: {first_line}") from error
    if not isinstance(payload, dict) or payload.get("kind") != kind:
        raise CheckpointError(f"{path} is not a {kind} checkpoint")
    state: dict[str, Any] = payload["state"]
    return state


def prepare_folder(out_dir: str | os.PathLike[str]) -> Path:
    """Make an output folder and try to write in it.

    Raises
    ------
    ValueError
        If the folder can't be made or written to.
    """
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"out_dir {str(folder)!r} can't be written: {error.strerror or error}"
        ) from error
    return folder


def check_no_run(path: Path) -> None:
    """Raise ValueError if `path`, the checkpoint of a former training, exists."""
    if path.exists():
        raise ValueError(
            f"out_dir {str(path.parent)!r} already holds a training ({path.name}): go on with it "
            f"by resume=True, or choose another folder"
        )


def check_same(path: Path, differences: Sequence[str]) -> None:
    """Raise CheckpointError if there are `differences` to the training of a checkpoint."""
    if differences:
        raise CheckpointError(
            f"{path} is of another training: {'; '.join(differences)}. Go on with what it was "
            f"started with, or start anew in another folder"
        )
