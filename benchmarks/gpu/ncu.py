"""Hardware counters of the longest kernels, where Nsight Compute is there and may read them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .commands import bounded

Record = dict[str, Any]

METRICS = {
    "gpu__time_duration.sum": "microseconds",
    "launch__registers_per_thread": "registers",
    "launch__grid_size": "blocks",
    "launch__block_size": "threads",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "SM %",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": "tensor pipe %",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": "memory %",
    "l1tex__data_bank_conflicts_pipe_lsu.sum": "bank conflicts",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue slots %",
}
SKIPPED_LAUNCHES = 4
MEASURED_LAUNCHES = 4

SCRIPT = """
import json, sys
from benchmarks.gpu import peers
from benchmarks.gpu.devices import device_named
from benchmarks.gpu.numerics import arithmetic
from benchmarks.gpu.plan import Cell
fields, name = json.loads(sys.argv[1]), sys.argv[2]
cell, device = Cell(**fields), device_named("cuda").torch
with arithmetic(cell.precision):
    run = peers.peer(name, peers.Workload.of(cell, device)).run
    for _ in range(4):
        run()
"""


def command(cell: Mapping[str, Any], peer: str, kernels: Sequence[str]) -> list[str]:
    """Measure some launches of the named kernels, without touching the clocks."""
    short = {**cell, "seq_len": min(cell["seq_len"], 256)}
    pattern = "|".join(_literal(kernel) for kernel in kernels)
    return [
        *("ncu", "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS)),
        *("--kernel-name", f"regex:{pattern}"),
        *("--launch-skip", str(SKIPPED_LAUNCHES), "--launch-count", str(MEASURED_LAUNCHES)),
        *(sys.executable, "-c", SCRIPT, json.dumps(short), peer),
    ]


def measure(
    cell: Mapping[str, Any],
    peer: str,
    kernels: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path,
    log: Path,
    timeout: float,
) -> Record:
    """Counters of a peer's kernels on a cell; a reason instead where that does not work."""
    if shutil.which("ncu") is None:
        return {"status": "skipped", "reason": "ncu is not on the PATH"}
    try:
        code = bounded(
            command(cell, peer, kernels), env=env, folder=folder, log=log, timeout=timeout
        )
    except OSError as error:
        return {"status": "skipped", "reason": str(error)}
    text = log.read_text(errors="replace")
    launches = parse(text)
    if not launches:
        how = f"not ready after {timeout:.0f} s" if code is None else f"exit code {code}"
        return {"status": "skipped", "reason": f"{how}: {text.strip()[-300:]}"}
    return {"status": "ok", "launches": launches}


def parse(text: str) -> list[Record]:
    """Metrics by launch, from the CSV that follows ncu's own messages."""
    start = text.find('"ID"')
    if start < 0:
        return []
    launches: dict[str, Record] = {}
    for row in csv.DictReader(io.StringIO(text[start:])):
        name, value = METRICS.get(row.get("Metric Name") or ""), row.get("Metric Value")
        if name is not None and value:
            launch = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"][:80]})
            launch[name] = _number(value, row.get("Metric Unit") or "")
    return list(launches.values())


def _number(text: str, unit: str) -> float | str:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return text
    to_us = {"nsecond": 1e-3, "ns": 1e-3, "usecond": 1.0, "us": 1.0, "msecond": 1e3, "ms": 1e3}
    return round(value * to_us.get(unit, 1.0), 3)


def _literal(kernel: str) -> str:
    """The base name, without return type, namespaces, templates and arguments."""
    plain = kernel.replace("(anonymous namespace)::", "")
    base = re.split(r"[<(]", plain)[0].split("::")[-1].split(" ")[-1]
    return "".join(c if c.isalnum() or c == "_" else "." for c in base)
