"""Measures one cell: every peer is checked first, then all take turns."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.timing import Spread
from fastrnn.recurrence.dispatch import select
from fastrnn.recurrence.verification import Expectation, expect

from . import peers, verdict
from .check import faults
from .grid import Case
from .numerics import AGREEMENT, arithmetic, relative_distance
from .peers import AUTO, BASELINE, Peer, Workload
from .plan import MAX_ROUNDS, MIN_ROUNDS, SECONDS_PER_CELL, WARM_UP_CALLS, Cell
from .tensors import build, on_device
from .worker import Context, Params, Record, describe_error

GATE_STEPS = 33
# A sample lasts about this long, so that events and launches weigh little.
SAMPLE_MS = 2.0
MAX_REPEATS = 20


def run_cell(params: Params, context: Context) -> Record:
    """Times, peak memory and ratios of all peers on one cell.

    Parameters of the job: ``cell``; ``backends``, the only ones wanted, if any; ``skip``, records
    by name in the place of peers that crashed.
    """
    cell = Cell(**params["cell"])
    skip: dict[str, Record] = params.get("skip", {})
    with arithmetic(cell.precision):
        bench = _Bench(cell, context)
        names = peers.names(context.device.type, params.get("backends"))
        for name in names if cell.measures_auto else names[:-1]:
            bench.results[name] = skip[name] if name in skip else bench.prepared(name)
        _time_in_turns(bench.ready, bench.results, cell, context)
    record: Record = {"peers": bench.results, "cell": params["cell"]}
    return {**verdict.of_peers(bench.results), **record, "kernel_class": cell.kernel_class}


class _Bench:
    """The peers of one cell that are right, and what became of the others."""

    def __init__(self, cell: Cell, context: Context) -> None:
        self.cell, self.context = cell, context
        self.results: dict[str, Record] = {}
        self.ready: list[Peer] = []
        self._device = context.device.torch
        tf32 = cell.precision == "tf32" and context.device.type == "cuda"
        self._problem = peers.problem_of(cell, self._device, allow_tf32=tf32)
        self._work: Workload | None = None
        self._truth: list[torch.Tensor] | None = None

    def prepared(self, name: str) -> Record:
        """Check a peer and run it for the first time."""
        if reasons := peers.why_not(name, self._problem):
            return {"status": "unsupported", "reason": "; ".join(reasons)}
        if name != AUTO:
            return _guarded(lambda: self._prepare(name, name), self.context)
        self.context.announce(AUTO, "choice")
        choice = _guarded(lambda: {"chosen": select(self._problem).name}, self.context)
        if "chosen" not in choice:
            return choice
        return choice | _guarded(lambda: self._prepare(AUTO, choice["chosen"]), self.context)

    def _prepare(self, name: str, chosen: str) -> Record:
        # What `auto` takes was checked as itself, unless it is none of the peers.
        checked = chosen == BASELINE or self.results.get(chosen, {}).get("status") == "ok"
        if not checked and (bad := gate(self.cell, chosen, self.context)):
            return {"status": "wrong", "errors": bad}
        self.context.announce(name, "full size")
        self._work = self._work or Workload.of(self.cell, self._device)
        peer = peers.peer(name, self._work)
        record, got = _first_calls(peer, self.context)
        if bad := _disagreements(self.cell, got, self._truth):
            return {"status": "wrong", "errors": bad}
        self._truth = self._truth or got
        self.ready.append(peer)
        return record


def gate(cell: Cell, name: str, context: Context) -> list[str]:
    """What is wrong with a backend on the first steps of such a batch, against float64."""
    context.announce(name, "gate")
    short = replace(cell, seq_len=min(cell.seq_len, GATE_STEPS), training=True)
    args, grads, expected = _gate_case(short, context.device.torch)
    return faults(name, args, grads, expected)


@functools.lru_cache(2)
def _gate_case(cell: Cell, device: torch.device) -> tuple[Any, Any, Expectation]:
    """Tensors on the device and what they should give.

    The float64 reference runs on the device as well: at full width it would take minutes on the
    CPU, against which the device's own float64 is checked by the grid.
    """
    case = Case(
        cell.seq_len,
        cell.batch_size,
        cell.input_size,
        cell.hidden_size,
        cell.num_directions,
        lengths="random" if cell.packed else "none",
        lengths_on_device=False,
        wanted="all" if cell.wants_grad_x else "all but x",
        precision=cell.precision,
        seed=cell.batch_size + cell.hidden_size,
    )
    args, grads = on_device(case, *build(case), device)
    return args, grads, expect(args, grads)


def _guarded(call: Callable[[], Record], context: Context) -> Record:
    """What one peer does must not cost the others theirs, unless the device is gone."""
    try:
        record = call()
        context.device.synchronize()
        return record
    except torch.OutOfMemoryError as error:
        _release()
        return {"status": "out of memory", "reason": describe_error(error)["error"][:120]}
    except Exception as error:
        if not context.device.healthy():
            raise
        return {"status": "error", **describe_error(error)}


def _first_calls(peer: Peer, context: Context) -> tuple[Record, list[torch.Tensor]]:
    """Warm up, once for the results and once for the peak of memory."""
    got = [tensor.clone() for tensor in _summary(peer.run())]
    peak = context.device.peak_bytes(peer.run)
    record: Record = {"status": "ok", "peak_mb": None if peak is None else round(peak / 2**20, 2)}
    return record, got


def _summary(results: list[torch.Tensor]) -> list[torch.Tensor]:
    """Some steps of y, and the gradients: enough to find what is grossly wrong."""
    y, *grads = results
    steps = sorted({0, y.shape[0] // 7, y.shape[0] // 2, y.shape[0] - 1})
    return [y[steps], *grads]


def _disagreements(
    cell: Cell, got: list[torch.Tensor], want: list[torch.Tensor] | None
) -> list[str]:
    bad = [f"result {i} is not finite" for i, t in enumerate(got) if not t.isfinite().all()]
    if bad or want is None:
        return bad
    weights = [f"grad {name}" for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    names = ["y", *weights * cell.num_directions, "grad x"]
    limit = AGREEMENT[cell.precision]
    distances = [relative_distance(a, b) for a, b in zip(got, want, strict=True)]
    return [
        f"{name} at full size: {distance:.3g} away from torch, relatively; allowed {limit}"
        for name, distance in zip(names, distances, strict=False)
        if not distance <= limit
    ]


def _time_in_turns(
    ready: list[Peer], results: dict[str, Record], cell: Cell, context: Context
) -> None:
    """Fill in the times; who goes first changes from round to round."""
    if not ready:
        return
    repeats = {peer.name: _repeats(peer, context) for peer in ready}
    samples: dict[str, list[float]] = {peer.name: [] for peer in ready}
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        for done in range(MAX_ROUNDS):
            if done >= MIN_ROUNDS and time.perf_counter() - begin > SECONDS_PER_CELL:
                break
            shift = done % len(ready)
            for peer in ready[shift:] + ready[:shift]:
                context.announce(peer.name, "timing")
                ms = context.device.milliseconds(peer.run, repeats[peer.name])
                samples[peer.name].append(ms)
    finally:
        gc.enable()
        _release()
    base = samples.get(BASELINE)
    for name, values in samples.items():
        spread = Spread.of(values)
        results[name] |= {
            "ms": spread.as_dict(),
            "us_per_step": float(f"{spread.p50 * 1e3 / cell.seq_len:.4g}"),
            "rounds": len(values),
        }
        if base is not None and name != BASELINE:
            ratios = [a / b for a, b in zip(base, values, strict=True)]
            results[name]["ratio"] = Spread.of(ratios).as_dict()


def _repeats(peer: Peer, context: Context) -> int:
    context.announce(peer.name, "warm-up")
    estimate = min(context.device.milliseconds(peer.run, 1) for _ in range(WARM_UP_CALLS - 1))
    return max(1, min(MAX_REPEATS, round(SAMPLE_MS / max(estimate, 1e-3))))


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
