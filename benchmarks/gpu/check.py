"""Runs one case of the grid on one backend and compares it with float64 on the CPU."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.dispatch import backend_by_name
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.verification import (
    OUTPUT_NAMES,
    Check,
    Expectation,
    expect,
    verify,
)

from .grid import Case
from .numerics import DTYPES, EPS, arithmetic, poisoned_memory
from .tensors import build, on_device
from .worker import Context, Params, Record

# All backends of a case run one after the other on one worker.
EXPECTATIONS_KEPT = 4


def run_case(params: Params, context: Context) -> Record:
    """Outputs and gradients of one case on one backend."""
    case, backend = Case(**params["case"]), params["backend"]
    with arithmetic(case.precision), poisoned_memory():
        args, grads = on_device(case, *build(case), context.device.torch)
        if reasons := why_not(backend, args):
            return {"status": "skipped", "reason": "; ".join(reasons)}
        expected = expectation(case)
        context.announce(backend, "run")
        return with_warnings(lambda: _compare(backend, args, grads, expected))


def expectation(case: Case) -> Expectation:
    """What the case should give, computed on the CPU, once for all backends."""
    # Float32 and TF32 are the same numbers, and the lengths may lie anywhere.
    precision = "fp32" if case.precision == "tf32" else case.precision
    return _expectation(replace(case, precision=precision, lengths_on_device=False))


@functools.lru_cache(EXPECTATIONS_KEPT)
def _expectation(case: Case) -> Expectation:
    return expect(*build(case))


def why_not(backend: str, args: LayerArgs) -> list[str]:
    """A backend's reasons against a call."""
    training = any(t is not None and t.requires_grad for t in args)
    return backend_by_name(backend).supports(Problem.from_args(args, training=training))


def _compare(backend: str, args: LayerArgs, grads: OutputGrads, expected: Expectation) -> Record:
    checks = verify(backend, args, grads, expected)
    bad = [str(check) for check in checks if not check.ok]
    record: Record = {"worst": max(map(share, checks))}
    if bad:
        record |= {"status": "wrong", "errors": bad}
    return record


def faults(backend: str, args: LayerArgs, grads: OutputGrads, expected: Expectation) -> list[str]:
    """What is wrong with outputs and gradients, and with the outputs if no gradients are asked for.

    Without them a backend goes another way, which is held to the same outputs.
    """
    wrong = [str(check) for check in verify(backend, args, grads, expected) if not check.ok]
    plain = args.map(lambda t: t.detach())
    outputs = {name: expected.truth[name] for name in OUTPUT_NAMES}
    inference = verify(backend, plain, grads, Expectation(outputs, expected.own_error))
    return wrong + [f"inference: {check}" for check in inference if not check.ok]


def compared(
    backend: str, results: dict[str, Tensor], expected: Expectation, precision: str
) -> list[Check]:
    """Hold results that are there already to the bound of `verify`; for "auto" the widest one."""
    dtype = DTYPES[precision]
    asked = [b for b in dispatch.BACKENDS if b.name == backend or backend == "auto"]
    tolerance = max(b.tolerance[dtype] for b in asked if dtype in b.tolerance)
    factor = tolerance * EPS[precision] / EPS["fp32"]
    return [
        Check(
            name,
            float((results[name].cpu().double() - truth).abs().max()),
            factor * expected.own_error[name],
        )
        for name, truth in expected.truth.items()
    ]


def share(check: Check) -> float:
    """How much of the allowed error was used."""
    if check.error == 0.0:
        return 0.0
    return check.error / check.allowed if check.allowed > 0 else float("inf")


def with_warnings(call: Callable[[], Record]) -> Record:
    """Run; a warning makes the record a failure, but keeps what was found."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for other in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", other)  # of other packages' making
        record = call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    texts = sorted({f"{w.category.__name__}: {w.message}"[:300] for w in caught})
    if texts:
        better = record.get("status") in (None, "skipped")
        record |= {"warnings": texts} | ({"status": "warned"} if better else {})
    return record
