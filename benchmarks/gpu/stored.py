"""The stored document of a device: what several runs found, each part with its environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .results import CHECKS, Document, Record, slug

# Parts with a record per name; a later run replaces the records that it has.
NAMED_PARTS = ("cells", "kernels", "overhead", "resources", "ncu", "environments")
# A slip of the command line says nothing of the device.
NOT_STORED = frozenset({"filter"})


def store(
    document: Document, records: list[Record], folder: Path, show: Callable[[str], None]
) -> tuple[Path, Document]:
    """Merge a run's document into its device's file; returns the file, and what it holds now."""
    path = folder / f"gpu_{slug(document['device'])}.json"
    merged = merge({}, document, records)
    try:
        if path.exists():
            merged = merge(json.loads(path.read_text()), document, records)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        aside = set_aside(path)
        show(f"{path} cannot be read ({error!r}): it is now {aside.name}, and a new one is begun")
    write(path, json.dumps(merged, indent=1) + "\n")
    return path, merged


def merge(old: Document, new: Document, records: Iterable[Record]) -> Document:
    """The stored document with a new run's parts in the place of the old ones.

    `records` is all that the run found, from which `new` was collected: what it did again without
    a failure is no failure any more, and all else stays known.
    """
    merged = {**old, **{key: value for key, value in new.items() if key != "stages"}}
    for key in NAMED_PARTS:
        if key in old or key in new:
            merged[key] = {**old.get(key, {}), **new.get(key, {})}
    if "check" in old and "check" in new:
        merged["check"] = _merged_check(old["check"], new["check"])
    superseded = _superseded(list(records), new)
    found = [f for f in new["failures"] if f["kind"] not in NOT_STORED]
    merged["failures"] = found + [f for f in old.get("failures", []) if not superseded(f)]
    merged["failures_in_all"] = len(merged["failures"])
    used = {*_environments_of(merged), *new["environments"]}
    merged["environments"] = {k: v for k, v in merged["environments"].items() if k in used}
    return merged


def set_aside(path: Path) -> Path:
    """Rename a file, never over another one; returns its new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.unreadable{number}")).exists():
        number += 1
    return path.rename(aside)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _merged_check(old: Record, new: Record) -> Record:
    """A check of some cases stands beside that of all, which it does not replace."""

    def by_part(rows: list[Record]) -> dict[tuple[str, str, bool], Record]:
        return {(row["backend"], row["precision"], row["whole"]): row for row in rows}

    rows = {**by_part(old["rows"]), **by_part(new["rows"])}
    for row in new["rows"]:
        if row["whole"]:
            rows.pop((row["backend"], row["precision"], False), None)
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[1], not key[2]))]
    return {"rows": ordered, "decisions": {**old["decisions"], **new["decisions"]}}


def _superseded(records: list[Record], new: Document) -> Callable[[Record], bool]:
    """Whether a run says anything newer of what an older one found to fail."""
    done = {(r["kind"], r["name"]) for r in records if r.get("status") != "not finished"}
    rows = [row for row in new.get("check", {}).get("rows", []) if row["whole"]]
    whole = {(row["backend"], row["seed"]) for row in rows}
    answers = [r["backends"] for r in records if r["kind"] == "backends" and "backends" in r]
    missing = {name for answer in answers for name, reason in answer.items() if reason}

    def superseded(found: Record) -> bool:
        if (found["kind"], found["name"]) in done:
            return True
        if found["kind"] in CHECKS:  # also those of cases that are no longer in the grid
            return (found["backend"], found["seed"]) in whole
        if found["kind"] == "incomplete":
            return (found["name"], found["seed"]) in whole
        return found["kind"] == "missing" and bool(answers) and found["name"] not in missing

    return superseded


def _environments_of(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "environment" and isinstance(item, str):
                yield item
            elif key != "environments":
                yield from _environments_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from _environments_of(item)
