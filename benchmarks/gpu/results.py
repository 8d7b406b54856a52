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
# Parts of the document whose records have a result per peer, by their kind of record.
PARTS_OF_PEERS = {"cells": "cell", "kernels": "kernels", "overhead": "overhead"}
# Parts whose records have a list about kernels, and its name; the others say why there is none.
PARTS_OF_KERNELS = {"resources": "kernels", "ncu": "launches", "sanitize": "findings"}
# What the environment holds besides that which names it: it changes while nothing else does.
VOLATILE = frozenset(
    {
        *("sm_clock", "memory_clock", "date"),
        *("copy_gb_per_s", "matmul_tflops", "matmul_dtype"),  # measured, where `env` is asked for
    }
)


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
    return {
        "device": environment.get("device", UNKNOWN_DEVICE),
        "options": options,
        "environment": key,
        "environments": {key: environment},
        "failures": [*failures[:MAX_FAILURES], *map(_in_short, failures[MAX_FAILURES:])],
        "failures_in_all": len(failures),
        "incomplete": _incomplete(records, by_kind, options),
        "left_out": {r["name"]: r["count"] for r in by_kind["left out"].values()},
        "stages": {r["name"]: r["seconds"] for r in by_kind["stage"].values()},
        **_parts(by_kind, options, key),
    }


def _incomplete(
    records: list[Record], by_kind: dict[str, dict[str, Record]], options: Record
) -> dict[str, list[str]]:
    """What there was no time for, by stage."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.get("status") == INCOMPLETE:
            found[record["stage"]].append(record["error"])
    for stage in options.get("stages", []):
        if stage not in by_kind["stage"]:
            found[stage].append(f"{stage} did not end")
    return dict(found)


def _parts(by_kind: dict[str, dict[str, Record]], options: Record, key: str) -> Document:
    """What was found out, each part with its environment."""
    parts: Document = {}
    for record in by_kind["build"].values():
        parts["build"] = {**_without(record, "kind", "name", "params"), "environment": key}
    checks = [record for kind in CHECKS for record in by_kind[kind].values()]
    if checks:
        whole = _checked_whole(by_kind, options)
        common = {"seed": options.get("seed", 0), "filter": options.get("filter", "")}
        parts["check"] = _check_summary(checks)
        for row in parts["check"]["rows"]:
            row |= {**common, "whole": row["backend"] in whole, "environment": key}
    for part, kind in PARTS_OF_PEERS.items():
        if found := {n: _of_peers(r, key) for n, r in by_kind[kind].items() if "peers" in r}:
            parts[part] = found
    for kind, content in PARTS_OF_KERNELS.items():
        if found := {
            name: {**_without(record, "kind", "name", "params"), "environment": key}
            for name, record in by_kind[kind].items()
            if content in record or "reason" in record
        }:
            parts[kind] = found
    return parts


def _of_peers(record: Record, key: str) -> Record:
    """A measurement; how it ended is told by its peers, each of which may come from another run."""
    peers = {name: {**peer, "environment": key} for name, peer in record["peers"].items()}
    kept = _without(record, "kind", "name", "params", "tail", "status", "errors")
    return {**kept, "peers": peers, "environment": key}


def was_measured(peer: Record) -> bool:
    """Whether a peer took part, whatever became of it; a silent profiler says nothing of it."""
    return peer["status"] != "not run" and peer.get("kernels") != []


def failing_peers(record: Record) -> list[str]:
    """Who of a measurement failed; torch's own failures are not those of the code under test."""
    found = {
        name
        for name, peer in record.get("peers", {}).items()
        if peer["status"] in FAILED and peer.get("chosen", name) not in BASELINES
    }
    if "peers" not in record and (subject := record.get("subject")):
        found.add(subject)
    return sorted(found)


def failed(record: Record) -> bool:
    """Whether a record is a failure of the code under test."""
    measured = record.get("kind") in PARTS_OF_PEERS.values()
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
    if record["kind"] in PARTS_OF_PEERS.values():
        found["peers"] = failing_peers(record)
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
    """A short name: commit, date, and a hash of versions, machine and options of the build.

    Clocks and measured rates are left out, which differ from run to run.
    """
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
