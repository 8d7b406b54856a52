"""What the CUDA kernels take of a GPU, read from the native module that is installed.

``python -m benchmarks.cuda_resources`` disassembles every kernel in ``fastrnn._cuda`` (or in
``--module PATH``) for every architecture it has machine code for, checks them, asks the planner how
much dynamic shared memory they get, and stores all of it as JSON and as Markdown tables under
``benchmarks/results/``. With ``--check`` it only compares with what is stored. Neither a GPU nor a
driver is needed, only ``cuobjdump`` and ``nvdisasm``: those on PATH, or else Triton's. About 20
seconds on two cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from .cuda_listing import (
    COUNTED,
    PRECISIONS,
    PTX_ARCHITECTURE,
    Kernel,
    Tools,
    find_tools,
    read_module,
)
from .results_file import RESULTS

JSON_FILE = RESULTS / "cuda_resources.json"
TABLE_FILE = RESULTS / "cuda_resources.md"

# As in csrc/cuda/config.h and pack.h.
PLANNED_AS = dict(zip(PRECISIONS, ("float16", "bfloat16", "tf32", "float32"), strict=True))
PADDED_SIZES = (32, 64, 128)
MAX_FUSED_INPUT = 96
PACK_THREADS = 256

# As in CMakeLists.txt: those that there is machine code for.
ARCHITECTURES = ("80", "86", "89", "90a", "100")

REGISTERS = 65_536
"""Of a multiprocessor; a thread gets a multiple of eight (CUDA C++ Programming Guide)."""
DEVICES = {
    "A100": {"major": 8, "minor": 0, "multiprocessors": 108, "shared_bytes": 166_912},
    "L4": {"major": 8, "minor": 9, "multiprocessors": 58, "shared_bytes": 101_376},
    "RTX 4090": {"major": 8, "minor": 9, "multiprocessors": 128, "shared_bytes": 101_376},
    "H100, H200": {"major": 9, "minor": 0, "multiprocessors": 132, "shared_bytes": 232_448},
    "B200": {"major": 10, "minor": 0, "multiprocessors": 148, "shared_bytes": 232_448},
    "RTX 5090": {"major": 12, "minor": 0, "multiprocessors": 170, "shared_bytes": 101_376},
}
LARGEST = "B200"


def find_module() -> Path | None:
    """The module that is imported, or else installed; none if the package was built without CUDA.

    Run in a checkout, Python takes the package from there, where nothing is built.
    """
    spec = importlib.util.find_spec("fastrnn._cuda")
    if spec and spec.origin:
        return Path(spec.origin)
    paths = (
        Path(place, "fastrnn", f"_cuda{suffix}")
        for place, suffix in product(sys.path, EXTENSION_SUFFIXES)
    )
    return next((path for path in paths if path.exists()), None)


def expected() -> Iterator[Kernel]:
    """All kernels that are compiled for each architecture."""
    for precision in PRECISIONS:
        for kind in ("pack", "pack transposed"):
            yield Kernel(kind, precision, None)
        for hidden in PADDED_SIZES:
            for kind in ("forward", "forward fused", "gates", "gates fused", "backward"):
                yield Kernel(kind, precision, hidden)


def load(module: Path) -> ModuleType:
    """The native module itself, to plan with: this needs no driver."""
    name = "fastrnn._cuda"
    loaded = sys.modules.get(name)
    if loaded is None or Path(str(loaded.__file__)).resolve() != module.resolve():
        loader = ExtensionFileLoader(name, str(module.resolve()))
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        loaded = importlib.util.module_from_spec(spec)
        loader.exec_module(loaded)
    return loaded


def plan(native: Any, device: str, precision: str, hidden: int, training: bool) -> dict[str, Any]:
    """Whether a GPU runs such a layer, and how many bytes of shared memory the kernels get then."""

    def problem(input_size: int) -> Any:
        return native.Problem(
            precision=PLANNED_AS[precision], seq_len=1024, batch_size=64, input_size=input_size,
            hidden_size=hidden, num_directions=2, training=training,
        )  # fmt: skip

    described = native.Device(**DEVICES[device])
    if reasons := native.reasons_against(problem(MAX_FUSED_INPUT + 1), described):
        return {"runs": False, "reasons": list(reasons)}
    plans = [native.make_plan(problem(i), described) for i in range(1, MAX_FUSED_INPUT + 2)]
    widest = max((i for i, made in enumerate(plans, 1) if made.fuses_input), default=0)
    # The last plan is that of an input too wide to be fused.
    made = plans[widest - 1]
    kernels = ("forward", "gates", "backward") if training else ("forward",)
    return {
        "runs": True,
        "widest_fused_input": widest,
        "threads": {kernel: _threads(kernel, made) for kernel in kernels},
        "shared_bytes": {kernel: getattr(made, f"{kernel}_shared") for kernel in kernels},
    }


def _threads(kind: str, made: Any) -> int:
    if kind.startswith("pack"):
        return PACK_THREADS
    threads: int = made.backward_threads if kind == "backward" else made.forward_threads
    return threads


def planning(native: Any) -> dict[str, dict[str, Any]]:
    """The plans for all described devices, by name."""
    return {
        f"{device}, {precision}, H={hidden}": {
            mode: plan(native, device, precision, hidden, mode == "training")
            for mode in ("inference", "training")
        }
        for device, precision, hidden in product(DEVICES, PRECISIONS, PADDED_SIZES)
    }


MATRIX_INSTRUCTIONS = {
    "half": "HMMA.16816.F32",
    "bfloat16": "HMMA.16816.F32.BF16",
    "tf32": "HMMA.1688.F32.TF32",
}
"""All that a kernel of a precision may have: operands of that type, and float32 sums."""


def problems(cell: dict[str, Any], threads: int) -> list[str]:
    """What is wrong with a kernel; empty if nothing."""
    if cell["kind"] == "unknown":
        return ["is no kernel that is known here"]
    found = []
    if cell["stack_bytes"] or cell["local"]:
        found.append(
            f"spills: {cell['stack_bytes']} bytes of stack, {cell['local']} local loads and "
            f"stores, {cell['local_in_loops']} of them in loops"
        )
    if cell["static_shared_bytes"]:
        found.append(
            f"{cell['static_shared_bytes']} bytes of static shared memory: not planned for"
        )
    needed = -(-cell["registers"] // 8) * 8 * threads
    if needed > REGISTERS:
        found.append(f"{threads} threads take {needed} registers")
    if cell["kind"].startswith("pack"):
        return found
    if not cell["barriers"]:
        found.append("has no loop with a barrier")
    if cell["precision"] == "exact":
        found += ["has tensor core instructions"] if cell["tensor_core"] else []
        found += [] if cell["multiply_add"] else ["has no FFMA"]
    elif cell["matrix_instructions"] != MATRIX_INSTRUCTIONS[cell["precision"]]:
        found.append(
            f"has tensor core instructions {cell['matrix_instructions']!r} in the place of "
            f"{MATRIX_INSTRUCTIONS[cell['precision']]!r}"
        )
    if bool(cell["hardware_tanh"]) != (cell["precision"] in ("half", "bfloat16")):
        found.append(f"has {cell['hardware_tanh']} of the hardware's tanh")
    return found


def missing(measured: dict[str, Any]) -> list[str]:
    """Kernels that the module should have and has not."""
    found = []
    has = [(architecture, "machine code", measured["kernels"]) for architecture in ARCHITECTURES]
    for architecture, what, names in [*has, (PTX_ARCHITECTURE, "PTX", measured["ptx"])]:
        lacking = [n for kernel in expected() if (n := kernel.name(architecture)) not in names]
        if len(lacking) == len(list(expected())):
            found.append(f"sm_{architecture}: there is no {what} for it")
        else:
            found += [f"{name}: there is no {what} of it" for name in lacking]
    return found


def measure(module: Path, tools: Tools, jobs: int) -> dict[str, Any]:
    """Everything that is stored, and what is wrong with each kernel."""
    measured = read_module(module, tools, jobs)
    measured["planning"] = planning(load(module))
    for cell in measured["kernels"].values():
        like = f"{LARGEST}, {cell['precision']}, H={cell['hidden']}"
        kind = str(cell["kind"]).removesuffix(" fused")
        planned = measured["planning"].get(like, {"training": {"threads": {}}})["training"]
        cell["threads"] = planned["threads"].get(kind, PACK_THREADS)
        cell["problems"] = problems(cell, cell["threads"])
    return measured


def differences(stored: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """What is wrong, or not as stored; another compiler may make other machine code."""
    found = missing(measured)
    found += [
        f"{name}: {text}" for name, c in measured["kernels"].items() for text in c["problems"]
    ]
    same_compiler = stored.get("compiler") == measured["compiler"]
    compared = ("kernels", "planning") if same_compiler else ("planning",)
    for what in compared:
        before, now = stored.get(what, measured[what]), measured[what]
        for name in sorted({*before, *now}):
            old, new = before.get(name, {}), now.get(name, {})
            found += [
                f"{name}: {key}: stored {old.get(key)}, found {new.get(key)}"
                for key in sorted({*old, *new})
                if old.get(key) != new.get(key)
            ]
    return found


def table(stored: dict[str, Any]) -> str:
    """The stored results as Markdown."""
    shown = (
        *("threads", "registers", "stack_bytes", "static_shared_bytes", "local", "local_in_loops"),
        *("loop_instructions", *COUNTED),
    )
    lines = [
        f"Compiled by nvcc {stored['compiler']}. `local` are loads and stores: spilled registers. "
        "The columns from `loop instructions` on count instructions of the main loop, which is one "
        "step: those on all paths through it, though a step takes only one. Made by "
        "`python -m benchmarks.cuda_resources`.",
        "",
        "| kernel | " + " | ".join(name.replace("_", " ") for name in shown) + " |",
        "|---|" + "---:|" * len(shown),
    ]
    for name, cell in stored["kernels"].items():
        lines.append(f"| {name} | " + " | ".join(str(cell[key]) for key in shown) + " |")
    return "\n".join([*lines, "", *_planning_table(stored["planning"])]) + "\n"


def _planning_table(plans: dict[str, Any]) -> list[str]:
    """Devices for which all is the same share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for precision, hidden, device in product(PRECISIONS, PADDED_SIZES, DEVICES):
        layer = f"{precision}, H={hidden}"
        cells = plans[f"{device}, {layer}"]
        shown = " | ".join(_planned(cells[mode]) for mode in ("inference", "training"))
        rows.setdefault((layer, shown), []).append(device)
    return [
        "Dynamic shared memory of a block, in bytes, when the input is as wide as the kernels can "
        "multiply on that device (forward / gates / backward).",
        "",
        "| layer | devices | inference: input up to | bytes | training: input up to | bytes |",
        "|---|---|---:|---:|---:|---:|",
        *(f"| {layer} | {', '.join(names)} | {shown} |" for (layer, shown), names in rows.items()),
    ]


