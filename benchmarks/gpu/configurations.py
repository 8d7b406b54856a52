"""The configurations that a backend may launch its kernels in, to check each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import zip_longest

from fastrnn.recurrence.problem import Problem

# A configuration's name, and what forces it.
Forced = tuple[str, AbstractContextManager[None]]


def _of_triton(problem: Problem) -> Iterator[Forced]:
    """Pairs of a forward and a backward configuration, as many as meet each of them."""
    from fastrnn.recurrence.triton_kernels.config import KernelConfig, Pass, candidates
    from fastrnn.recurrence.triton_kernels.tuning import forced

    p = problem

    def of(kind: Pass) -> tuple[KernelConfig, ...]:
        return candidates(kind, p.dtype, p.hidden_size, p.input_size, allow_tf32=p.allow_tf32)

    first_forward, first_backward = of("forward")[0], of("backward")[0]
    for forward, backward in zip_longest(of("forward"), of("backward")):
        pair = {"forward": forward or first_forward, "backward": backward or first_backward}
        yield ", ".join(f"{kind} {config}" for kind, config in pair.items()), forced(**pair)


CONFIGURATIONS: dict[str, Callable[[Problem], Iterator[Forced]]] = {"triton": _of_triton}
"""By name of the backend; the others have nothing to choose."""
