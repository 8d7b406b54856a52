"""Compute-sanitizer: its command, and what its report says of the package's kernels."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build_log import shortened

Record = dict[str, Any]

# The most telling first.
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Part of the names of all kernels of the package's CUDA sources, and of those with planted faults.
KERNELS = "lstm_"
# What the program that is watched prints before each problem, and at its end.
PROBLEM, DONE = "problem: ", "done, problems: "
PRINT_LIMIT = 20
MAX_LINES = 12
# Of a call of CUDA's runtime: torch tries what it can do without, and our launches raise errors.
OF_CALLS = "Program hit"

_MARGIN = "========="
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
_KERNEL = re.compile(r"\b(?:at|in) (?:0x[0-9a-f]+ in )?(?P<name>[^+]*\blstm_[^+]*?)(?:\+0x|$| in )")
_ANY_KERNEL = re.compile(r"^ *(?:\w+ )*at \S")


def executable() -> str | None:
    """Path of the tool: on the PATH, or beside nvcc, which belongs to the same toolkit."""
    nvcc = shutil.which("nvcc")
    beside = str(Path(nvcc).resolve().parent) if nvcc else None
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=beside or "")


def command(tool: str, program: Sequence[str], sanitizer: str) -> list[str]:
    """Watch a program's kernels with one of the `TOOLS`."""
    options = ["--tool", tool, "--print-limit", str(PRINT_LIMIT)]
    if tool == "memcheck":
        options += ["--report-api-errors", "no"]
    # What is initialised is known only where all kernels are watched.
    if tool != "initcheck":
        options += ["--kernel-regex", f"kns={KERNELS}"]
    return [sanitizer, *options, *program]


def outcome(tool: str, text: str, code: int | None) -> Record:
    """What a report says: `findings`, or why it says nothing; only a whole one can be right."""
    blocks = _blocks(text)
    ours = [block for block in blocks if block["kernel"]]
    summary = _SUMMARY.search(text)
    count = int(summary[1]) if summary else 0
    unclear = [block for block in blocks if not (block["kernel"] or block["foreign"])]
    if count and (tool != "initcheck" or not blocks):  # what nobody can place may be ours
        ours += unclear or ([_untold(count)] if not blocks else [])
    done = re.search(rf"^{DONE}(\d+)", text, re.MULTILINE)
    record: Record = {"findings": [_finding(block) for block in ours[:PRINT_LIMIT]]}
    record |= {"problems": int(done[1])} if done else {}
    if others := sum(block["foreign"] for block in blocks):
        record["in_other_kernels"] = others
    if ours:
        texts = [f"{b['kernel']}: {b['error']} ({b['problem'] or 'no problem'})" for b in ours]
        return {**record, "status": "wrong", "errors": list(dict.fromkeys(texts))}
    if summary is None or not done or code != 0:
        del record["findings"]
        how = "no end of the report" if code == 0 else f"exit code {code}"
        return {**record, "status": "error", "error": f"{how}: {telling(text)}"}
    return {**record, "status": "ok"}


def sees(text: str) -> bool:
    """Whether a report names a kernel with a planted fault."""
    return any("planted" in block["kernel"] for block in _blocks(text))


def _blocks(text: str) -> list[Record]:
    """The parts of a report, each with the problem in whose time it came."""
    blocks: list[Record] = []
    problem = ""
    for line in text.splitlines():
        if line.startswith(PROBLEM):
            problem = line.removeprefix(PROBLEM)
        if not line.startswith(_MARGIN):
            continue
        told = line.removeprefix(_MARGIN)
        if re.match(r" \S", told):
            blocks.append({"error": told.strip(), "problem": problem, "lines": [told.strip()]})
        elif told.strip() and blocks:
            blocks[-1]["lines"].append(told)
    return [_placed(block) for block in blocks if not _is_frame(block["error"])]


def _is_frame(error: str) -> bool:
    """What begins and ends a report."""
    return error == "COMPUTE-SANITIZER" or "SUMMARY: " in error or error.startswith("Target app")


def _placed(block: Record) -> Record:
    lines = [line for line in block["lines"] if "Host Frame" not in line]
    names = [match["name"] for line in lines if (match := _KERNEL.search(line))]
    elsewhere = any(_ANY_KERNEL.search(line) for line in lines[1:]) or " access at " in lines[0]
    foreign = not names and (elsewhere or block["error"].startswith(OF_CALLS))
    return {**block, "kernel": shortened(names[0].strip()) if names else "", "foreign": foreign}


def _untold(count: int) -> Record:
    return {"error": f"{count} errors, of which the report tells nothing more", "lines": []} | {
        "problem": "",
        "kernel": "",
    }


def _finding(block: Record) -> Record:
    lines = [line.strip() for line in block["lines"][:MAX_LINES]]
    return {key: block[key] for key in ("kernel", "error", "problem")} | {"lines": lines}


def telling(text: str) -> str:
    """The line that says most of why there is no report: the tool's own, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.strip("= ") for line in lines if line.startswith(f"{_MARGIN} ")]
    own = [line for line in own if line and not _is_frame(line)]
    last = [line for line in lines if not line.startswith(_MARGIN)][-1:]
    return "; ".join([*own[:1], *last])[:300] or "it printed nothing"
