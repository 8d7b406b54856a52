"""What the logs of a build tell: errors, how long CUDA sources took, and what kernels need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .commands import output_of

Record = dict[str, Any]

TAIL_CHARACTERS = 3000
ERROR_LINES = 12


def errors_of(text: str) -> str:
    """The lines of a build log that say what went wrong, else its end."""
    lines = text.splitlines()
    wrong = [line.strip() for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return "\n".join(wrong[:ERROR_LINES]) or text[-TAIL_CHARACTERS:]


def resources(text: str) -> list[Record]:
    """Registers, stack, spills and shared memory of each kernel, where ptxas was asked to tell."""
    found: list[Record] = []
    for line in text.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            found.append({"kernel": entry[1], "target": entry[2]})
        elif found and (spills := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill", line)):
            found[-1] |= {"stack": int(spills[1]), "spills": int(spills[2])}
        elif found and (used := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            found[-1] |= {"registers": int(used[1]), "shared": int(shared[1]) if shared else 0}
    return found


def with_plain_names(entries: list[Record]) -> list[Record]:
    """The same with names as the sources have them, where there is a tool that knows."""
    names = "\n".join(entry["kernel"] for entry in entries)
    plain = output_of(["c++filt"], names).splitlines() if entries else []
    if len(plain) != len(entries):
        return entries
    return [
        {**entry, "kernel": shortened(name)} for entry, name in zip(entries, plain, strict=True)
    ]


def shortened(name: str) -> str:
    """A kernel's name without return type, namespaces and arguments."""
    plain = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    return re.sub(r"\w+::", "", re.sub(r"\([^()]*\)$", "", plain))


def cuda_times(ninja_lines: Sequence[str]) -> Record:
    """Seconds from the first CUDA source's start to the last one's end, and the longest one.

    Sources are compiled side by side; none without ninja, or if none was compiled anew.
    """
    times = {}
    for line in ninja_lines:
        begin, end, _, output, *_ = [*line.split("\t"), *[""] * 4]
        if output.endswith(".cu.o") and begin.isdigit() and end.isdigit():
            times[output] = (int(begin) / 1e3, int(end) / 1e3)
    if not times:
        return {}
    longest = max(times, key=lambda output: times[output][1] - times[output][0])
    begins, ends = zip(*times.values(), strict=True)
    return {
        "seconds": round(max(ends) - min(begins), 2),
        "sources": len(times),
        "longest": re.sub(r"CMakeFiles/(\w+)\.dir/.*", r"\1", longest),
        "longest_seconds": round(times[longest][1] - times[longest][0], 2),
    }


def told_of_cuda(record: Record) -> str:
    """How long CUDA sources took, and whether kernels spill, in a line; empty without any."""
    parts = []
    if times := record.get("cuda"):
        parts.append(
            f"{times['sources']} CUDA sources in {times['seconds']} s, the longest "
            f"{times['longest']} in {times['longest_seconds']} s"
        )
    if kernels := record.get("resources"):
        spilling = sum(bool(entry.get("spills")) for entry in kernels)
        most = max(entry.get("registers", 0) for entry in kernels)
        parts.append(f"{len(kernels)} kernels, {spilling} with spills, {most} registers at most")
    return "; ".join(parts)
