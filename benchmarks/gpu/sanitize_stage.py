"""The stage `sanitize`: short problems of the CUDA kernels, watched by compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from . import sanitizer
from .clock import Deadline
from .commands import Program, bounded, side_by_side
from .grid import PRECISIONS
from .results import INCOMPLETE, Record
from .run import REPORT_SECONDS, Run
from .sanitizer import TOOLS
from .settings import ROOT, SANITIZE

BACKEND = "cuda"
# Of the whole stage, where other stages follow.
SANITIZE_SECONDS = 60.0
PLANTED_SECONDS, RUN_SECONDS = 20.0, 45.0
MAX_AT_ONCE = 8
SOURCE = Path(__file__).with_name("planted.cu")


def seconds_kept(run: Run) -> float:
    """What an earlier stage must leave."""
    return SANITIZE_SECONDS if SANITIZE in run.settings.stages and not why_not(run) else 0.0


def why_not(run: Run) -> str:
    """Why there is nothing to watch on this machine; empty if there is."""
    if run.settings.device != "cuda":
        return "it needs a GPU"
    if not run.settings.wants(BACKEND):
        return f"--backends leaves {BACKEND} out"
    if BACKEND not in run.found.usable(run.settings):
        return f"{BACKEND} cannot run: {run.found.backends.get(BACKEND) or 'there is none'}"
    return ""


def sanitize(run: Run) -> None:
    """Each tool on each precision in a process of its own, once the tool has found a fault."""
    if why := why_not(run):
        _skip(run, SANITIZE, why, complete=True)
        return
    tool = sanitizer.executable()
    if tool is None:
        _skip(run, SANITIZE, "compute-sanitizer is neither on the PATH nor beside nvcc")
        return
    later = {"speed", "profile"} & set(run.settings.stages)
    left = max(0.0, run.deadline.left() - REPORT_SECONDS)
    deadline = Deadline.after(min(SANITIZE_SECONDS, left) if later else left)
    blind = _blind(run, tool, deadline)
    programs = list(_programs(run, tool, [name for name in TOOLS if name not in blind]))
    for program, code in _ended(run, programs, deadline):
        _take(run, program, code)
    done = {record["name"] for record in run.records if record["kind"] == SANITIZE}
    missing = [program.name for program in programs if program.name not in done]
    if missing:
        _incomplete(run, f"there was no time for {', '.join(missing)}")
        run.add({"kind": "left out", "name": SANITIZE, "count": len(missing), "first": missing})


def _blind(run: Run, tool: str, deadline: Deadline) -> set[str]:
    """The tools that find no planted fault here; from them, no finding would be no news."""
    folder = Path(run.scratch)
    planted, log = folder / "planted", run.settings.work / "sanitize_planted.log"
    code: int | None = None
    if nvcc := shutil.which("nvcc"):
        compiled = [nvcc, "-arch=native", "-o", str(planted), str(SOURCE)]
        limit = min(PLANTED_SECONDS, deadline.left())
        code = bounded(compiled, env=os.environ, folder=folder, log=log, timeout=limit)
    if nvcc is None or code != 0:
        how = "nvcc is not on the PATH" if nvcc is None else f"nvcc failed, see {log.name}"
        _incomplete(run, f"nobody knows whether the tool sees faults: {how}")
        return set()
    programs = [
        Program(
            name,
            sanitizer.command(name, [str(planted), name], tool),
            run.settings.work / f"sanitize_planted_{name}.log",
            PLANTED_SECONDS,
        )
        for name in TOOLS
    ]
    told = dict.fromkeys(TOOLS, "there was no time")
    for program, _ in _ended(run, programs, deadline):
        text = program.log.read_text(errors="replace")
        told[program.name] = "" if sanitizer.sees(text) else sanitizer.telling(text)
    blind = {name: why for name, why in told.items() if why}
    for name, why in blind.items():
        _skip(run, name, f"it does not find a planted fault: {why}")
    return set(blind)


def _programs(run: Run, tool: str, names: list[str]) -> Iterator[Program]:
    s = run.settings
    for name in names:
        for precision in PRECISIONS:
            label = f"{name}, {precision}"
            if not s.chosen([label]):
                continue
            asked = [s.device, BACKEND, precision, *([s.plugin] if s.plugin else [])]
            watched = [sys.executable, "-m", "benchmarks.gpu.sanitized", *asked]
            log = s.work / f"sanitize_{name}_{precision}.log"
            yield Program(label, sanitizer.command(name, watched, tool), log, RUN_SECONDS)


def _ended(
    run: Run, programs: list[Program], deadline: Deadline
) -> Iterator[tuple[Program, int | None]]:
    # Each tensor is an allocation of its own then, whose end the tool knows.
    env = {**run.launch_env(SANITIZE), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    workers = max(1, min(MAX_AT_ONCE, (os.cpu_count() or 1) // 2))
    return side_by_side(programs, env=env, folder=ROOT, workers=workers, deadline=deadline)


def _take(run: Run, program: Program, code: int | None) -> None:
    """Add what a run found; one that was ended in the middle may have found something too."""
    name, precision = program.name.split(", ")
    found = sanitizer.outcome(name, program.log.read_text(errors="replace"), code)
    record: Record = {"kind": SANITIZE, "name": program.name, "subject": BACKEND, "step": name}
    record["params"] = {"precision": precision}
    if code is None and found["status"] != "wrong":
        reason = "not ready when its time was over"
        found = {"status": "not finished", "reason": reason}
        _incomplete(run, f"{program.name}: {reason}")
    run.add({**record, **found})
    errors = found.get("errors") or [found.get("error") or found.get("reason", "")]
    run.show(f"sanitize: {program.name}: {found['status']} {str(errors[0])[:200]}".rstrip())


def _skip(run: Run, name: str, reason: str, *, complete: bool = False) -> None:
    run.add({"kind": SANITIZE, "name": name, "status": "skipped", "reason": reason})
    run.show(f"sanitize: {name} skipped: {reason}")
    if not complete:
        _incomplete(run, f"{name} skipped: {reason}")


def _incomplete(run: Run, error: str) -> None:
    record = {"kind": "incomplete", "name": f"sanitize: {error}", "stage": SANITIZE}
    run.add({**record, "status": INCOMPLETE, "error": error})
