"""Takes a call apart: which kernels ran for how long, and what a call costs that does nothing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch._C._autograd import DeviceType

from . import peers, verdict
from .kernel_resources import compiled_kernels
from .numerics import arithmetic
from .peers import AUTO, Workload
from .plan import Cell
from .worker import Context, Params, Record, describe_error

# The profiler's own cost grows with the number of launches, and a step is like the next.
MAX_STEPS = 128
CALLS = 3
TOP_KERNELS = 8
NAME_CHARACTERS = 110
OVERHEAD_CALLS = 200
OVERHEAD_ROUNDS = 5


def run_kernels(params: Params, context: Context) -> Record:
    """The kernels of each peer on one cell, the longest first."""
    cell = Cell(**{**params["cell"], "seq_len": min(params["cell"]["seq_len"], MAX_STEPS)})
    only, skip = params.get("backends"), params.get("skip", {})
    names = [n for n in peers.names(context.device.type, only) if n != AUTO and n not in skip]
    found = _of_each_peer(cell, names, context, lambda run: _kernels(run, cell, context))
    heard = any(peer.get("kernels") for peer in found.values())
    silent = [name for name, peer in found.items() if peer.get("kernels") == []]
    if heard:
        for name in silent:
            found[name] = {"status": "error", "error": "the profiler saw no kernel"}
    record = {**verdict.of_peers(found), "peers": found, "cell": params["cell"]}
    if silent and not heard and record["status"] == "ok":
        record |= {"status": "skipped", "reason": "the profiler sees no kernel, of torch neither"}
    return record


def run_overhead(params: Params, context: Context) -> Record:
    """Microseconds per call of a layer that has next to nothing to do: T=1, B=1, H=32."""
    only, skip = params.get("backends"), params.get("skip", {})
    names = [n for n in peers.names(context.device.type, only) if n not in skip]
    found: dict[str, Record] = {name: {} for name in names}
    for training in (False, True):
        cell = Cell(32, 32, 1, 1, params["precision"], packed=False, training=training)
        key = "forward_backward_us" if training else "forward_us"
        times = _of_each_peer(cell, names, context, lambda run: {"us": _call_us(run, context)})
        for name, record in times.items():
            if found[name].get("status") in verdict.BAD:  # a second pass must not hide it
                continue
            found[name] |= {key if field == "us" else field: v for field, v in record.items()}
    return {**verdict.of_peers(found), "peers": found, "precision": params["precision"]}


def run_resources(params: Params, context: Context) -> Record:
    """Run cells once and read what Triton's compiler made of them."""
    begin = time.perf_counter()
    for fields in params["cells"]:
        if time.perf_counter() - begin > params["seconds"]:  # each cell costs some of a compiler's
            break
        cell = Cell(**fields)
        _of_each_peer(cell, params["names"], context, lambda run: {"results": len(run())})
    return {"kernels": compiled_kernels()}


def _of_each_peer(
    cell: Cell,
    names: list[str],
    context: Context,
    measure: Callable[[Callable[[], list[torch.Tensor]]], Record],
) -> dict[str, Record]:
    found: dict[str, Record] = {}
    device = context.device.torch
    tf32 = cell.precision == "tf32" and context.device.type == "cuda"
    problem = peers.problem_of(cell, device, allow_tf32=tf32)
    with arithmetic(cell.precision):
        work = Workload.of(cell, device)
        for name in names:
            if reasons := peers.why_not(name, problem):
                found[name] = {"status": "unsupported", "reason": "; ".join(reasons)}
                continue
            context.announce(name, "profile")
            try:
                found[name] = {"status": "ok", **measure(peers.peer(name, work).run)}
            except Exception as error:
                if not context.device.healthy():
                    raise
                found[name] = {"status": "error", **describe_error(error)}
    return found


def _call_us(run: Callable[[], object], context: Context) -> float:
    """Host time per call, launches waited for at the end only: the least of some rounds."""
    for _ in range(3):
        run()
    best = float("inf")
    for _ in range(OVERHEAD_ROUNDS):
        context.device.synchronize()
        start = time.perf_counter()
        for _ in range(OVERHEAD_CALLS):
            run()
        context.device.synchronize()
        best = min(best, (time.perf_counter() - start) / OVERHEAD_CALLS)
    return round(best * 1e6, 1)


def _kernels(run: Callable[[], object], cell: Cell, context: Context) -> Record:
    on_gpu = context.device.type == "cuda"
    kind = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    for _ in range(2):
        run()
    wall_ms = min(context.device.milliseconds(run, CALLS) for _ in range(3))
    with torch.profiler.profile(activities=[kind], acc_events=True) as profiler:
        for _ in range(CALLS):
            run()
        context.device.synchronize()
    totals = _totals(profiler.events(), on_gpu)
    busy = sum(us for us, _ in totals.values())
    ranked = sorted(totals.items(), key=lambda item: -item[1][0])
    return {
        "wall_us_per_step": round(wall_ms * 1e3 / cell.seq_len, 3),
        # Above the wall's time where kernels overlap, below it where the device waits.
        "busy_us_per_step": round(busy / CALLS / cell.seq_len, 3),
        "steps": cell.seq_len,
        "kernels": [
            {
                "kernel": name[:NAME_CHARACTERS],
                "share": round(us / busy, 4) if busy else 0.0,
                "us_per_step": round(us / CALLS / cell.seq_len, 3),
                "launches_per_call": round(count / CALLS, 1),
            }
            for name, (us, count) in ranked[:TOP_KERNELS]
        ],
    }


def _totals(events: Any, on_gpu: bool) -> dict[str, tuple[float, int]]:
    """Microseconds and launches by name of the kernels (operators, without a GPU)."""
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    us: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for event in events:
        if event.device_type != wanted or getattr(event, "is_user_annotation", False):
            continue
        us[event.name] += event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        counts[event.name] += 1
    return {name: (us[name], counts[name]) for name in us}
