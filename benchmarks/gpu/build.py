"""Builds and installs the package into a folder of its own, for this machine's GPUs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build_log import cuda_times, errors_of, resources, with_plain_names
from .clock import Stopwatch
from .commands import bounded, output_of

Record = dict[str, Any]

# Marks a folder as one that may be emptied.
MARKER = ".built_by_benchmarks_gpu"
ARCHITECTURES = "CMAKE_CUDA_ARCHITECTURES"
NINJA_LOG = ".ninja_log"
# By compute capability.
MACHINE_CODE = {
    "8.0": "80-real",
    "8.6": "86-real",
    "8.9": "89-real",
    "9.0": "90a-real",
    "10.0": "100-real",
    "12.0": "120-real",
}


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
    folder = site.parent / f"{site.name}_build"
    machine = architectures(
        output_of(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    )
    if any(define.startswith(f"{ARCHITECTURES}=") for define in defines):
        machine = ""
    if machine:
        defines = [*defines, f"{ARCHITECTURES}={machine}"]
    before = _ninja_lines(folder)
    code = bounded(
        command(site, folder, defines),
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
        "architectures": machine,
        "cuda": cuda_times([line for line in _ninja_lines(folder) if line not in before]),
        "resources": with_plain_names(resources(text)),
        "compiler_warnings": len(re.findall(r"\bwarning\b[ :]", text)),
    }
    return record | ({"error": failure, "tail": errors_of(text)} if failure else {})


def architectures(capabilities: str) -> str:
    """What to compile for, by what nvidia-smi says: this machine's GPUs alone, to save time.

    Empty where it says nothing, or names a GPU that has no code of its own in CMakeLists.txt.
    """
    found = dict.fromkeys(re.findall(r"^\d+\.\d+(?=\s*$)", capabilities, re.MULTILINE))
    return (
        ";".join(map(MACHINE_CODE.__getitem__, found))
        if found.keys() <= MACHINE_CODE.keys()
        else ""
    )


def _ninja_lines(folder: Path) -> list[str]:
    path = folder / NINJA_LOG
    return path.read_text(errors="replace").splitlines() if path.exists() else []


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
