"""What a lack of memory is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from fastrnn.recurrence.backends import recycling
from fastrnn.recurrence.problem import Problem

_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")

# How torch says that there is no memory on the CPU, and that a tensor's size overflows.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
)


def run_or_raise_memory_error(
    run: Callable[Concatenate[Problem, _Rest], _Result],
    problem: Problem,
    *args: _Rest.args,
    **kwargs: _Rest.kwargs,
) -> _Result:
    """Run a backend's method; `MemoryError` where a tensor cannot be allocated on the CPU.

    Torch itself raises a `RuntimeError`, which nobody can tell from any other.
    """
    try:
        return run(problem, *args, **kwargs)
    except RuntimeError as error:
        if not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        recycling.clear()
        p = problem
        raise MemoryError(
            f"not enough memory for x of shape [{p.seq_len}, {p.batch_size}, {p.input_size}] "
            f"through {p.hidden_size} hidden units in {p.num_directions} direction(s): {error}"
        ) from error
