"""The end of a run on the screen: the least that tells how it went, failures last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .plan import Cell
from .report import peer_names
from .results import Document, Record, last_words, place
from .targets import geometric_mean, verdicts

MAX_CELLS = 36
MAX_FAILURES = 20
LINE = 150
TAIL_LINES = 5
# Whoever watches may see the end of the output only.
MAX_CHARACTERS, MAX_FAILURE_CHARACTERS = 10_000, 4_000


def summary(document: Document) -> str:
    """A few thousand characters, the most important ones last."""
    cells = document.get("cells", {})
    last = "\n".join(_failure_lines(document["failures"], document["failures_in_all"]))
    sections = {
        "check": _check_lines(document.get("check")),
        "sanitizer": _sanitizer_lines(document.get("sanitize", {})),
        "cells": _cell_lines(cells),
        "ratios": _ratio_lines(cells),
        "others": [
            *_overhead_lines(document.get("overhead", {})),
            *_left_out_lines(document.get("left_out", {})),
        ],
        "targets": verdicts(cells),
    }
    _shorten(sections, MAX_CHARACTERS - len(last), ("cells", "ratios", "others", "check"))
    lines = [line[:LINE] for section in sections.values() for line in section]
    return "\n".join([*lines, last])


def _shorten(sections: dict[str, list[str]], room: int, least_first: Sequence[str]) -> None:
    """Take whole lines from the ends of sections until all fit, from the least important first."""
    size = sum(len(line[:LINE]) + 1 for section in sections.values() for line in section)
    for name in least_first:
        if not sections[name] or size <= room:
            continue
        note = f"(more {name} are in the Markdown file)"
        size += len(note) + 1
        while sections[name] and size > room:
            size -= len(sections[name].pop()[:LINE]) + 1
        sections[name].append(note)


def _check_lines(check: Record | None) -> list[str]:
    lines = []
    for row in (check or {}).get("rows", []):
        statuses = ", ".join(f"{count} {status}" for status, count in row["statuses"].items())
        worst = row.get("worst", "")
        share = f"; largest error {worst:.2f} of the allowed" if isinstance(worst, float) else ""
        lines.append(f"check {row['backend']:7} {row['precision']}: {statuses}{share}")
    for precision, chosen in (check or {}).get("decisions", {}).items():
        texts = ", ".join(f"{size} {name}" for size, name in chosen.items())
        lines.append(f"auto in {precision}: {texts}")
    return lines


def _sanitizer_lines(runs: dict[str, Record]) -> list[str]:
    """A line for each way in which runs ended."""
    ended: defaultdict[str, list[str]] = defaultdict(list)
    for name, record in runs.items():
        reason = f" ({record['reason']})" if record.get("reason") else ""
        ended[f"{record['status']}{reason}"].append(name)
    return [f"sanitize {how}: {'; '.join(names)}" for how, names in ended.items()]


def _cell_lines(cells: dict[str, Record]) -> list[str]:
    """The most telling cells: microseconds per step of torch, and everyone's ratio to it."""
    if not cells:
        return []
    chosen = list(cells.items())[:MAX_CELLS]
    lines = [f"speed, {len(cells)} cells, some of them: torch µs/step, then ratios"]
    for name, record in chosen:
        peers = record["peers"]
        base = peers.get("torch", {}).get("us_per_step", "?")
        texts = [f"{peer} {_short(peers[peer])}" for peer in peers if peer != "torch"]
        lines.append(f"{name}: {base}; {', '.join(text for text in texts if text)}")
    return lines


def _short(record: Record) -> str:
    if "ratio" in record:
        return f"{record['ratio']['p50']:.2f}x"
    return str(record["status"]) if record["status"] != "ok" else "no ratio"


def _ratio_lines(cells: dict[str, Record]) -> list[str]:
    ratios: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for record in cells.values():
        cell = Cell(**record["cell"])
        for peer, found in record["peers"].items():
            if "ratio" in found:
                ratios[f"{cell.precision}, {cell.mode}", peer].append(found["ratio"]["p50"])
    order = {name: number for number, name in enumerate(peer_names(cells.values()))}
    lines = ["times as fast as torch, geometric mean (least to most, cells)"] if ratios else []
    for (group, peer), values in sorted(ratios.items(), key=lambda i: (i[0][0], order[i[0][1]])):
        mean, few = geometric_mean(values), f"{min(values):.2f} to {max(values):.2f}"
        lines.append(f"{group:32} {peer:7} {mean:6.2f} ({few}, {len(values)})")
    return lines


def _overhead_lines(overhead: dict[str, Record]) -> list[str]:
    lines = []
    for name, record in overhead.items():
        texts = [
            f"{peer} {found.get('forward_us')}/{found.get('forward_backward_us')}"
            for peer, found in record.get("peers", {}).items()
            if found.get("status") == "ok"
        ]
        lines.append(f"{name}, µs per call forward/forward+backward: {', '.join(texts)}")
    return lines


def _left_out_lines(left_out: dict[str, int]) -> list[str]:
    return [f"{stage}: {count} more were not run" for stage, count in left_out.items()]


def _failure_lines(failures: list[Record], in_all: int) -> list[str]:
    if not failures:
        return ["no failures"]
    groups: defaultdict[str, list[Record]] = defaultdict(list)
    for found in failures:
        groups[_signature(found)].append(found)
    lines = [f"{in_all} failures, {len(groups)} kinds of them"]
    room = MAX_FAILURE_CHARACTERS
    for told, group in enumerate(groups.values()):
        block = [line[: 2 * LINE] for line in _failure_block(group)]
        room -= sum(len(line) + 1 for line in block)
        if room < 0 or told == MAX_FAILURES:
            lines.append(f"and {len(groups) - told} more kinds, which the Markdown file tells")
            break
        lines += block
    return lines


def _failure_block(group: list[Record]) -> list[str]:
    first, count = group[0], len(group)
    lines = [f"{first['status'].upper()} ({count}x){place(first)}: {first['name']}"]
    lines += [f"    {' '.join(str(text).split())}" for text in first["errors"][:2] if text]
    if first["status"] in ("crashed", "timeout"):
        lines += [f"    | {line}" for line in last_words(first["tail"], TAIL_LINES)]
    return lines


def _signature(found: Record) -> str:
    """Failures alike: who, how, and the error without its numbers."""
    text = str(found["errors"][0]) if found["errors"] else ""
    words = [word for word in text.split()[:12] if not any(c.isdigit() for c in word)]
    who = found["name"].split(",")[0] if found["kind"] in ("case", "behaviour") else ""
    return f"{found['status']} {found['kind']} {found.get('subject', who)} {' '.join(words)}"
