"""The CUDA kernels, compiled for the CPU with the emulator of ``csrc/cuda/emulator.h``.

The module has the same interface as ``fastrnn._cuda``, takes CPU tensors, and is built once for
each state of the sources.
"""

import functools
import hashlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from fastrnn._version import __version__
from fastrnn.recurrence.dispatch import backend_by_name

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc"

# A source, and what is defined when it is compiled.
Unit = tuple[Path, tuple[str, ...]]

PRECISIONS = ("half", "bfloat16", "tf32", "exact")
SIZES = (32, 64, 128)
FLAGS = (
    *("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
    "-Wno-unknown-pragmas",  # of nvcc's `#pragma unroll` GCC knows nothing
    *("-DFASTRNN_EMULATED", f'-DFASTRNN_VERSION="{__version__}"'),
)


def emulate_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend ``cuda`` run on CPU tensors, by the emulator."""
    monkeypatch.setattr(backend_by_name("cuda"), "_import", (emulated_module(), []))


@functools.cache
def emulated_module() -> ModuleType:
    """Build the module if its sources have changed, and import it."""
    plain = ("kernels.cu", "plan.cpp", "lstm_cuda.cpp", "emulator.cpp")
    instances = SOURCES / "cuda" / "instances.cu"
    units: list[Unit] = [
        (instances, (f"FASTRNN_PRECISION={precision}", f"FASTRNN_HIDDEN={size}"))
        for precision, size in itertools.product(PRECISIONS, SIZES)
    ]
    units.append((SOURCES / "bindings_cuda.cpp", ()))
    units += [(SOURCES / "cuda" / name, ()) for name in plain]
    return compiled_module("_cuda_emulated", units)


def compiled_module(name: str, units: Sequence[Unit], flags: Sequence[str] = FLAGS) -> ModuleType:
    """Import a module of C++, built again if its sources or anything in ``csrc`` have changed."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to build the emulated CUDA kernels with")
    sources = [source for source, _ in units]
    path = ROOT / "build" / name.lstrip("_") / f"{_state_of(sources, compiler, flags)}.so"
    if not path.exists():
        _build(compiler, flags, units, path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _state_of(sources: Sequence[Path], compiler: str, flags: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{compiler} {flags} {sysconfig.get_platform()}".encode())
    digest.update(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for source in sorted({*SOURCES.rglob("*"), *sources}):
        if source.is_file():
            digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _build(compiler: str, flags: Sequence[str], units: Sequence[Unit], path: Path) -> None:
    import pybind11

    includes = [
        f"-I{folder}" for folder in (SOURCES, pybind11.get_include(), sysconfig.get_path("include"))
    ]
    folder = path.with_suffix(f".{os.getpid()}")
    folder.mkdir(parents=True)

    def compiled(unit: Unit) -> str:
        source, defines = unit
        target = folder / f"{'_'.join((source.stem, *defines))}.o"
        _run(
            *(compiler, *flags, *includes, *(f"-D{define}" for define in defines)),
            *("-x", "c++", "-c", str(source), "-o", str(target)),
        )
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, units))
    library = folder / "module.so"
    _run(compiler, "-shared", "-o", str(library), *objects)
    library.replace(path)
    shutil.rmtree(folder)
    for other in path.parent.glob("*.so"):
        if other != path:
            other.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"
