"""The CUDA kernels, as the compiler left them in the installed native module.

To list them all takes a minute, so that is done where `checked.py` does not know the outcome.
"""

import copy
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cuda_listing, cuda_resources
from benchmarks.cuda_listing import Kernel, Tools, count, find_tools
from benchmarks.cuda_resources import (
    ARCHITECTURES,
    DEVICES,
    JSON_FILE,
    PADDED_SIZES,
    PRECISIONS,
    PTX_ARCHITECTURE,
    TABLE_FILE,
    differences,
    expected,
    find_module,
    load,
    missing,
    planning,
    problems,
    table,
)

from .checked import digest_of, has_passed, keep

ROOT = Path(__file__).parents[2]
STORED = json.loads(JSON_FILE.read_text())


@pytest.fixture
def module() -> Path:
    """The native module that is installed."""
    found = find_module()
    if found is None:
        pytest.skip("the package was built without CUDA: there is no fastrnn._cuda")
    return found


def inputs(module: Path, tools: Tools, folder: Path) -> Iterator[str | bytes]:
    """All machine code and PTX in a module, who reads it, and what is expected."""
    for what in ("-xelf", "-xptx"):
        command = [tools.cuobjdump, what, "all", str(module.resolve())]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    for file in sorted(folder.iterdir()):
        yield file.name
        yield file.read_bytes()
    for program in tools:
        yield subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    yield platform.python_version()
    for reader in (cuda_listing, cuda_resources):
        yield Path(reader.__file__).read_text()
    yield JSON_FILE.read_text()


def test_the_installed_kernels_do_not_spill_and_are_as_stored(module: Path, tmp_path: Path) -> None:
    tools = find_tools()
    if tools is None:
        pytest.skip("there are no cuobjdump and nvdisasm, neither on PATH nor in Triton")
    digest = digest_of(inputs(module, tools, tmp_path))
    if has_passed("cuda_resources", digest):
        return
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda_resources", "--check", "--module", module],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    keep("cuda_resources", digest)


def test_the_installed_module_plans_as_stored(module: Path) -> None:
    assert planning(load(module)) == STORED["planning"]


def test_all_that_is_compiled_is_stored_without_problems_and_shown() -> None:
    names = [kernel.name(a) for a in ARCHITECTURES for kernel in expected()]
    assert len(set(names)) == len(names)
    assert set(names) == set(STORED["kernels"])
    assert {kernel.name(PTX_ARCHITECTURE) for kernel in expected()} == set(STORED["ptx"])
    assert len(STORED["planning"]) == len(DEVICES) * len(PRECISIONS) * len(PADDED_SIZES)
    assert differences(STORED, STORED) == []
    assert TABLE_FILE.read_text() == table(STORED)


@pytest.mark.parametrize(
    ("symbol", "kernel"),
    [
        (
            "_ZN7fastrnn4cuda12lstm_forwardINS0_10ArithmeticILNS0_9PrecisionE0EEELi64ELb1EEE"
            "vNS0_16ForwardArgumentsE",
            Kernel("forward fused", "half", 64),
        ),
        (
            "_ZN7fastrnn4cuda10lstm_gatesINS0_10ArithmeticILNS0_9PrecisionE1EEELi128ELb0EEE"
            "vNS0_16ForwardArgumentsE",
            Kernel("gates", "bfloat16", 128),
        ),
        (
            "_ZN7fastrnn4cuda13lstm_backwardINS0_10ArithmeticILNS0_9PrecisionE2EEELi32EEE"
            "vNS0_17BackwardArgumentsE",
            Kernel("backward", "tf32", 32),
        ),
        (
            "_ZN7fastrnn4cuda9lstm_packINS0_10ArithmeticILNS0_9PrecisionE3EEELb1EEE"
            "vNS0_13PackArgumentsEii",
            Kernel("pack transposed", "exact", None),
        ),
        ("_ZN7fastrnn4cuda9lstm_packINS0_10ArithmeticILNS0_9PrecisionE4EEELb1EEEvv", None),
        ("_ZN7fastrnn4cuda4somethingEv", None),
    ],
)
def test_mangled_names_are_understood(symbol: str, kernel: Kernel | None) -> None:
    assert Kernel.of_symbol(symbol) == kernel


