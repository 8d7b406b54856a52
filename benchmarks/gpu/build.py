"""Builds and installs the package into a folder of its own, and reads the compiler's log."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .clock import Stopwatch
from .commands import bounded

Record = dict[str, Any]

TAIL_CHARACTERS = 3000
ERROR_LINES = 12
# Marks a folder as one that may be emptied.
MARKER = ".built_by_benchmarks_gpu"


def command(site: Path, build_folder: Path, defines: Sequence[str] = ()) -> list[str]:
    """Pip's command: no network, nothing but the package itself, not into the environment."""
    settings = [f"build-dir={build_folder}", *(f"cmake.define.{define}" for define in defines)]
    return [
        *(sys.executable, "-m", "pip", "install", "--verbose", "--no-build-isolation"),
        *("--no-deps", "--no-index", "--upgrade", "--target", str(site)),
        *(f"--config-settings={setting}" for setting in settings),
        ".",
    ]


def fault_of(site: Path) -> str:
    """Why nothing may be built into a folder; empty if it may be, which empties it first."""
    should = "it should be an empty folder, a new one, or one that this command built into before"
    if site.exists() and not site.is_dir():
        return f"--site is {str(site)!r}, which is no folder; {should}"
    if site.is_dir() and any(site.iterdir()) and not (site / MARKER).exists():
        return f"--site is {str(site)!r}, which holds other files; {should}"
    return ""


def build(root: Path, site: Path, log: Path, timeout: float, defines: Sequence[str] = ()) -> Record:
    """Install the checkout at `root` into `site`; the record has errors and kernel resources.

    Raises
    ------
    ValueError
        If `site` holds what this command did not make.
    """
    watch = Stopwatch()
    _empty(site)
    code = bounded(
        command(site, site.parent / f"{site.name}_build", defines),
        env=_environment(),
        folder=root,
        log=log,
        timeout=timeout,
    )
    failure = f"pip ended with exit code {code}" if code else ""
    if code is None:
        failure = f"not ready after {timeout:.0f} s"
    text = log.read_text(errors="replace")
    record: Record = {
        "status": "error" if failure else "ok",
        "seconds": watch.seconds(),
        "modules": sorted(path.name for path in (site / "fastrnn").glob("_*.so")),
        "resources": resources(text),
        "compiler_warnings": len(re.findall(r"\bwarning\b[ :]", text)),
    }
    return record | ({"error": failure, "tail": errors_of(text)} if failure else {})


def _empty(site: Path) -> None:
    if fault := fault_of(site):
        raise ValueError(fault)
    if site.exists():
        shutil.rmtree(site)
    site.mkdir(parents=True)
    (site / MARKER).touch()


def _environment() -> dict[str, str]:
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    # PIP_CONSTRAINT pins versions for an isolated build; here the machine's own are used.
    environment.pop("PIP_CONSTRAINT", None)
    return environment


def errors_of(text: str) -> str:
    """The lines of a build log that say what went wrong, else its end."""
    lines = text.splitlines()
    wrong = [line.strip() for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return "\n".join(wrong[:ERROR_LINES]) or text[-TAIL_CHARACTERS:]


def resources(text: str) -> list[Record]:
    """Registers, stack, spills and shared memory of each kernel, where ptxas was asked to tell."""
    found: list[Record] = []
    for line in text.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            found.append({"kernel": entry[1], "target": entry[2]})
        elif found and (spills := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill", line)):
            found[-1] |= {"stack": int(spills[1]), "spills": int(spills[2])}
        elif found and (used := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            found[-1] |= {"registers": int(used[1]), "shared": int(shared[1]) if shared else 0}
    return found
