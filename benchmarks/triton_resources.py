"""What the Triton kernels take of a GPU, compiled ahead of time without one.

``python -m benchmarks.triton_resources`` compiles every configuration that the backend can choose
for compute capability 8.0, 9.0 and 10.0 (about 3 minutes on two cores), checks them, and stores
registers, stack, shared memory and the instructions of the main loop as JSON and as a Markdown
table under ``benchmarks/results/``. With ``--check`` it only compares with what is stored.

With ``--everything`` it compiles every kernel that a call can ask for (about 2,500 for each
capability, about 20 minutes each) and stores how many there are, and what is wrong with them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch

from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels.config import (
    MAX_FUSED_INPUT_SIZE,
    MAX_HIDDEN_SIZE,
    UNIT_MULTIPLE,
    KernelConfig,
    Pass,
    candidates,
    shared_memory,
)

from .results_file import RESULTS

JSON_FILE = RESULTS / "triton_resources.json"
EVERYTHING_FILE = RESULTS / "triton_resources_everything.json"
TABLE_FILE = RESULTS / "triton_resources.md"

CAPABILITIES = (80, 90, 100)
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes that one block may take (CUDA C++ Programming Guide, table of technical specifications)."""

UNFUSED_INPUT_SIZE = 84
TENSOR_CORE = re.compile(r"\b(HMMA|HGMMA|UTC\w*MMA)\b")
COUNTED = {
    "barriers": re.compile(r"\bBAR\.SYNC"),
    "tensor_core": TENSOR_CORE,
    "multiply_add": re.compile(r"\bFFMA2?\b"),
    "shared_loads": re.compile(r"\bLDSM?\b"),
    "global_loads": re.compile(r"\bLDG\b"),
    "local": re.compile(r"\b(LDL|STL)\b"),
}


@dataclass(frozen=True)
class Variant:
    """One compiled kernel: what it runs, how it is cut, and for which GPU."""

    kind: Pass
    dtype: str
    hidden_size: int
    tile: int
    num_warps: int
    capability: int
    input_size: int = UNFUSED_INPUT_SIZE
    directions: int = 2
    training: bool = True
    lengths: bool = True
    allow_tf32: bool = False
    bias: bool = True

    @property
    def name(self) -> str:
        dtype = self.dtype + (" (TF32)" if self.allow_tf32 else "")
        parts = [f"sm_{self.capability}", self.kind, dtype, f"H={self.hidden_size}"]
        if self.kind == "forward" and self.input_size <= MAX_FUSED_INPUT_SIZE:
            parts.append(f"fused I={self.input_size}")
        parts.append(f"tile {self.tile}, {self.num_warps} warps")
        options = (("training", "inference"), ("lengths", "no lengths"), ("bias", "no bias"))
        for field, off in options:
            if not getattr(self, field):
                parts.append(off)
        if self.directions == 1:
            parts.append("one direction")
        return ", ".join(parts)

    @property
    def problem(self) -> Problem:
        return Problem(
            seq_len=1024,
            batch_size=64,
            input_size=self.input_size,
            hidden_size=self.hidden_size,
            num_directions=self.directions,
            proj_size=0,
            dtype=getattr(torch, self.dtype),
            device=torch.device("cuda", 0),
            training=self.training,
            allow_tf32=self.allow_tf32,
        )


def variants(capability: int) -> Iterator[Variant]:
    """Everything that can be chosen: all configurations with all options on, then fewer options."""
    for dtype in ("float16", "bfloat16", "float32"):
        limit = MAX_HIDDEN_SIZE[getattr(torch, dtype)]
        powers = [size for size in (16, 32, 64, 128) if size <= limit]
        sizes = [*powers, *(size - UNIT_MULTIPLE for size in powers if dtype != "bfloat16")]
        for size in sizes:
            yield from _of_size(dtype, size, capability, plain=size in powers)


def everything(capability: int) -> Iterator[Variant]:
    """All that a call can ask for: every size, and all options together."""
    for dtype, allow_tf32 in (
        ("float16", False),
        ("bfloat16", False),
        ("float32", False),
        ("float32", True),
    ):
        limit = MAX_HIDDEN_SIZE[getattr(torch, dtype)]
        half = dtype != "float32"
        for size in range(UNIT_MULTIPLE, limit + 1, UNIT_MULTIPLE):
            for directions, lengths in product((1, 2), (True, False)):
                common = {"directions": directions, "lengths": lengths}
                common |= {"capability": capability, "allow_tf32": allow_tf32}
                yield from _configured("backward", dtype, size, **common)
                for training in (True, False):
                    options = common | {"training": training}
                    yield from _configured("forward", dtype, size, **options)
                    fused = range(1, MAX_FUSED_INPUT_SIZE + 1) if half else ()
                    for input_size, bias in product(fused, (True, False)):
                        more = {"input_size": input_size, "bias": bias}
                        yield from _configured("forward", dtype, size, **options, **more)


