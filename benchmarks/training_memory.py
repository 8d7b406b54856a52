"""What training keeps in memory, and what a long sequence takes; measured and stored.

``python -m benchmarks.training_memory`` takes a few minutes on two cores; ``kept`` or
``steps`` as an argument measures one part, ``steps --only checkpoint_every=1024`` one row of it.
Every number comes from a process of its own, by what the system says of its memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fastrnn
from fastrnn.recurrence.backends import recycling

from .results_file import RESULTS, ROOT, environment, load, milliseconds, store

MEMORY_FILE = RESULTS / "training_memory.json"

MIB = 2**20
KEPT_SIZES = {"batch_size": 32, "seq_len": 1024}
KEPT_LAYERS = [(i, h) for i in (3, 84) for h in (32, 64, 128, 256)]
STEP_SIZES = {"input_size": 3, "hidden_size": 64, "batch_size": 8, "seq_len": 100_000}
REPETITIONS = 3


@dataclass(frozen=True)
class Subject:
    """A layer, and how it is trained: on all outputs, or on the last state alone."""

    module: str = "fastrnn.LSTM"
    checkpoint_every: int | None = None
    last_state_only: bool = False

    @property
    def name(self) -> str:
        if self.checkpoint_every is None:
            return self.module
        options = [f"checkpoint_every={self.checkpoint_every}"]
        options += ["last_state_only=True"] * self.last_state_only
        return ", ".join(options)

    def build(self, input_size: int, hidden_size: int) -> nn.Module:
        torch.manual_seed(0)
        if self.module == "nn.LSTM":
            return nn.LSTM(input_size, hidden_size)
        return fastrnn.LSTM(input_size, hidden_size, checkpoint_every=self.checkpoint_every)

    def loss(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.last_state_only:
            loss: Tensor = layer(x, last_state_only=True)[1][0].mean()
        else:
            loss = layer(x)[0].mean()
        return loss


STOCK, OURS = Subject("nn.LSTM"), Subject()
STEPS = (
    STOCK,
    OURS,
    *(Subject(checkpoint_every=every) for every in (256, 1024, 4096)),
    Subject(checkpoint_every=1024, last_state_only=True),
)


def memory(field: str) -> int:
    """Bytes that this process has now (``VmRSS``), or had at most (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def kept(subject: Subject, sizes: dict[str, int]) -> dict[str, Any]:
    """Growth of this process from before forward to before backward, in bytes."""
    layer = subject.build(sizes["input_size"], sizes["hidden_size"])
    x = torch.randn(sizes["seq_len"], sizes["batch_size"], sizes["input_size"])
    growth = []
    for _ in range(REPETITIONS + 1):
        gc.collect()
        recycling.clear()  # memory of the call before, which this one would take
        before = memory("VmRSS")
        outputs = layer(x)
        growth.append(memory("VmRSS") - before)
        del outputs
    # The first call also gets what is allocated once.
    return {"bytes": int(statistics.median(growth[1:]))}


def step(subject: Subject, sizes: dict[str, int]) -> dict[str, Any]:
    """Peak memory of training steps, beyond the imports, and the time of one."""
    before = memory("VmHWM")
    layer = subject.build(sizes["input_size"], sizes["hidden_size"])
    x = torch.randn(sizes["seq_len"], sizes["batch_size"], sizes["input_size"])
    seconds = []
    for _ in range(REPETITIONS):
        layer.zero_grad()
        start = time.perf_counter()
        subject.loss(layer, x).backward()
        seconds.append(time.perf_counter() - start)
    peak = memory("VmHWM")
    check(subject, layer, sizes)  # afterwards, as it takes memory itself
    return {
        "growth_bytes": peak - before,
        "process_bytes": peak,
        "ms": float(f"{1e3 * statistics.median(seconds):.4g}"),
    }


def check(subject: Subject, layer: nn.Module, sizes: dict[str, int]) -> None:
    """Compare gradients with torch's, on steps enough for a segment and a half."""
    stock = STOCK.build(sizes["input_size"], sizes["hidden_size"])
    steps = min(sizes["seq_len"], 3 * (subject.checkpoint_every or 0) // 2 + 64)
    x = torch.randn(steps, sizes["batch_size"], sizes["input_size"])
    want = stock(x)[1][0].mean() if subject.last_state_only else stock(x)[0].mean()
    want.backward()
    layer.zero_grad()
    subject.loss(layer, x).backward()
    for ours, theirs in zip(layer.parameters(), stock.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        largest = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-4 * largest)


MEASURES = {"kept": kept, "step": step}


def measured(measure: str, subject: Subject, sizes: dict[str, int]) -> dict[str, Any]:
    """Measure in a process of its own."""
    task = json.dumps({"measure": measure, "subject": asdict(subject), "sizes": sizes})
    settings = dict(os.environ)
    if measure == "kept":  # what is freed goes back to the system at once
        settings |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks.training_memory", "--task", task]
    done = subprocess.run(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure_kept() -> dict[str, Any]:
    """What forward leaves for backward, of both modules."""
    cells = {}
    for input_size, hidden_size in KEPT_LAYERS:
        sizes = {"input_size": input_size, "hidden_size": hidden_size, **KEPT_SIZES}
        output = 4 * sizes["seq_len"] * sizes["batch_size"] * hidden_size
        name = f"kept; I={input_size}, H={hidden_size}"
        cells[name] = {
            "torch_bytes": measured("kept", STOCK, sizes)["bytes"],
            "fastrnn_bytes": measured("kept", OURS, sizes)["bytes"],
            "output_bytes": output,
            **sizes,
            "environment": environment(),
        }
        print(name, {key: cells[name][key] for key in ("torch_bytes", "fastrnn_bytes")})
    return cells


def measure_steps(sizes: dict[str, int], only: str | None = None) -> dict[str, Any]:
    """Training steps over long sequences."""
    cells = {}
    for subject in STEPS:
        if only in (None, subject.name):
            name = f"step; {subject.name}"
            cells[name] = {**measured("step", subject, sizes), **sizes}
            print(name, cells[name])
            cells[name]["environment"] = environment()
    return cells


def kept_table() -> str:
    """Markdown table of what is kept."""
    cells = load(MEMORY_FILE)
    lines = [
        "| layer | output | kept besides: `nn.LSTM` | `fastrnn.LSTM` | ratio "
        "| with the output: ratio |",
        "|---|---|---|---|---|---|",
    ]
    for input_size, hidden_size in KEPT_LAYERS:
        cell = cells[f"kept; I={input_size}, H={hidden_size}"]
        output, stock, ours = (cell[f"{k}_bytes"] for k in ("output", "torch", "fastrnn"))
        units = cell["seq_len"] * cell["batch_size"] * hidden_size * 4
        columns = [
            f"I={input_size}, H={hidden_size}",
            _mib(output),
            f"{_mib(stock - output)} ({(stock - output) / units:.2f})",
            f"{_mib(ours - output)} ({(ours - output) / units:.2f})",
            f"{(stock - output) / (ours - output):.2f}",
            f"{stock / ours:.2f}",
        ]
        lines.append("| " + " | ".join(columns) + " |")
    sizes = ", ".join(f"{name}={value:,}" for name, value in KEPT_SIZES.items())
    return "\n".join(
        [
            *lines,
            "",
            f"In brackets: numbers for each hidden unit and step. {sizes}, float32. {_source()}",
        ]
    )


def steps_table() -> str:
    """Markdown table of long training steps."""
    cells = load(MEMORY_FILE)
    lines = [
        "| training step | peak memory beyond the imports | whole process | time |",
        "|---|---|---|---|",
    ]
    for subject in STEPS:
        cell = cells.get(f"step; {subject.name}")
        columns = ["not measured"] * 3
        if cell is not None:
            memories = [_mib(cell[f"{what}_bytes"]) for what in ("growth", "process")]
            columns = [*memories, milliseconds(cell["ms"])]
        lines.append("| " + " | ".join([f"`{subject.name}`", *columns]) + " |")
    sizes = ", ".join(f"{name}={value:,}" for name, value in STEP_SIZES.items())
    loss = "The loss is the mean of the output (of the last state, in the last row), whose gradient"
    return "\n".join(
        [*lines, "", f"{sizes}, float32. {loss} is as large as the output. {_source()}"]
    )


def _mib(value: float) -> str:
    return f"{value / MIB:,.0f} MiB"


def _source() -> str:
    machine = next(iter(load(MEMORY_FILE).values()))["environment"]
    return (
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}. Measured by "
        "`python -m benchmarks.training_memory`, stored in "
        "`benchmarks/results/training_memory.json`."
    )


def main() -> None:
    """Measure, and store after each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("kept", "steps"))
    parser.add_argument("--only", help="name of a row of the steps")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task is not None:
        task = json.loads(arguments.task)
        print(json.dumps(MEASURES[task["measure"]](Subject(**task["subject"]), task["sizes"])))
        return
    if arguments.part in (None, "kept"):
        store(measure_kept(), MEMORY_FILE)
    if arguments.part in (None, "steps"):
        store(measure_steps(STEP_SIZES, arguments.only), MEMORY_FILE)


if __name__ == "__main__":
    main()
