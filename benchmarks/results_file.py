"""The stored results: one JSON file, a cell per case, each with where it was measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .claims import claimed

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CPU_FILE = RESULTS / "cpu_vs_torch.json"


def environment() -> dict[str, Any]:
    """Machine and versions that a result depends on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "isa": told(_isa),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fastrnn": told(_version),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def told(question: Callable[[], Any]) -> Any:
    """The answer; what is broken must not cost the other fields theirs, and says why."""
    try:
        return question()
    except Exception as error:  # an import may raise anything
        return f"unknown ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def load(path: Path = CPU_FILE) -> dict[str, Any]:
    """Cells by name; empty before the first run."""
    if not path.exists():
        return {}
    cells: dict[str, Any] = json.loads(path.read_text())
    return cells


def store(cells: dict[str, Any], path: Path = CPU_FILE) -> None:
    """Add cells to the file, in the place of older ones of the same name.

    Several processes may do so at a time.
    """
    with claimed(path.with_suffix(".lock"), wait=True):
        merged = {**load(path), **cells}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(merged, indent=1) + "\n")
        temporary.replace(path)


def milliseconds(value: float) -> str:
    """A time as the documents' tables show it."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def spread_text(spread: dict[str, float]) -> str:
    """A ratio as the documents' tables show it: the median, and 20th and 80th percentile."""
    return f"**{spread['p50']:.2f}** ({spread['p20']:.2f} to {spread['p80']:.2f})"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _isa() -> str:
    from fastrnn.recurrence.backends import CpuBackend

    return CpuBackend().isa


def _version() -> str:
    import fastrnn

    return fastrnn.__version__


def _commit() -> str:
    commit = _git("describe", "--always")
    if not commit:
        return "unknown"
    # A run changes the stored results, which nothing that is measured depends on.
    results = f":!{RESULTS.relative_to(ROOT)}"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", results)
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return ""
    return done.stdout.strip()
