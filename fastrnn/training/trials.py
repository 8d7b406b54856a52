"""The trials of a tuning on disk: each a folder that one process at a time works in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fastrnn.training.checkpoint import write_atomically
from fastrnn.training.locks import locked
from fastrnn.training.search_space import Settings, as_value

TRIAL_FILE = "trial.json"
MODEL_FOLDER = "model"

Outcome = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial that came to its end.

    Attributes
    ----------
    number
        From 0, in the order of the search.
    settings
        What was tried.
    outcome
        ``"complete"``, ``"pruned"`` (stopped early, as it was behind the others) or ``"failed"``
        (the settings make no model or one that is not for these strips, the memory did not
        suffice, the loss was no longer finite, or its checkpoint is damaged).
    accuracy, loss
        The best on the validation strips, None of a failed trial.
    epochs, seconds
        What it took.
    parameters
        Of the model.
    reason
        Why it failed, else empty.
    """

    number: int
    settings: Settings
    outcome: Outcome
    accuracy: float | None
    loss: float | None
    epochs: int
    seconds: float
    parameters: int
    reason: str = ""


class TrialFolder:
    """The folder of a trial.

    Parameters
    ----------
    root
        The folder of all trials.
    number
        Of the trial.
    """

    def __init__(self, root: Path, number: int) -> None:
        self.number = number
        self.path = root / f"{number:04d}"
        self.training = self.path / "training"
        self.model = self.path / MODEL_FOLDER

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Keep other processes out; gives False if one is in. See `locked`."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "claim", wait=False) as mine:
            yield mine

    def finished(self) -> Trial | None:
        """Tell what came of the trial, None if it has not ended."""
        try:
            text = (self.path / TRIAL_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        entries = json.loads(text)
        settings = {name: as_value(value) for name, value in entries["settings"].items()}
        return Trial(**entries | {"settings": settings})

    def finish(self, trial: Trial) -> None:
        """Write down what came of it."""
        text = json.dumps(asdict(trial), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / TRIAL_FILE, lambda file: file.write(text.encode()))

    def epochs(self) -> list[dict[str, Any]]:
        """Read the records of its epochs so far."""
        try:
            text = (self.training / "metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # Another process may be in the middle of writing the last line.
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def all_folders(root: Path) -> list[TrialFolder]:
    """Folders of the trials that have begun, by number."""
    names = (path.name for path in root.iterdir()) if root.exists() else ()
    return [TrialFolder(root, int(name)) for name in sorted(names) if name.isdigit()]


def all_finished(root: Path) -> list[Trial]:
    """Trials that came to their end, by number."""
    found = (folder.finished() for folder in all_folders(root))
    return [trial for trial in found if trial is not None]
