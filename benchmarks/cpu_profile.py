"""Where the time of a training call goes on the CPU; measured and stored.

``python -m benchmarks.cpu_profile`` takes about two minutes on two cores. The kernels' own time is
taken inside whole calls, and divided as calls show that leave a part of it out, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from rich.progress import track
from torch import Tensor, nn

import fastrnn
from fastrnn.recurrence.backends import CpuBackend
from fastrnn.recurrence.backends.base import OutputGrads, WantedGrads
from fastrnn.recurrence.problem import LayerArgs, Problem

from .cases import LayerCase
from .results_file import RESULTS, environment, load, milliseconds, store

PROFILE_FILE = RESULTS / "cpu_profile.json"

CASES = tuple(
    LayerCase(28, hidden, batch, steps)
    for steps in (128, 1024)
    for hidden in (32, 64, 128, 256)
    for batch in (1, 8, 32)
)

SECONDS = 4.0
TURN_SECONDS = 0.01

# A product about as large as those of a call, of a shape on which torch's library is at its best.
SGEMM_SIZES = (1024, 512, 1024)

PARTS = {
    "around the kernels": "Python, torch's differentiation and allocation",
    "forward": "as in inference: products with the weights, activations",
    "keep": "gates and cell states written for backward",
    "backward": "gate gradients, and their products with the recurrent weights",
    "weight gradients": "products of gate gradients with inputs and states",
}
"""The parts of a call, and what each is."""

_WEIGHTS = WantedGrads(x=False, h_0=False, c_0=False)
_NO_WEIGHTS = WantedGrads(x=False, w_ih=False, w_hh=False, bias=False, h_0=False, c_0=False)


class Clock:
    """Seconds spent in the native calls since it was last set to zero."""

    def __init__(self) -> None:
        self.forward = self.backward = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the kernels of all calls in the block."""
        describe = CpuBackend._call

        def watched(backend: CpuBackend, problem: Problem, dense: LayerArgs) -> Any:
            return _WatchedCall(describe(backend, problem, dense), self)

        with mock.patch.object(CpuBackend, "_call", watched):
            yield


class _WatchedCall:
    def __init__(self, call: Any, clock: Clock) -> None:
        self._call, self._clock = call, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def forward(self, **arrays: int) -> None:
        begin = time.perf_counter()
        self._call.forward(**arrays)
        self._clock.forward += time.perf_counter() - begin

    def backward(self, **arrays: int) -> None:
        begin = time.perf_counter()
        self._call.backward(**arrays)
        self._clock.backward += time.perf_counter() - begin


def whole_call(layer: nn.Module, x: Tensor, grad_y: Tensor) -> Callable[[], object]:
    """Forward and backward through a layer, as a program does it."""
    weights = list(layer.parameters())
    return lambda: torch.autograd.grad(layer(x)[0], weights, grad_y)


def kernel_calls(layer: fastrnn.LSTM, x: Tensor, grad_y: Tensor) -> dict[str, Callable[[], object]]:
    """The kernels alone, with and without some of their work."""
    weights = layer._layer_weights(0)
    bias = None if weights.bias is None else weights.bias.detach()
    args = LayerArgs(x, weights.w_ih.detach(), weights.w_hh.detach(), bias)
    problem = Problem.from_args(args, training=True)
    backend = CpuBackend()
    y, _, _, reserve = backend.forward(problem, args)
    grads = OutputGrads(grad_y, None, None)

    def backward(wanted: WantedGrads) -> Callable[[], object]:
        return lambda: backend.backward(problem, args, y, reserve, grads, wanted)

    return {
        "inference": lambda: backend.forward(replace(problem, training=False), args),
        "forward": lambda: backend.forward(problem, args),
        "backward": backward(_WEIGHTS),
        "backward, no weights": backward(_NO_WEIGHTS),
    }