LISTING = """\
.L_x_0:
        /*0000*/                   LDL R1, [R2] ;
        /*0010*/                   FFMA R1, R1, R2, R3 ;
        /*0020*/                   FFMA R1, R1, R2, R3 ;
        /*0030*/                   FFMA R1, R1, R2, R3 ;
        /*0040*/               @P0 BRA `(.L_x_0) ;
        /*0050*/                   STL [R2], R1 ;
.L_x_1:
        /*0060*/                   LDSM.16.M88.4 R4, [R2] ;
        /*0068*/              @!PT LDS RZ, [RZ] ;
        /*0070*/              @!P1 BRA `(.L_x_2) ;
        /*0080*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
.L_x_2:
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/              @UP0 BRA.U `(.L_x_1) ;
.L_x_3:
        /*00b0*/                   BRA `(.L_x_3);
"""


def test_the_main_loop_is_the_longest_with_a_barrier() -> None:
    assert count(LISTING.splitlines()) == {
        "local": 2,
        "local_in_loops": 1,
        "loop_instructions": 6,
        "barriers": 1,
        "tensor_core": 1,
        "multiply_add": 0,
        "shared_loads": 1,
        "global_loads": 0,
        "special_function": 0,
        "hardware_tanh": 0,
        "matrix_instructions": "HMMA.16816.F32",
    }


def stored(kernel: Kernel) -> dict[str, Any]:
    cell: dict[str, Any] = STORED["kernels"][kernel.name("90a")]
    return cell


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stack_bytes": 8}, "spills: 8 bytes"),
        ({"local": 2, "local_in_loops": 1}, "2 local loads and stores, 1 of them in loops"),
        ({"static_shared_bytes": 16}, "16 bytes of static shared"),
        ({"registers": 257}, "256 threads take 67584 registers"),
        ({"barriers": 0}, "no loop with a barrier"),
        ({"matrix_instructions": ""}, "has tensor core instructions '' in the place of"),
        ({"matrix_instructions": "HMMA.16816.F16"}, "in the place of 'HMMA.16816.F32'"),
        ({"hardware_tanh": 0}, "has 0 of the hardware's tanh"),
        ({"kind": "unknown"}, "no kernel that is known"),
    ],
)
def test_what_must_not_be_is_found(change: dict[str, Any], problem: str) -> None:
    cell = stored(Kernel("forward", "half", 64))
    assert problems(cell, 256) == []
    assert problem in "; ".join(problems({**cell, **change}, 256))


def test_exact_kernels_multiply_without_rounding() -> None:
    exact = stored(Kernel("backward", "exact", 32))
    assert problems(exact, 64) == []
    assert problems({**exact, "tensor_core": 1}, 64) == ["has tensor core instructions"]
    assert problems({**exact, "multiply_add": 0}, 64) == ["has no FFMA"]


def test_kernels_that_are_missing_are_found() -> None:
    measured = copy.deepcopy(STORED)
    del measured["kernels"]["sm_86, gates, tf32, H=32"]
    measured["kernels"] = {n: c for n, c in measured["kernels"].items() if "sm_89" not in n}
    measured["ptx"].remove("sm_100, pack, half")
    assert missing(measured) == [
        "sm_86, gates, tf32, H=32: there is no machine code of it",
        "sm_89: there is no machine code for it",
        "sm_100, pack, half: there is no PTX of it",
    ]


def test_a_kernel_that_is_not_as_stored_is_found() -> None:
    measured = copy.deepcopy(STORED)
    name, cell = next(iter(measured["kernels"].items()))
    was = cell["registers"]
    cell["registers"] += 1
    assert differences(STORED, measured) == [f"{name}: registers: stored {was}, found {was + 1}"]
    assert differences({**STORED, "compiler": "1.0"}, measured) == []