def _configured(kind: Pass, dtype: str, size: int, **options: Any) -> Iterator[Variant]:
    """One variant in each configuration that it may be launched in."""
    input_size = options.setdefault("input_size", UNFUSED_INPUT_SIZE)
    configs = candidates(
        kind, getattr(torch, dtype), size, input_size, allow_tf32=options["allow_tf32"]
    )
    for config in configs:
        yield _variant(kind, dtype, size, config, **options)


def _of_size(dtype: str, size: int, capability: int, *, plain: bool) -> Iterator[Variant]:
    half = dtype != "float32"
    for allow_tf32 in (False,) if half else (False, True):
        options = {"capability": capability, "allow_tf32": allow_tf32}
        kinds: tuple[Pass, ...] = ("forward", "backward")
        for kind in kinds:
            inputs = [UNFUSED_INPUT_SIZE]
            if half and kind == "forward":
                inputs += range(1, MAX_FUSED_INPUT_SIZE + 1)
            for i in inputs:
                yield from _of_input(kind, dtype, size, i, plain=plain, **options)


def _of_input(
    kind: Pass, dtype: str, size: int, input_size: int, *, plain: bool, **options: Any
) -> Iterator[Variant]:
    options["input_size"] = input_size
    yield from _configured(kind, dtype, size, **options)
    if plain and dtype != "bfloat16":
        yield from _configured(kind, dtype, size, lengths=False, directions=1, **options)
        if kind == "forward":
            yield from _configured(kind, dtype, size, training=False, **options)


def _variant(kind: Pass, dtype: str, size: int, config: KernelConfig, **options: Any) -> Variant:
    return Variant(kind, dtype, size, config.tile, config.num_warps, **options)


