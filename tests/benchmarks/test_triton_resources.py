"""The Triton kernels, compiled for GPUs that are not here.

To compile them all takes minutes, so that is done where `checked.py` does not know the outcome.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.triton_resources import (
    CAPABILITIES,
    EVERYTHING_FILE,
    JSON_FILE,
    TABLE_FILE,
    Variant,
    differences,
    everything,
    problems,
    table,
    variants,
)

from . import triton_inputs
from .checked import digest_of, has_passed, keep

ROOT = Path(__file__).parents[2]
STORED = json.loads(JSON_FILE.read_text())


def without_interpreter(*command: str) -> str:
    """What a Python program prints that compiles the kernels."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Digests of what goes into each kernel, and some of the kernels compiled."""
    answer: dict[str, Any] = json.loads(without_interpreter(str(Path(triton_inputs.__file__))))
    return answer


def test_every_configuration_compiles_without_spills_and_as_stored(found: dict[str, Any]) -> None:
    digest = digest_of([*found["inputs"], JSON_FILE.read_text()])
    if not has_passed("triton_resources", digest):
        without_interpreter("-m", "benchmarks.triton_resources", "--check")
        keep("triton_resources", digest)


def test_each_kernel_compiles_as_stored_in_each_arithmetic(found: dict[str, Any]) -> None:
    assert len(found["sample"]) == 8
    assert {kernel["capability"] for kernel in found["sample"].values()} == {*CAPABILITIES}
    assert differences(STORED, found["sample"]) == []


def test_all_that_is_compiled_is_stored_and_shown() -> None:
    names = [variant.name for capability in CAPABILITIES for variant in variants(capability)]
    assert len(set(names)) == len(names)
    assert set(names) == set(STORED["kernels"])
    assert TABLE_FILE.read_text() == table(STORED)


def test_everything_is_more_than_what_is_shown_and_without_problems() -> None:
    """Stored by `--everything`, which takes too long for every day."""
    stored = json.loads(EVERYTHING_FILE.read_text())
    for capability in CAPABILITIES:
        names = [variant.name for variant in everything(capability)]
        assert len(set(names)) == len(names)
        assert {variant.name for variant in variants(capability)} <= set(names)
        found = stored[f"sm_{capability}"]
        assert found["kernels"] == len(names)
        assert found["problems"] == []


VARIANT = Variant("forward", "float16", 128, 8, 16, 80)
GOOD = {"stack_bytes": 0, "local": 0, "shared_bytes": 139_264, "tensor_core": 16}


def test_what_must_not_be_is_found() -> None:
    assert problems(VARIANT, GOOD) == []
    for change, problem in (
        ({"stack_bytes": 8}, "spills"),
        ({"local": 1}, "spills"),
        ({"shared_bytes": 170_000}, "needs 170000 bytes"),
        ({"tensor_core": 0}, "no tensor core"),
    ):
        assert problem in "; ".join(problems(VARIANT, {**GOOD, **change}))
    exact = replace(VARIANT, dtype="float32", hidden_size=64)
    assert problems(exact, {**GOOD, "shared_bytes": 1}) == ["rounds to TF32"]


def test_a_kernel_that_is_not_as_stored_is_found() -> None:
    name, cell = next(iter(STORED["kernels"].items()))
    assert differences(STORED, {name: cell}) == []
    (found,) = differences(STORED, {name: {**cell, "registers": cell["registers"] + 1}})
    assert "not as stored" in found
