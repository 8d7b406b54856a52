"""``fastrnn doctor``: what this installation is, and what it would run."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastrnn._version import __version__
from fastrnn.cli.errors import FAILURE

if TYPE_CHECKING:
    from fastrnn.recurrence.decisions import Decision, ProblemClass

_LIBRARIES = ("numpy", "pillow", "safetensors", "matplotlib", "scikit-learn", "rich", "typer")


def doctor() -> None:
    """Show versions, the processor, and which backends can run here and why not.

    Put what it prints into a bug report. The exit code is 1 if something is
    broken.
    """
    sections: list[tuple[str, Callable[[], Iterator[tuple[str, str]]]]] = [
        (f"fastrnn {__version__}", _versions),
        ("Processor", _processor),
        ("Backends, in the order in which they are tried", _backends),
        ("Decisions of auto on GPUs", _decisions),
    ]
    healthy = True
    for title, rows in sections:
        typer.secho(title, bold=True)
        try:
            for name, text in rows():
                typer.echo(f"  {name:<13} {text}")
        except Exception as error:  # a doctor that falls ill at what it finds is of no use
            typer.secho(f"  {'problem':<13} {error}", fg="red")
            healthy = False
    if not healthy:
        raise typer.Exit(FAILURE)


def _versions() -> Iterator[tuple[str, str]]:
    import torch

    from fastrnn.recurrence.hardware import cudnn_version, triton_version

    yield "python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    yield "torch", f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield "cuda", torch.version.cuda or torch.version.hip or "torch was built without it"
    yield "cudnn", cudnn_version() or "not there"
    yield "triton", triton_version() or "not installed"
    for name in _LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def _processor() -> Iterator[tuple[str, str]]:
    import torch

    yield "cpu", f"{_cpu_model()}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            memory = f"{gpu.total_memory / 2**30:.0f} GiB"
            capability = f"compute capability {gpu.major}.{gpu.minor}"
            yield f"gpu {index}", f"{gpu.name}, {capability}, {memory}"
    else:
        yield "gpu", "none that this torch can use"
    try:
        from fastrnn import _cpu
    except ImportError as error:
        raise RuntimeError(
            f"the native kernel can't be loaded ({error}); build and install it: pip install ."
        ) from error
    from fastrnn.recurrence.backends.cpu import ISA_VARIABLE

    forced = os.environ.get(ISA_VARIABLE, "")
    why = f"forced by {ISA_VARIABLE}" if forced else "the fastest here"
    usable = ", ".join(_cpu.usable_isas())
    yield "kernel", f"{_cpu.select_isa(forced)} ({why}; this processor can run: {usable})"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def _backends() -> Iterator[tuple[str, str]]:
    from fastrnn.recurrence.dispatch import (
        BACKEND_VARIABLE,
        BACKENDS,
        backend_by_name,
        forced_backend,
    )

    forced = forced_backend()
    if forced is not None:
        backend_by_name(forced)
    for backend in BACKENDS:
        reasons = backend.unavailable()
        yield backend.name, "not here: " + "; ".join(reasons) if reasons else "ready"
    yield "forced", forced or f"none ({BACKEND_VARIABLE} is not set)"


def _decisions() -> Iterator[tuple[str, str]]:
    from fastrnn.recurrence.autoselect import current_versions
    from fastrnn.recurrence.decisions import SHIPPED_FILE, decisions_file, read_decisions
    from fastrnn.recurrence.hardware import AUTOTUNE_VARIABLE, autotune_enabled

    path = decisions_file()
    users = read_decisions(path) if path else None
    shipped = read_decisions(SHIPPED_FILE).decisions
    yield "file", str(path) if path else "none: there is no home folder to keep it in"
    if users and users.fault:
        yield "ignored", users.fault
    yield "trials", "on" if autotune_enabled() else f"off ({AUTOTUNE_VARIABLE} is 0)"
    known = shipped | (users.decisions if users else {})
    versions = current_versions().items()
    used = {c: d for c, d in known.items() if all(getattr(c, k) == v for k, v in versions)}
    for problem_class in sorted(used, key=str):
        decision = used[problem_class]
        yield decision.winner, _decision_line(problem_class, decision)
    if not used:
        yield "none yet", "a GPU's first calls decide"
    if others := len(known) - len(used):
        yield "not used", f"{others} made with other versions of fastrnn, torch or triton"


def _decision_line(problem_class: ProblemClass, decision: Decision) -> str:
    """Problem, times and reasons in one line."""
    from fastrnn.recurrence.autoselect import BASELINE
    from fastrnn.recurrence.trial import MAX_STEPS

    p = problem_class
    multiples = f" (multiples of {p.input_alignment})" if p.input_alignment > 1 else ""
    steps = f">{MAX_STEPS}" if p.seq_len_up_to is None else f"={_range(p.seq_len_up_to)}"
    words = [
        f"{p.device_name}, {p.dtype}{' with TF32' if p.allow_tf32 else ''}",
        f"H={p.hidden_size}",
        *([f"P={p.proj_size}"] if p.proj_size else []),
        f"D={p.num_directions}",
        f"I={_range(p.input_size_up_to)}{multiples}",
        f"B={_range(p.batch_size_up_to)}",
        f"T{steps}",
        *(["with lengths"] if p.variable_length else []),
        "training" if p.training else "inference",
        *(["last state only"] if p.last_state_only else []),
    ]
    against = "" if p.baseline == BASELINE else f" (against {p.baseline})"
    times = ", ".join(f"{name} {time:.0f} us" for name, time in decision.microseconds.items())
    reasons = "".join(f"; not {name}: {why}" for name, why in decision.dropped.items())
    return f"{', '.join(words)}: {times or 'not timed'}{against}{reasons}"


def _range(end: int) -> str:
    return f"{end // 2 + 1}..{end}" if end > 2 else str(end)