def compile_variant(variant: Variant) -> dict[str, Any]:
    """Compile one kernel and read what the compiler made of it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastrnn.recurrence.triton_kernels.backward import lstm_backward
    from fastrnn.recurrence.triton_kernels.forward import lstm_forward
    from fastrnn.recurrence.triton_kernels.kernels import constants

    kernel = lstm_forward if variant.kind == "forward" else lstm_backward
    fixed = {**constants(variant.kind, variant.problem, fast=True), "TILE": variant.tile}
    fixed |= dict.fromkeys(_absent(variant))
    pointer = {"float16": "*fp16", "bfloat16": "*bf16", "float32": "*fp32"}[variant.dtype]
    types = {"cells": "*fp32", "order": "*i64", "lengths": "*i32"}
    types |= dict.fromkeys(("seq_len", "batch_size", "given"), "i32")
    names = kernel.arg_names
    signature = {n: "constexpr" if n in fixed else types.get(n, pointer) for n in names}
    aligned = {
        (names.index(n),): [["tt.divisibility", 16]] for n in names if signature[n].startswith("*")
    }
    source = ASTSource(
        kernel, signature, {(names.index(n),): value for n, value in fixed.items()}, aligned
    )
    options = {"num_warps": variant.num_warps, "num_stages": 1}
    compiled = triton.compile(
        source, target=GPUTarget("cuda", variant.capability, 32), options=options
    )
    return {"shared_bytes": compiled.metadata.shared, **_read_binary(compiled.asm["cubin"])}


def _absent(variant: Variant) -> list[str]:
    """Pointers that are None in this variant."""
    names = [] if variant.lengths else ["order", "lengths"]
    if variant.kind == "forward":
        if variant.input_size > MAX_FUSED_INPUT_SIZE or variant.dtype == "float32":
            names += ["x", "w_ih", "bias"]
        else:
            names += [] if variant.bias else ["bias"]
            names += [] if variant.training else ["gates"]
        if not variant.training:
            names += ["cells"]
    return names


def _read_binary(cubin: bytes) -> dict[str, Any]:
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()

        def run(tool: Any, *arguments: str) -> str:
            command = [tool.path, *arguments, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage = run(triton.knobs.nvidia.cuobjdump, "--dump-resource-usage")
        listing = run(triton.knobs.nvidia.nvdisasm, "-c")
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump did not tell the resources: {usage!r}")
    loop = _main_loop(listing)
    counts = {
        name: sum(bool(pattern.search(line)) for line in loop) for name, pattern in COUNTED.items()
    }
    return {
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),
        "loop_instructions": len(loop),
        **counts,
    }


def _main_loop(listing: str) -> list[str]:
    """The instructions of the longest loop: from a label to the last branch back to it."""
    labels: dict[str, int] = {}
    code: list[str] = []
    for line in listing.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif re.search(r"/\*[0-9a-f]{4,}\*/", line):
            code.append(line)
    begin = end = 0
    for place, line in enumerate(code):
        branch = re.search(r"\bBRA\b.*(\.L_x_\d+)", line)
        start = labels.get(branch[1], place) if branch else place
        if place - start > end - begin:
            begin, end = start, place
    return code[begin : end + 1]


def problems(variant: Variant, resources: dict[str, Any]) -> list[str]:
    """What is wrong with a compiled kernel; empty if nothing."""
    found = []
    if resources["stack_bytes"] or resources["local"]:
        found.append(f"spills: {resources['stack_bytes']} bytes of stack")
    if resources["shared_bytes"] > SHARED_MEMORY[variant.capability]:
        found.append(f"needs {resources['shared_bytes']} bytes of shared memory")
    dtype = getattr(torch, variant.dtype)
    if variant.tile == 8 and resources["shared_bytes"] > shared_memory(dtype, variant.hidden_size):
        found.append("needs more shared memory than `shared_memory` says")
    on_tensor_cores = variant.dtype != "float32" or variant.allow_tf32
    if bool(resources["tensor_core"]) != on_tensor_cores:
        found.append("has no tensor core instructions" if on_tensor_cores else "rounds to TF32")
    return found


def measure(todo: list[Variant], jobs: int) -> dict[str, dict[str, Any]]:
    """Compile variants; results by name."""
    with ProcessPoolExecutor(jobs) as pool:
        resources = list(pool.map(compile_variant, todo, chunksize=4))
    return {
        variant.name: {
            **asdict(variant),
            **found,
            "problems": problems(variant, found),
        }
        for variant, found in zip(todo, resources, strict=True)
    }


def table(stored: dict[str, Any]) -> str:
    """The stored results as Markdown."""
    shown = (
        *("registers", "stack_bytes", "shared_bytes", "loop_instructions", "barriers"),
        *("tensor_core", "multiply_add", "shared_loads"),
    )
    lines = [
        f"Compiled ahead of time by Triton {stored['triton']}; the last five columns count "
        "instructions of the main loop, which is one step. Made by "
        "`python -m benchmarks.triton_resources`.",
        "",
        "| kernel | " + " | ".join(name.replace("_", " ") for name in shown) + " |",
        "|---|" + "---:|" * len(shown),
    ]
    for name, cell in stored["kernels"].items():
        lines.append(f"| {name} | " + " | ".join(str(cell[key]) for key in shown) + " |")
    return "\n".join(lines) + "\n"


def differences(stored: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """Kernels whose resources are not what is stored; other compilers may differ, within bounds."""
    found = [
        f"{name}: {problem}" for name, cell in measured.items() for problem in cell["problems"]
    ]
    import triton

    if stored["triton"] == triton.__version__:
        for name, cell in measured.items():
            if stored["kernels"].get(name) != cell:
                found.append(f"{name}: not as stored; run python -m benchmarks.triton_resources")
    return found


def store_everything(measured: dict[str, dict[str, Any]]) -> list[str]:
    """Store how many kernels there are, and return what is wrong with them."""
    import triton

    stored = json.loads(EVERYTHING_FILE.read_text()) if EVERYTHING_FILE.exists() else {}
    wrong = [f"{name}: {problem}" for name, c in measured.items() for problem in c["problems"]]
    for capability in sorted({cell["capability"] for cell in measured.values()}):
        cells = [cell for cell in measured.values() if cell["capability"] == capability]
        stored[f"sm_{capability}"] = {
            "triton": triton.__version__,
            "kernels": len(cells),
            **{
                key: [min(values), max(values)]
                for key in ("registers", "stack_bytes", "shared_bytes", "barriers")
                if (values := [cell[key] for cell in cells])
            },
            "problems": [text for text in wrong if text.startswith(f"sm_{capability},")],
        }
    EVERYTHING_FILE.write_text(json.dumps(stored, indent=1) + "\n")
    return wrong


def main() -> int:
    """Compile, check, and store or compare."""
    import triton

    parser = argparse.ArgumentParser(description="Resources of the Triton kernels.")
    parser.add_argument("--check", action="store_true", help="compare, store nothing")
    parser.add_argument("--everything", action="store_true", help="every kernel of every call")
    parser.add_argument("--capability", type=int, choices=CAPABILITIES, action="append")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    make = everything if options.everything else variants
    todo = [v for capability in options.capability or CAPABILITIES for v in make(capability)]
    measured = measure(todo, options.jobs)
    spread = Counter(cell["registers"] for cell in measured.values())
    sys.stdout.write(f"{len(measured)} kernels, {min(spread)} to {max(spread)} registers\n")
    if options.everything:
        found = store_everything(measured)
    elif options.check:
        found = differences(json.loads(JSON_FILE.read_text()), measured)
    else:
        found = differences({"triton": None}, measured)
        stored = {"triton": triton.__version__, "kernels": measured}
        JSON_FILE.write_text(json.dumps(stored, indent=1) + "\n")
        TABLE_FILE.write_text(table(stored))
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
