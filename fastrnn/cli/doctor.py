"""``fastrnn doctor``: what this installation is, and what it would run."""

import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import typer

from fastrnn._version import __version__
from fastrnn.cli.errors import FAILURE

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

    yield "python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    yield "torch", f"{torch.__version__}, {torch.get_num_threads()} threads"
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
            yield f"gpu {index}", torch.cuda.get_device_name(index)
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
