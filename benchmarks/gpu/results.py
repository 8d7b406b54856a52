"""From the stream of records to one JSON document."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Document = dict[str, Any]

UNKNOWN_DEVICE = "unknown"
# Of a run in which everything fails, so many are told in full; its stream of records has all.
MAX_FAILURES, MAX_ERRORS = 300, 8
SHORT = 200
# Peers that are torch itself: their failures are not those of the code under test.
BASELINES = frozenset({"torch", "cudnn"})
FAILED = frozenset({"wrong", "warned", "error", "crashed", "timeout"})
# No failure, but what was asked for is not known either: the time was over.
INCOMPLETE = "incomplete"
CHECKS = ("case", "behaviour")
# What the environment holds besides that which names it: it changes while nothing else does.
VOLATILE = frozenset({"sm_clock", "memory_clock", "date"})


def slug(device: str) -> str:
    """A device's name as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "unknown"


def read_lines(path: Path) -> list[Record]:
    """All whole records of a run's stream; the last line of a killed run may be cut off."""
    records: list[Record] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def collect(records: Iterable[Record]) -> Document:
    """One run's document: environment, build, check, cells, kernels, profile, failures."""
    # A job that crashed may have been done again without the culprit: the last one counts, but
    # the crash remains a failure.
    records = list(records)
    by_kind: defaultdict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        by_kind[record["kind"]][record["name"]] = record
    options = by_kind["options"].get("options", {}).get("options", {})
    environment = _environment(by_kind, options)
    key = environment_key(environment)
    seed = options.get("seed", 0)
    failures = [{**failure(r), "seed": seed, "environment": key} for r in records if failed(r)]
    document: Document = {
        "device": environment.get("device", UNKNOWN_DEVICE),
        "options": options,
        "environments": {key: environment},
        "failures": [*failures[:MAX_FAILURES], *map(_in_short, failures[MAX_FAILURES:])],
        "failures_in_all": len(failures),
        "incomplete": [
            *(r["error"] for r in records if r.get("status") == INCOMPLETE),
            *(f"{s} did not end" for s in options.get("stages", []) if s not in by_kind["stage"]),
        ],
        "left_out": {r["name"]: r["count"] for r in by_kind["left out"].values()},
        "stages": {r["name"]: r["seconds"] for r in by_kind["stage"].values()},
    }
    for record in by_kind["build"].values():
        document["build"] = {**_without(record, "kind", "name", "params"), "environment": key}
    checks = [record for kind in CHECKS for record in by_kind[kind].values()]
    if checks:
        whole = _checked_whole(by_kind, options)
        common = {"seed": seed, "filter": options.get("filter", "")}
        document["check"] = _check_summary(checks)
        for row in document["check"]["rows"]:
            row |= {**common, "whole": row["backend"] in whole, "environment": key}
    cells = {
        name: {**_without(record, "kind", "name", "params", "tail"), "environment": key}
        for name, record in by_kind["cell"].items()
        if "peers" in record
    }
    if cells:
        document["cells"] = cells
    for kind in ("kernels", "overhead", "resources", "ncu"):
        if by_kind[kind]:
            document[kind] = {
                name: {**_without(record, "kind", "name", "params"), "environment": key}
                for name, record in by_kind[kind].items()
            }
    return document


def failed(record: Record) -> bool:
    """Whether a record is a failure of the code under test."""
    measured = record.get("kind") in ("cell", "kernels", "overhead")
    # Torch's own library may end a worker: the other peers are then measured without it.
    by_torch = measured and record.get("subject") in BASELINES
    return record.get("status") in FAILED and not by_torch


def failure(record: Record) -> Record:
    """What one needs to know of a failure."""
    kept = ("name", "kind", "status", "subject", "step")
    texts = record.get("errors") or record.get("warnings") or [record.get("error", "")]
    found = {key: record[key] for key in kept if record.get(key)}
    if record["kind"] in CHECKS:
        found["backend"] = record["params"]["backend"]
    return {**found, "errors": texts[:MAX_ERRORS], "tail": record.get("tail", "")}


def place(found: Record) -> str:
    """Who failed, doing what; empty where that is not known."""
    parts = [str(found[key]) for key in ("subject", "step") if found.get(key)]
    return f" in {', '.join(parts)}" if parts else ""


def last_words(tail: str, count: int) -> list[str]:
    """The lines that tell most: from where Python reports a crash, else the last ones."""
    lines = [line for line in tail.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if line.startswith("Fatal Python error")]
    return lines[starts[-1] :][:count] if starts else lines[-count:]


def environment_key(environment: Record) -> str:
    """A short name: commit, date, and a hash of everything that a result depends on."""
    lasting = {key: value for key, value in environment.items() if key not in VOLATILE}
    digest = hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:8]
    return f"{environment.get('commit', 'unknown')} {environment.get('date', '')} {digest}"


def _in_short(found: Record) -> Record:
    return {**found, "errors": [str(text)[:SHORT] for text in found["errors"][:1]], "tail": ""}


def _environment(by_kind: dict[str, dict[str, Record]], options: Record) -> Record:
    # Results of another package, or of one built otherwise, are not those of the commit alone.
    found: Record = {key: options[key] for key in ("plugin", "defines") if options.get(key)}
    for kind in ("environment", "ceilings"):
        for record in by_kind[kind].values():
            found |= record.get(kind, {})
    return found


def _checked_whole(by_kind: dict[str, dict[str, Record]], options: Record) -> set[str]:
    """The backends of which every case was checked: the stage ended, and left nothing out."""
    ended = by_kind["stage"].get("check", {}).get("status") == "ok"
    if not ended or options.get("filter"):
        return set()
    backends = {r["params"]["backend"] for kind in CHECKS for r in by_kind[kind].values()}
    return backends - set(by_kind["incomplete"])


def _check_summary(records: list[Record]) -> Record:
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        params = record["params"]
        precision = params.get("precision") or params["case"]["precision"]
        groups[params["backend"], precision].append(record)
    rows = []
    for (backend, precision), group in groups.items():
        reasons = Counter(r["reason"] for r in group if r.get("status") == "skipped")
        # Infinity is stored as text.
        worst = max(group, key=lambda r: float(r.get("worst", -1.0)))
        row: Record = {"backend": backend, "precision": precision, "cases": len(group)}
        row |= {"statuses": dict(Counter(r["status"] for r in group)), "skipped": dict(reasons)}
        if "worst" in worst:
            row |= {"worst": worst["worst"], "worst_case": worst["name"]}
        rows.append(row)
    return {"rows": rows, "decisions": _decisions(records)}


def _decisions(records: list[Record]) -> Record:
    """What `auto` chose, by precision, size, and how it was called."""
    found = {}
    for record in records:
        precision = record["params"].get("precision")
        if "decisions" in record:
            found[str(precision)] = record["decisions"]
        elif "chosen" in record:
            how = record["params"]["behaviour"].removeprefix("auto ")
            found[f"{precision}, {how}"] = record["chosen"]
    return found


def _without(record: Record, *keys: str) -> Record:
    return {key: value for key, value in record.items() if key not in keys}
