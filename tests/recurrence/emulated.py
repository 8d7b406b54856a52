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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from fastrnn._version import __version__
from fastrnn.recurrence.dispatch import backend_by_name

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc"
BUILD = ROOT / "build" / "cuda_emulated"
NAME = "_cuda_emulated"

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
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to build the emulated CUDA kernels with")
    path = BUILD / f"{_state_of_sources(compiler)}.so"
    if not path.exists():
        _build(compiler, path)
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _state_of_sources(compiler: str) -> str:
    digest = hashlib.sha256(f"{compiler} {FLAGS} {sysconfig.get_platform()}".encode())
    digest.update(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for source in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def _build(compiler: str, path: Path) -> None:
    import pybind11

    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    folder = path.with_suffix(f".{os.getpid()}")
    folder.mkdir(parents=True)

    def compiled(unit: tuple[str, tuple[str, ...]]) -> str:
        source, defines = unit
        target = folder / f"{'_'.join((Path(source).stem, *defines))}.o"
        _run(
            *(compiler, *FLAGS, *includes, *(f"-D{define}" for define in defines)),
            *("-x", "c++", "-c", str(SOURCES / source), "-o", str(target)),
        )
        return str(target)

    plain = ("kernels.cu", "plan.cpp", "lstm_cuda.cpp", "emulator.cpp")
    units: list[tuple[str, tuple[str, ...]]] = [
        ("cuda/instances.cu", (f"FASTRNN_PRECISION={precision}", f"FASTRNN_HIDDEN={size}"))
        for precision, size in itertools.product(PRECISIONS, SIZES)
    ]
    units += [("bindings_cuda.cpp", ()), *((f"cuda/{name}", ()) for name in plain)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, units))
    library = folder / "module.so"
    _run(compiler, "-shared", "-o", str(library), *objects)
    library.replace(path)
    shutil.rmtree(folder)
    for other in BUILD.glob("*.so"):
        if other != path:
            other.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"
