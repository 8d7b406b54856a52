"""The stored document of a device: what several runs found, each part with its environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .results import (
    CHECKS,
    PARTS_OF_KERNELS,
    PARTS_OF_PEERS,
    Document,
    Record,
    slug,
    was_measured,
)

# A slip of the command line says nothing of the device.
NOT_STORED = frozenset({"filter"})


def changes(document: Document) -> list[str]:
    """What makes a run's results others than those of the commit: a plugin, CMake options."""
    options = document["options"]
    return [text for text in (options.get("plugin"), *options.get("defines", [])) if text]


def file_name(document: Document) -> str:
    """Of a device's results; what is not the commit's has a file of its own."""
    others = changes(document)
    with_them = f"_with_{slug(' '.join(others))[:80]}" if others else ""
    return f"gpu_{slug(document['device'])}{with_them}.json"


def store(
    document: Document, records: list[Record], folder: Path, show: Callable[[str], None]
) -> tuple[Path, Document]:
    """Merge a run's document into its device's file; returns the file, and what it holds now."""
    path = folder / file_name(document)
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
    records = list(records)
    merged = {**old, **{key: value for key, value in new.items() if key != "stages"}}
    for key, content in PARTS_OF_KERNELS.items():
        if key in old and key in new:
            told = {n: r for n, r in new[key].items() if n not in old[key] or content in r}
            merged[key] = {**old[key], **told}
    for key in PARTS_OF_PEERS:
        if key in old and key in new:
            merged[key] = _merged_peers(old[key], new[key])
    if "check" in old and "check" in new:
        merged["check"] = _merged_check(old["check"], new["check"])
    merged["incomplete"] = {**_still_incomplete(old, new, records), **new["incomplete"]}
    found = [f for f in new["failures"] if f["kind"] not in NOT_STORED]
    merged["failures"] = found + _still_failing(old.get("failures", []), new, records)
    merged["failures_in_all"] = len(merged["failures"])
    used, known, latest = set(_environments_of(merged)), old.get("environments", {}), {}
    for key, found in new["environments"].items():
        # Of the same environment, one run may have measured rates that another did not.
        latest[key] = {**known.get(key, {}), **found}
    others = {key: found for key, found in known.items() if key in used and key not in latest}
    merged["environments"] = {**others, **latest}
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


def _merged_peers(old: dict[str, Record], new: dict[str, Record]) -> dict[str, Record]:
    """A run that measured some peers of a cell leaves what is known of the others."""
    merged = {**old, **new}
    for name in old.keys() & new.keys():
        before, now = old[name]["peers"], new[name]["peers"]
        told = {peer: r for peer, r in now.items() if peer not in before or was_measured(r)}
        merged[name] = {**new[name], "peers": {**before, **told}}
    return merged


def _merged_check(old: Record, new: Record) -> Record:
    """A check of some cases stands beside that of all, which it does not replace."""

    def by_part(rows: list[Record]) -> dict[tuple[Any, ...], Record]:
        parts = ("backend", "precision", "seed", "filter")
        return {(*(row[part] for part in parts), row["whole"]): row for row in rows}

    def replaced(row: Record) -> bool:
        own = (row["backend"], row["precision"], row["seed"])
        return not row["whole"] and own in whole

    whole = {(r["backend"], r["precision"], r["seed"]) for r in new["rows"] if r["whole"]}
    left = [row for row in old["rows"] if not replaced(row)]
    rows = {**by_part(left), **by_part(new["rows"])}

    def order(row: Record) -> tuple[Any, ...]:
        return (row["backend"], row["precision"], not row["whole"], row["seed"], row["filter"])

    decisions = {**old["decisions"], **new["decisions"]}
    return {"rows": sorted(rows.values(), key=order), "decisions": decisions}


def _still_incomplete(old: Document, new: Document, records: list[Record]) -> dict[str, list[str]]:
    """What an older run had no time for, until a run of everything ends that stage."""
    partial = new["options"].get("filter") or new["options"].get("backends")
    ended = {r["name"] for r in records if r["kind"] == "stage" and r.get("status") == "ok"}
    known = old.get("incomplete", {})
    return {stage: texts for stage, texts in known.items() if partial or stage not in ended}


def _still_failing(failures: list[Record], new: Document, records: list[Record]) -> list[Record]:
    """Older failures that the run says nothing newer of; those of some peers, as far as it does."""
    superseded, measured = _superseded(records, new), _measured(records)
    left = []
    for found in failures:
        again = measured.get((found["kind"], found["name"]), set()) & set(found.get("peers", []))
        if again == set(found.get("peers", [])) and superseded(found):
            continue
        if again:
            texts = tuple(f"{peer}: " for peer in again)
            errors = [text for text in found["errors"] if not str(text).startswith(texts)]
            peers = [peer for peer in found["peers"] if peer not in again]
            found = {**found, "peers": peers, "errors": errors}
        left.append(found)
    return left


def _measured(records: list[Record]) -> dict[tuple[str, str], set[str]]:
    """Who took part in each measurement."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        peers = {name for name, peer in record.get("peers", {}).items() if was_measured(peer)}
        subject = {record["subject"]} if record.get("subject") else set()
        found.setdefault((record["kind"], record["name"]), set()).update(peers | subject)
    return found


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
