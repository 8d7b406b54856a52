"""What `auto` decided in a run, as far as it may ship: right, and from a known commit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .results import CHECKS, FAILED, Document, Record, failed, slug
from .stored import set_aside, write

AUTO = "auto"


def why_not(document: Document) -> str:
    """What speaks against storing any decision of a run; empty if nothing does."""
    if plugin := document["options"].get("plugin"):
        return f"{plugin} was part of it"
    (environment,) = document["environments"].values()
    commit = str(environment.get("commit", "unknown"))
    if commit == "unknown":
        return "its commit is unknown; --commit tells it where there is no git"
    if commit.endswith("-dirty"):
        return f"it ran from {commit}, whose sources nobody has"
    return ""


def distrusted(records: Iterable[Record]) -> set[str]:
    """Backends that failed in check or speed, in whatever way."""
    found: set[str] = set()
    for record in filter(failed, records):
        if record["kind"] in CHECKS:
            found.add(record["params"]["backend"])
        elif record["kind"] == "incomplete":
            found.add(record["name"])
        elif record["kind"] == "cell":
            peers = record.get("peers", {})
            found |= {name for name, peer in peers.items() if peer["status"] in FAILED}
            found.add(record.get("subject", ""))
        elif record["kind"] == "stage" and record["name"] in ("check", "speed"):
            found.add(AUTO)  # it ended half-way: who else would have failed, nobody knows
    return found


def store(
    source: Path, document: Document, records: Iterable[Record], folder: Path
) -> tuple[Path, int]:
    """Put the decisions of a run into its device's file; returns it and how many it holds now.

    Those of the same commit stay, unless their winner has failed now; those of others go.
    """
    (environment,) = document["environments"].values()
    commit = environment["commit"]
    path = folder / f"gpu_{slug(document['device'])}_decisions.json"
    new = json.loads(source.read_text())
    bad = distrusted(records)
    by_problem = {
        json.dumps(entry["problem"], sort_keys=True): entry
        for entry in [*_of_commit(commit, path), *new["decisions"]]
        if entry["winner"] not in bad and AUTO not in bad
    }
    stored = {**new, "commit": commit, "decisions": list(by_problem.values())}
    write(path, json.dumps(stored, indent=2) + "\n")
    return path, len(by_problem)


def _of_commit(commit: str, path: Path) -> list[Record]:
    """The stored decisions, if they are of this commit."""
    if not path.exists():
        return []
    try:
        stored = json.loads(path.read_text())
        same = stored.get("commit") == commit
        return [entry for entry in stored["decisions"] if same and entry["problem"]]
    except (ValueError, TypeError, LookupError, AttributeError):
        set_aside(path)
        return []
