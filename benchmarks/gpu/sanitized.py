"""The program that compute-sanitizer watches: one backend on a few short problems.

``python -m benchmarks.gpu.sanitized DEVICE BACKEND PRECISION [PLUGIN]``
"""

from __future__ import annotations

import sys

from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer

from .check import why_not
from .devices import Device, device_named
from .grid import Case
from .numerics import arithmetic
from .sanitizer import DONE, PROBLEM
from .tensors import build, on_device, results_of
from .worker import load_plugin

STEPS, BATCH = 6, 11  # more steps than are on their way at once; one tile, and a part of one


def cases(precision: str) -> list[Case]:
    """Every padded size with input multiplied in the kernel and beforehand, and what is special."""
    found = [
        Case(STEPS, BATCH, 28, 32),
        Case(STEPS, BATCH, 97, 17, 2, "zeros", lengths_on_device=True, states=True),
        Case(STEPS, BATCH, 13, 33, 2, "zeros", states=True, bias=False),
        Case(STEPS, BATCH, 128, 64),
        Case(STEPS, BATCH, 84, 127, 2, "zeros", lengths_on_device=True),
        Case(STEPS, BATCH, 3, 128, states=True),
        Case(STEPS, BATCH, 131, 100, 1, "zeros", states=True),
        Case(40, 3, 13, 64, 1, "random", wanted="all but x"),  # enough steps for several slices
        Case(STEPS, BATCH, 28, 65, 2, "zeros", wanted="none"),
        Case(STEPS, BATCH, 97, 31, 1, "nothing", states=True),
    ]
    return [Case(**{**vars(case), "precision": precision}) for case in found]


def run_all(device: Device, backend: str, precision: str) -> int:
    """Run forward and backward; returns how many problems the backend took."""
    done = 0
    for case in cases(precision):
        with arithmetic(precision):
            args, grads = on_device(case, *build(case), device.torch)
            if reasons := why_not(backend, args):
                print(f"left out: {case.name}: {'; '.join(reasons)}", flush=True)
                continue
            print(f"{PROBLEM}{case.name}", flush=True)
            results_of(backend, args, grads)
            if case.wanted == "none":
                lstm_layer(args.map(Tensor.detach), backend, last_state_only=True)
            device.synchronize()
        done += 1
    return done


def main(arguments: list[str]) -> int:
    """Fail if nothing was run: that would look like nothing found."""
    device, backend, precision, *plugin = arguments
    for path in plugin:
        load_plugin(path)
    done = run_all(device_named(device), backend, precision)
    print(f"{DONE}{done}", flush=True)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
