"""Which kernels a build has: of CUDA compilers that are there, too old, or unwanted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the PATH")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not on the PATH")


def configure(
    folder: Path, *options: str, nvcc: Path | None = None
) -> subprocess.CompletedProcess[str]:
    import pybind11

    environment = {**os.environ, "CUDACXX": str(nvcc)} if nvcc else dict(os.environ)
    command = ["cmake", "-S", str(ROOT), "-B", str(folder / "build"), *options]
    command += ["-DSKBUILD_PROJECT_NAME=fastrnn", "-DSKBUILD_PROJECT_VERSION=0.1.0"]
    command += [
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def old_nvcc(folder: Path) -> Path:
    """A compiler as it was before it knew today's GPUs."""
    path = folder / "nvcc"
    path.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        '  --version) echo "Cuda compilation tools, release 12.4, V12.4.131" ;;\n'
        '  *compute_100*) echo "nvcc fatal: Unsupported gpu architecture" >&2; exit 1 ;;\n'
        f'  *) exec {NVCC} "$@" ;;\nesac\n'
    )
    path.chmod(0o755)
    return path


@needs_nvcc
def test_a_compiler_that_is_too_old_leaves_the_cuda_kernels_out(tmp_path: Path) -> None:
    done = configure(tmp_path, nvcc=old_nvcc(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Building without CUDA kernels, which need CUDA 12.8 or newer" in done.stdout
    assert "found version '12.4'" in done.stdout


@needs_nvcc
def test_a_compiler_that_is_too_old_is_an_error_where_cuda_is_a_must(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DFASTRNN_CUDA=ON", nvcc=old_nvcc(tmp_path))
    assert done.returncode != 0
    assert "FASTRNN_CUDA is ON, which needs CUDA 12.8 or newer" in " ".join(done.stderr.split())


@needs_nvcc
def test_cuda_kernels_are_built_where_the_compiler_is(tmp_path: Path) -> None:
    done = configure(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "without CUDA" not in done.stdout
    assert "The CUDA compiler identification is NVIDIA" in done.stdout


def test_cuda_can_be_switched_off(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DFASTRNN_CUDA=OFF")
    assert done.returncode == 0, done.stderr
    assert "CUDA" not in done.stdout


def test_another_value_of_the_switch_is_an_error(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DFASTRNN_CUDA=yes")
    assert done.returncode != 0
    assert "FASTRNN_CUDA is 'yes'; it should be AUTO, ON or OFF" in " ".join(done.stderr.split())
