"""From the stream of records to one JSON document, merged with what was stored before."""

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
# What is stored of a run in which everything fails; its stream of records has all.
MAX_FAILURES, MAX_ERRORS = 300, 8
FAILED = frozenset({"wrong", "warned", "error", "crashed", "timeout"})
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
    environment = _environment(by_kind)
    key = environment_key(environment)
    failures = [{**failure(r), "environment": key} for r in records if failed(r)]
    document: Document = {
        "device": environment.get("device", UNKNOWN_DEVICE),
        "environments": {key: environment},
        "failures": failures[:MAX_FAILURES],
        "failures_in_all": len(failures),
        "left_out": {r["name"]: r["count"] for r in by_kind["left out"].values()},
        "stages": {r["name"]: r["seconds"] for r in by_kind["stage"].values()},
    }
    for record in by_kind["build"].values():
        document["build"] = {**_without(record, "kind", "name", "params"), "environment": key}
    checks = [*by_kind["case"].values(), *by_kind["behaviour"].values()]
    if checks:
        document["check"] = {**_check_summary(checks), "environment": key}
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
    return record.get("status") in FAILED


def failure(record: Record) -> Record:
    """What one needs to know of a failure."""
    kept = ("name", "kind", "status", "subject", "step")
    texts = record.get("errors") or record.get("warnings") or [record.get("error", "")]
    found = {key: record[key] for key in kept if record.get(key)}
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


def merge(old: Document, new: Document) -> Document:
    """The stored document with a new run's parts in the place of the old ones."""
    merged = {**old, **{key: value for key, value in new.items() if key not in ("stages",)}}
    for key in ("cells", "kernels", "environments"):
        if key in old or key in new:
            merged[key] = {**old.get(key, {}), **new.get(key, {})}
    used = {*_environments_of(merged), *new.get("environments", {})}
    merged["environments"] = {k: v for k, v in merged["environments"].items() if k in used}
    # Failures of the parts that this run did not touch stay known.
    renewed = {kind for kind in ("case", "behaviour") if "check" in new}
    renewed |= {kind for kind in ("build",) if "build" in new}
    names = {*new.get("cells", {})}
    kept = [
        failure
        for failure in old.get("failures", [])
        if failure["kind"] not in renewed
        and failure["name"] not in names
        and failure["environment"] in merged["environments"]
    ]
    merged["failures"] = new["failures"] + [f for f in kept if f not in new["failures"]]
    return merged


def store(document: Document, folder: Path) -> Path:
    """Merge a run's document into its device's file; returns the path."""
    path = folder / f"gpu_{slug(document['device'])}.json"
    old: Document = json.loads(path.read_text()) if path.exists() else {}
    write(path, json.dumps(merge(old, document), indent=1) + "\n")
    return path


def store_decisions(source: Path, device: str, folder: Path) -> Path | None:
    """Add what `auto` decided in a run to its device's file; returns the path, if there is any."""
    if not source.exists():
        return None
    path = folder / f"gpu_{slug(device)}_decisions.json"
    new = json.loads(source.read_text())
    old = json.loads(path.read_text()) if path.exists() else {**new, "decisions": []}
    by_problem = {
        json.dumps(entry["problem"], sort_keys=True): entry
        for entry in [*old["decisions"], *new["decisions"]]
    }
    merged = {**new, "decisions": list(by_problem.values())}
    write(path, json.dumps(merged, indent=2) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _environment(by_kind: dict[str, dict[str, Record]]) -> Record:
    found: Record = {}
    for kind in ("environment", "ceilings"):
        for record in by_kind[kind].values():
            found |= record.get(kind, {})
    return found


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
    decisions = {f"{r['params']['precision']}": r["decisions"] for r in records if "decisions" in r}
    return {"rows": rows, "decisions": decisions}


def _environments_of(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "environment" and isinstance(item, str):
                yield item
            elif key not in ("environments", "failures"):
                yield from _environments_of(item)


def _without(record: Record, *keys: str) -> Record:
    return {key: value for key, value in record.items() if key not in keys}