def measure(case: LayerCase, seconds: float = SECONDS) -> dict[str, Any]:
    """Milliseconds of a call to fastrnn and to torch, and of the former's parts."""
    torch.manual_seed(0)
    x, _ = case.inputs()
    grad_y = torch.randn(case.seq_len, case.batch_size, case.hidden_size)
    stock = nn.LSTM(case.input_size, case.hidden_size)
    ours = fastrnn.LSTM(case.input_size, case.hidden_size)
    ours.load_state_dict(stock.state_dict())
    a, b = (torch.randn(size) for size in (SGEMM_SIZES[:2], SGEMM_SIZES[1:]))
    product = torch.empty(SGEMM_SIZES[0], SGEMM_SIZES[2])

    clock = Clock()
    calls: dict[str, Callable[[], object]] = {
        "torch": whole_call(stock, x, grad_y),
        "whole": whole_call(ours, x, grad_y),
        **kernel_calls(ours, x, grad_y),
        "SGEMM": lambda: torch.mm(a, b, out=product),
    }
    with clock.watching():
        rounds = _in_turns(calls, clock, seconds)
    ratios = [a["ms"] / b["ms"] for a, b in zip(rounds["torch"], rounds["whole"], strict=True)]
    return {
        "torch_ms": _short(_median(rounds["torch"], "ms")),
        "whole_ms": _short(_median(rounds["whole"], "ms")),
        "ratio": _short(statistics.median(ratios)),
        "parts_ms": {part: _short(ms) for part, ms in parts(rounds).items()},
        "arithmetic_ms": _short(_arithmetic_ms(case, _median(rounds["SGEMM"], "ms"))),
        "rounds": len(ratios),
        "environment": environment(),
    }


def _in_turns(
    calls: dict[str, Callable[[], object]], clock: Clock, seconds: float
) -> dict[str, list[dict[str, float]]]:
    """Milliseconds a call and in its kernels, turn by turn."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds["whole"]) < 5:
        for name, call in calls.items():
            clock.forward = clock.backward = 0.0
            count, begin = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - begin < TURN_SECONDS:
                call()
                count += 1
            passed = time.perf_counter() - begin
            times = {"ms": passed, "forward": clock.forward, "backward": clock.backward}
            rounds[name].append({key: 1e3 * value / count for key, value in times.items()})
    return rounds


def parts(rounds: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Milliseconds of each of `PARTS`, medians over the rounds.

    The kernels' times are those inside whole calls; what was left out in other calls, whose memory
    may be warmer, divides them.
    """
    whole = rounds["whole"]
    around = statistics.median(t["ms"] - t["forward"] - t["backward"] for t in whole)
    forward, backward = _median(whole, "forward"), _median(whole, "backward")
    inference = _share(rounds["inference"], rounds["forward"], "forward")
    recurrent = _share(rounds["backward, no weights"], rounds["backward"], "backward")
    return {
        "around the kernels": around,
        "forward": forward * inference,
        "keep": forward * (1 - inference),
        "backward": backward * recurrent,
        "weight gradients": backward * (1 - recurrent),
    }


def _share(fewer: list[dict[str, float]], all_: list[dict[str, float]], kernel: str) -> float:
    """The part of a kernel's time that is left where it does less: the median of the rounds."""
    return statistics.median(a[kernel] / b[kernel] for a, b in zip(fewer, all_, strict=True))


def _median(turns: list[dict[str, float]], key: str) -> float:
    return statistics.median(turn[key] for turn in turns)


def _arithmetic_ms(case: LayerCase, sgemm_ms: float) -> float:
    """What the products of a call would take at the rate of torch's own product."""
    inputs, hidden = case.input_size, case.hidden_size
    operations = 4 * hidden * (2 * (inputs + hidden) + hidden) * case.valid_steps()
    rows, inner, columns = SGEMM_SIZES
    return sgemm_ms * operations / (rows * inner * columns)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def profile_table() -> str:
    """Markdown table: shares of a call, beside what its products would take at best."""
    cells = load(PROFILE_FILE)
    if not cells:
        return "Nothing is stored yet: `python -m benchmarks.cpu_profile` measures."
    lines = [
        "| forward+backward | torch / fastrnn | fastrnn | products at SGEMM's rate | "
        + " | ".join(PARTS)
        + " |",
        "|---" * (4 + len(PARTS)) + "|",
    ]
    for case in CASES:
        if case.name not in cells:  # a run that was stopped
            continue
        cell = cells[case.name]
        whole = cell["whole_ms"]
        shares = [f"{round(100 * cell['parts_ms'][part] / whole)}%" for part in PARTS]
        columns = [
            case.name,
            f"**{cell['ratio']:.2f}**",
            milliseconds(whole),
            f"{cell['arithmetic_ms'] / whole:.0%}",
            *shares,
        ]
        lines.append("| " + " | ".join(columns) + " |")
    machine = next(iter(cells.values()))["environment"]
    lines += [
        "",
        "; ".join(f"*{part}*: {what}" for part, what in PARTS.items())
        + f". {machine['cpu']}, {machine['threads']} threads, {machine['isa']}, torch "
        f"{machine['torch']}, at {machine['commit']}. Measured by `python -m "
        "benchmarks.cpu_profile`, stored in `benchmarks/results/cpu_profile.json`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and store all cases."""
    for case in track(CASES, "profile"):
        store({case.name: measure(case)}, PROFILE_FILE)


if __name__ == "__main__":
    main()
