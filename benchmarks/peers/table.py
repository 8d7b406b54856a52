"""The documents' tables, made from the stored cells."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.results_file import milliseconds

from .cases import BATCH_SIZES, CROSS, GROUPS, HIDDEN_SIZES, MODES, Cell
from .registry import BASELINE, OURS, PEERS
from .results import Results

NOTHING = "Nothing is stored yet: `make bench-peers` measures."


def summary_table(results: Results) -> str:
    """How fastrnn does against each library, by mode, threads and kind of sequence."""
    others = [peer for peer in PEERS if peer != OURS]
    rows = []
    for (mode, threads, group), cells in _groups(results).items():
        means = [_mean_ratio(cells, peer) for peer in others]
        plural = "" if threads == 1 else "s"
        rows.append([mode, f"{threads} thread{plural}", group, *means])
    if not rows:
        return NOTHING
    header = ["mode", "threads", "sequences", *(PEERS[peer].label for peer in others)]
    return _markdown(header, rows)


def shape_table(results: Results) -> str:
    """The ratio to torch by hidden and batch size: geometric means over input sizes and steps."""
    rows = []
    for mode in MODES:
        for hidden in HIDDEN_SIZES:
            row = [mode, f"H={hidden}"]
            for batch in BATCH_SIZES:
                cells = [
                    cell
                    for cell in _plain(results, mode)
                    if cell["layer"]["hidden_size"] == hidden
                    and cell["layer"]["batch_size"] == batch
                ]
                row.append(_mean_ratio(cells, BASELINE))
            rows.append(row)
    if all(cell == "" for row in rows for cell in row[2:]):
        return NOTHING
    return _markdown(["", "", *(f"B={batch}" for batch in BATCH_SIZES)], rows)


def limit_table(results: Results) -> str:
    """What is left to gain: the cells of the cross beside the machine's limit."""
    rows = []
    for mode, training in MODES.items():
        for shape in CROSS:
            cell = results.cells.get(Cell(shape, training, 2).name)
            if cell is None or "ms" not in cell["peers"].get(OURS, {}):
                continue
            ours, bound = cell["peers"][OURS], cell["limit"]
            rows.append(
                [
                    f"{mode}, {shape.name}",
                    milliseconds(ours["ms"]["p50"]),
                    f"{ours['gflops']:.0f}",
                    f"{ours['sgemm_share']:.0%}",
                    milliseconds(bound["ms"]),
                    bound["bound"],
                    f"**{ours['gap']:.2f}**",
                    _megabytes(ours),
                    _megabytes(cell["peers"].get(BASELINE, {})),
                ]
            )
    if not rows:
        return NOTHING
    header = ["cell", "fastrnn", "GFLOP/s", "of SGEMM", "limit", "bound by", "gap"]
    return _markdown([*header, "memory", "torch's"], rows)


def where_text(results: Results) -> str:
    """Machine, versions, commits, and what was not run and why."""
    if not results.cells:
        return NOTHING
    versions: dict[str, str] = {}
    commits, places = set(), set()
    for environment in results.environments.values():
        versions |= environment["versions"]
        commits.add(environment["commit"])
        places.add(f"{environment['cpu']}, {environment['cores']} cores, {environment['isa']}")
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    lines = [
        f"{'; '.join(sorted(places))}. {named}. {len(results.cells)} cells, at "
        f"{', '.join(sorted(commits))}.",
    ]
    for key, machine in results.machines.items():
        bandwidth = ", ".join(
            f"{level} {machine['bandwidth_gb_s'][level]:.0f} GB/s" for level in ("L2", "L3", "DRAM")
        )
        lines.append(
            f"{key}: SGEMM {max(machine['sgemm_gflops'].values()):.0f} GFLOP/s; {bandwidth}; an "
            f"activation {min(machine['activation_ns'].values()):.2f} ns on one core."
        )
    busiest = max(cell.get("busy", 0.0) for cell in results.cells.values())
    lines.append(f"Before and after a cell, other programs took at most {busiest:.0%} of the CPUs.")
    lines += _not_run(results)
    return "\n\n".join(lines)


def _not_run(results: Results) -> list[str]:
    reasons: dict[str, int] = {}
    for cell in results.cells.values():
        for peer, entry in cell["peers"].items():
            why = entry.get("error") or entry.get("reason")
            if why and why != "inference only":
                key = f"{PEERS[peer].label}, {cell['mode']}, {cell['group']}: {why}"
                reasons[key] = reasons.get(key, 0) + 1
    if not reasons:
        return ["Everything that was begun was run, and all results were right."]
    items = [f"- {why} ({count} cells)" for why, count in reasons.items()]
    return ["Not run:", "\n".join(items)]


def _groups(results: Results) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for cell in results.cells.values():
        key = (cell["mode"], cell["threads"], cell["group"])
        groups.setdefault(key, []).append(cell)
    modes = list(MODES)
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (modes.index(item[0][0]), -item[0][1], GROUPS.index(item[0][2])),
        )
    )


def _plain(results: Results, mode: str) -> Iterable[dict[str, Any]]:
    for (its_mode, threads, group), cells in _groups(results).items():
        if (its_mode, threads, group) == (mode, 2, GROUPS[0]):
            yield from cells


def _mean_ratio(cells: Iterable[dict[str, Any]], peer: str) -> str:
    """Geometric mean, least and largest of the cells' median ratios, and how many they are."""
    found = [cell["peers"].get(peer, {}) for cell in cells]
    ratios = [entry["ratio"]["p50"] for entry in found if "ratio" in entry]
    if not ratios:
        return "inference only" if any("reason" in entry for entry in found) else ""
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    return f"**{mean:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}; {len(ratios)})"


def _megabytes(entry: dict[str, Any]) -> str:
    return f"{entry['peak_mb']:,.0f} MB" if "peak_mb" in entry else ""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in [header, *rows]]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])