def _planned(cell: dict[str, Any]) -> str:
    if not cell["runs"]:
        return f"does not run | {'; '.join(cell['reasons'])}"
    shared = " / ".join(str(size) for size in cell["shared_bytes"].values())
    return f"{cell['widest_fused_input'] or 'none'} | {shared}"


def main() -> int:
    """Read, check, and store or compare."""
    parser = argparse.ArgumentParser(description="Resources of the CUDA kernels.")
    parser.add_argument("--check", action="store_true", help="compare, store nothing")
    parser.add_argument("--module", type=Path, help="a native module that is not installed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    module, tools = options.module or find_module(), find_tools()
    if module is None or tools is None:
        lacking = "cuobjdump and nvdisasm" if module else "the module fastrnn._cuda"
        sys.stderr.write(f"{lacking} cannot be found\n")
        return 2
    sys.stdout.write(f"{module}\n")
    measured = measure(module, tools, options.jobs)
    spread = Counter(cell["registers"] for cell in measured["kernels"].values())
    sys.stdout.write(f"{len(measured['kernels'])} kernels by nvcc {measured['compiler']}")
    sys.stdout.write(f", {min(spread)} to {max(spread)} registers\n" if spread else "\n")
    stored = json.loads(JSON_FILE.read_text()) if options.check else {}
    found = differences(stored, measured)
    if not options.check:
        JSON_FILE.write_text(json.dumps(measured, indent=1) + "\n")
        TABLE_FILE.write_text(table(measured))
    for line in found:
        sys.stdout.write(line + "\n")
    if found and options.check:
        sys.stdout.write("To store what was found: python -m benchmarks.cuda_resources\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
