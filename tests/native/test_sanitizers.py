"""The CPU kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

`make sanitize` runs the whole grid of ``grid.cpp``; otherwise it is the short form.
"""

import functools
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]

# A sanitizer's build, a mistake made on purpose, and what it says of it.
PLANTED = [
    ("address", "address", "AddressSanitizer"),
    ("address", "undefined", "signed integer overflow"),
    ("thread", "thread", "ThreadSanitizer: data race"),
]

# What `make sanitize` sets.
GRID = () if os.environ.get("NATIVE_GRID") == "full" else ("--short",)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # Threads that wait leave the cores to others; the first data race ends the program.
    settings = {"OMP_WAIT_POLICY": "passive", "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, **settings},
    )


def why_not(sanitizer: str, folder: Path) -> str | None:
    """Why programs cannot be built or run with a sanitizer here, or None if they can."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None or shutil.which("cmake") is None:
        return "there is no C++ compiler or no cmake on the PATH"
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}")
    built = run(compiler, f"-fsanitize={sanitizer}", source, "-o", program)
    if built.returncode:
        return f"{compiler} cannot link -fsanitize={sanitizer}: {built.stderr[-300:]}"
    ran = run(program)
    if ran.returncode:
        return f"no program with -fsanitize={sanitizer} runs here: {ran.stderr[-300:]}"
    return None


@functools.cache
def program(sanitizer: str) -> Path:
    """The program, built if it or the kernels have changed."""
    with TemporaryDirectory() as folder:
        reason = why_not(sanitizer, Path(folder))
    if reason is not None:
        pytest.skip(reason)
    target = ROOT / "build" / f"sanitize-{sanitizer}"
    for command in (
        ["cmake", "-S", ROOT / "tests" / "native", "-B", target, f"-DSANITIZE={sanitizer}"],
        ["cmake", "--build", target, "--parallel", str(os.cpu_count())],
    ):
        done = run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return target / "grid"


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_kernels_are_right_and_do_nothing_that_a_sanitizer_reports(sanitizer: str) -> None:
    done = run(program(sanitizer), *GRID)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert ": 0 wrong" in done.stdout


@pytest.mark.parametrize(("sanitizer", "mistake", "report"), PLANTED)
def test_a_mistake_made_on_purpose_is_reported(sanitizer: str, mistake: str, report: str) -> None:
    done = run(program(sanitizer), "--plant", mistake)
    assert done.returncode != 0
    assert report in done.stderr
