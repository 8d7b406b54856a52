"""What `auto` decided in a run, as far as it may ship: right, and from a known commit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from . import stored
from .results import CHECKS, Document, Record, slug

AUTO = "auto"


def why_not(document: Document) -> str:
    """What speaks against storing any decision of a run; empty if nothing does."""
    if changes := stored.changes(document):
        return f"{', '.join(changes)} was part of it"
    commit = str(_environment(document).get("commit", "unknown"))
    if commit == "unknown":
        return "its commit is unknown; --commit tells it where there is no git"
    if commit.endswith("-dirty"):
        return f"it ran from {commit}, whose sources nobody has"
    return ""


def distrusted(failures: Iterable[Record]) -> set[str]:
    """Backends that failed in check, sanitize or speed, in whatever way."""
    found: set[str] = set()
    for failure in failures:
        if failure["kind"] in CHECKS:
            found.add(failure["backend"])
        elif failure["kind"] == "incomplete":
            found.add(failure["name"])
        elif failure["kind"] == "sanitize":  # right by luck, perhaps
            found.add(failure["subject"])
        elif failure["kind"] == "cell":
            found |= set(failure["peers"])
        elif failure["kind"] == "stage" and failure["name"] in ("check", "speed"):
            found.add(AUTO)  # it ended half-way: who else would have failed, nobody knows
    return found


def store(source: Path, document: Document, merged: Document, folder: Path) -> tuple[Path, int]:
    """Put the decisions of a run into its device's file; returns it and how many it holds now.

    Those of the same commit stay, those of others go; see also `prune`.
    """
    commit = _environment(document)["commit"]
    path = _path(document, folder)
    new = json.loads(source.read_text())
    by_problem = {
        json.dumps(entry["problem"], sort_keys=True): entry
        for entry in [*_of_commit(commit, path), *new["decisions"]]
    }
    entries = _trusted(by_problem.values(), merged)
    _write(path, {**new, "commit": commit, "decisions": entries})
    return path, len(entries)


def prune(document: Document, merged: Document, folder: Path) -> int:
    """Take out stored decisions whose winner has failed since, or before; returns how many."""
    path = _path(document, folder)
    if stored.changes(document) or not path.exists():  # its failures are not those of the commit
        return 0
    try:
        known = json.loads(path.read_text())
        entries = _trusted(known["decisions"], merged)
    except (ValueError, TypeError, LookupError, AttributeError):
        stored.set_aside(path)
        return 0
    gone = len(known["decisions"]) - len(entries)
    if gone:
        _write(path, {**known, "decisions": entries})
    return gone


def _trusted(entries: Iterable[Record], merged: Document) -> list[Record]:
    """Those whose winner has no failure that is still known, of this run or an earlier one."""
    bad = distrusted(merged["failures"])
    return [entry for entry in entries if entry["winner"] not in bad and AUTO not in bad]


def _environment(document: Document) -> Record:
    environment: Record = document["environments"][document["environment"]]
    return environment


def _path(document: Document, folder: Path) -> Path:
    return folder / f"gpu_{slug(document['device'])}_decisions.json"


def _write(path: Path, contents: Record) -> None:
    stored.write(path, json.dumps(contents, indent=2) + "\n")


def _of_commit(commit: str, path: Path) -> list[Record]:
    """The stored decisions, if they are of this commit."""
    if not path.exists():
        return []
    try:
        known = json.loads(path.read_text())
        same = known.get("commit") == commit
        return [entry for entry in known["decisions"] if same and entry["problem"]]
    except (ValueError, TypeError, LookupError, AttributeError):
        stored.set_aside(path)
        return []
