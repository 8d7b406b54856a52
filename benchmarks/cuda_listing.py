"""The kernels in a native module, as NVIDIA's disassembler lists them: no GPU is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PRECISIONS = ("half", "bfloat16", "tf32", "exact")
"""In the order of their numbers in csrc/cuda/config.h."""
PTX_ARCHITECTURE = "100"
"""Whose PTX newer GPUs compile at first use, as in CMakeLists.txt."""
RESERVED_SHARED = {"90a": 1024, "100": 1024}
"""Bytes that are listed as static wherever a kernel has dynamic shared memory: the system's own."""

LOCAL = re.compile(r"(LDL|STL)\b")
COUNTED = {
    "barriers": re.compile(r"BAR\.SYNC"),
    "tensor_core": re.compile(r"(HMMA|HGMMA|UTC\w*MMA)\b"),
    "multiply_add": re.compile(r"FFMA2?\b"),
    "shared_loads": re.compile(r"LDSM?\b"),
    "global_loads": re.compile(r"LD(G|GSTS)?\b"),
    "special_function": re.compile(r"MUFU\b"),
    "hardware_tanh": re.compile(r"MUFU\.TANH\b"),
}
RESOURCES = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)")
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\S*)(.*)")
MANGLED = re.compile(
    r"\d+lstm_(pack|forward|gates|backward)I\w*?9PrecisionE(\d)EEE(?:Li(\d+)E)?(?:Lb([01])E)?E"
)


class Tools(NamedTuple):
    """NVIDIA's programs that read machine code."""

    cuobjdump: str
    nvdisasm: str


def find_tools() -> Tools | None:
    """The tools on PATH, or else Triton's."""
    paths = [shutil.which(name) for name in Tools._fields]
    if None in paths:
        try:
            import triton

            paths = [getattr(triton.knobs.nvidia, name).path for name in Tools._fields]
        except (ImportError, AttributeError, RuntimeError):
            return None
    return Tools(*map(str, paths))


@dataclass(frozen=True)
class Kernel:
    """One instance of a kernel; only those that pack weights serve all numbers of units."""

    kind: str
    precision: str
    hidden: int | None

    def name(self, architecture: str) -> str:
        size = [] if self.hidden is None else [f"H={self.hidden}"]
        return ", ".join([f"sm_{architecture}", self.kind, self.precision, *size])

    @classmethod
    def of_symbol(cls, symbol: str) -> Kernel | None:
        """What a mangled name means; none if it is no kernel that is known here."""
        found = MANGLED.search(symbol)
        if found is None or int(found[2]) >= len(PRECISIONS):
            return None
        option = " transposed" if found[1] == "pack" else " fused"
        kind = found[1] + (option if found[4] == "1" else "")
        return cls(kind, PRECISIONS[int(found[2])], int(found[3]) if found[3] else None)


def read_module(module: Path, tools: Tools, jobs: int) -> dict[str, Any]:
    """Who compiled a module, the resources of its kernels by name, and which of them are in PTX."""
    with tempfile.TemporaryDirectory() as directory:
        for what in ("-xelf", "-xptx"):
            command = [tools.cuobjdump, what, "all", str(module.resolve())]
            subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
        # The names of the files end in .3.sm_89.cubin, or .ptx.
        cubins = sorted(Path(directory).glob("*.cubin"))
        compilers = {
            found[1].decode()
            for cubin in cubins
            if (found := re.search(rb"release [\d.]+, V([\d.]+)", cubin.read_bytes()))
        }
        with ProcessPoolExecutor(jobs) as pool:
            parts = list(pool.map(read_cubin, cubins, [tools] * len(cubins)))
        ptx = "".join(
            path.read_text() for path in Path(directory).glob(f"*.sm_{PTX_ARCHITECTURE}.ptx")
        )
    kernels = {name: cell for part in parts for name, cell in part.items()}
    in_ptx = [Kernel.of_symbol(symbol) for symbol in re.findall(r"\.entry\s+(\w+)", ptx)]
    return {
        "compiler": ", ".join(sorted(compilers)),
        "kernels": dict(sorted(kernels.items())),
        "ptx": sorted(kernel.name(PTX_ARCHITECTURE) for kernel in in_ptx if kernel),
    }


def read_cubin(cubin: Path, tools: Tools) -> dict[str, dict[str, Any]]:
    """The resources of the kernels in one file of machine code, by name."""

    def run(*command: str) -> str:
        done = subprocess.run([*command, str(cubin)], capture_output=True, text=True, check=True)
        return done.stdout

    architecture = cubin.suffixes[-2].removeprefix(".sm_")
    usage = run(tools.cuobjdump, "--dump-resource-usage")
    listings = _by_function(run(tools.nvdisasm, "-c"))
    cells = {}
    for symbol, registers, stack, shared in RESOURCES.findall(usage):
        kernel = Kernel.of_symbol(symbol)
        cells[kernel.name(architecture) if kernel else f"sm_{architecture}, {symbol}"] = {
            "architecture": architecture,
            "kind": kernel.kind if kernel else "unknown",
            "precision": kernel.precision if kernel else None,
            "hidden": kernel.hidden if kernel else None,
            "registers": int(registers),
            "stack_bytes": int(stack),
            "static_shared_bytes": max(0, int(shared) - RESERVED_SHARED.get(architecture, 0)),
            **count(listings[symbol]),
        }
    return cells


def _by_function(listing: str) -> dict[str, list[str]]:
    functions: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in listing.splitlines():
        if line.startswith(".text."):
            lines = functions.setdefault(line.removeprefix(".text.").rstrip(":"), [])
        lines.append(line)
    return functions


def count(listing: list[str]) -> dict[str, Any]:
    """The instructions of a kernel; loops go from a label to the last branch back to it."""
    labels: dict[str, int] = {}
    names: list[str] = []
    ends: dict[int, int] = {}
    for line in listing:
        if found := INSTRUCTION.match(line):
            target = re.search(r"\.L_x_\d+", found[2]) if found[1].startswith("BRA") else None
            if target and target[0] in labels:
                ends[labels[target[0]]] = len(names)
            # The compiler puts loads before LDGSTS that are never executed.
            names.append("NOP" if "@!PT " in line else found[1])
        elif label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(names)
    loops = [range(begin, end + 1) for begin, end in ends.items()]
    local = [place for place, name in enumerate(names) if LOCAL.match(name)]
    barrier = COUNTED["barriers"]
    steps = [loop for loop in loops if any(barrier.match(names[place]) for place in loop)]
    step = max(steps, key=len, default=range(0))
    return {
        "local": len(local),
        "local_in_loops": sum(any(place in loop for loop in loops) for place in local),
        "loop_instructions": len(step),
        "matrix_instructions": " ".join(
            sorted({names[n] for n in step if COUNTED["tensor_core"].match(names[n])})
        ),
        **{
            key: sum(bool(pattern.match(names[place])) for place in step)
            for key, pattern in COUNTED.items()
        },
    }
