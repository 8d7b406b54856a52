"""The stored cells: one JSON file, a line per cell, written anew after each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.results_file import RESULTS, environment

PEERS_FILE = RESULTS / "cpu_peers.json"

_PLACE = ("cpu", "cores", "isa", "python")
_SECTIONS = ("machines", "environments", "cells")


class Results:
    """What is known: `machines` and `environments` by their keys, and `cells` by their names.

    A cell says of each peer in which environment (machine, commit, versions, date) it was measured.
    """

    def __init__(self, path: Path = PEERS_FILE) -> None:
        self.path = path
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.machines: dict[str, Any] = stored.get("machines", {})
        self.environments: dict[str, Any] = stored.get("environments", {})
        self.cells: dict[str, Any] = stored.get("cells", {})

    def add_environment(self, here: dict[str, Any]) -> str:
        """Keep where and with what is measured; its key is the same as long as that is."""
        lasting = {key: value for key, value in here.items() if key != "date"}
        text = json.dumps(lasting, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:8]
        self.environments.setdefault(key, here)
        return key

    def missing(
        self, cell: str, peers: tuple[str, ...], here: dict[str, Any], *, any_commit: bool = False
    ) -> tuple[str, ...]:
        """Those of the peers that have no result in a cell from this machine and commit."""
        stored = self.cells.get(cell, {}).get("peers", {})
        compared = _PLACE if any_commit else (*_PLACE, "commit")

        def is_known(peer: str) -> bool:
            there = self.environments.get(stored.get(peer, {}).get("environment"), {})
            return bool(there) and all(there.get(key) == here[key] for key in compared)

        return tuple(peer for peer in peers if not is_known(peer))

    def store(self, name: str, cell: dict[str, Any]) -> None:
        """Add a cell; of a cell that is there already, the peers not measured anew stay."""
        peers = {**self.cells.get(name, {}).get("peers", {}), **cell["peers"]}
        self.cells[name] = {**cell, "peers": peers}
        self.save()

    def save(self) -> None:
        """Write under a temporary name and move into place: nothing is lost when a run ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(self._as_text())
        temporary.replace(self.path)

    def _as_text(self) -> str:
        sections = []
        for section in _SECTIONS:
            entries = getattr(self, section)
            lines = [f"  {json.dumps(key)}: {json.dumps(entries[key])}" for key in entries]
            body = ",\n".join(lines)
            sections.append(f' "{section}": {{\n{body}\n }}' if lines else f' "{section}": {{}}')
        return "{\n" + ",\n".join(sections) + "\n}\n"


def here(isa: str) -> dict[str, Any]:
    """The machine, commit and date of a run, without versions and threads of one process."""
    known = environment()
    kept = {key: known[key] for key in ("cpu", "cores", "python", "commit", "date")}
    return {**kept, "isa": isa}
