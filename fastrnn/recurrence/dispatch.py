"""The choice of a backend: one ordered list, reasons for every no, and ways to force one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastrnn.recurrence.autoselect import AutoSelector, considers
from fastrnn.recurrence.backends import (
    Backend,
    CpuBackend,
    CudaBackend,
    CudnnBackend,
    EagerBackend,
    TritonBackend,
)
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.rewriting import can_merge_projection
from fastrnn.recurrence.trial import Run

BACKEND_VARIABLE = "FASTRNN_BACKEND"

BACKENDS: tuple[Backend, ...] = (
    CpuBackend(),
    CudaBackend(),
    TritonBackend(),
    CudnnBackend(),
    EagerBackend(),
)
"""Every backend, fastest first; the last one supports every problem."""

_DEVICES_WITH_TRIALS = frozenset({"cuda"})

_selector = AutoSelector(BACKENDS)


def run_trials_by(run: Run) -> None:
    """Let trials run their calls in this way: as users do, with all that it costs."""
    _selector.trial_runner = run


class _Forced(threading.local):
    # Not a ContextVar: torch's compiler cannot trace one.
    name: str | None = None


_forced = _Forced()


class BackendError(ValueError):
    """A backend was forced that does not exist or cannot run the problem."""


def backend_by_name(name: str) -> Backend:
    """Look a backend up.

    Raises
    ------
    BackendError
        If there is none of that name.
    """
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    known = ", ".join(repr(backend.name) for backend in BACKENDS)
    raise BackendError(f"backend is {name!r}; it should be 'auto' or one of {known}")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend, by name, for all calls in a ``with`` block of this thread.

    Parameters
    ----------
    name : str
        A backend's name, or "auto" to lift an outer choice.

    Raises
    ------
    BackendError
        If there is no backend of that name.

    Examples
    --------
    >>> import torch, fastrnn
    >>> with fastrnn.use_backend("eager"):
    ...     y, _ = fastrnn.LSTM(3, 8)(torch.zeros(5, 2, 3))
    """
    if name != "auto":
        backend_by_name(name)
    outer, _forced.name = _forced.name, name
    try:
        yield
    finally:
        _forced.name = outer


def forced_backend(name: str | None = None) -> str | None:
    """Name of the forced backend: the argument, else `use_backend`, else the environment."""
    chosen = name or _forced.name or os.environ.get(BACKEND_VARIABLE) or "auto"
    return None if chosen == "auto" else chosen


def select(problem: Problem, name: str | None = None) -> Backend:
    """Choose the backend that runs a problem.

    Parameters
    ----------
    problem : Problem
        The call.
    name : str, optional
        Force this one; otherwise `use_backend`, then ``FASTRNN_BACKEND`` may force one, and
        without any of these `auto` chooses: on a GPU by trial (see `autoselect`), elsewhere the
        first of `BACKENDS` that is made for the device and supports the problem.

    Raises
    ------
    BackendError
        If the forced backend cannot run the problem; the message gives its reasons.
    """
    forced = forced_backend(name)
    if forced is not None:
        backend = backend_by_name(forced)
        if reasons := backend.supports(problem):
            raise BackendError(f"backend {forced!r} cannot run this: {'; '.join(reasons)}")
        return backend
    if _is_tried(problem):
        return _selector.choose(problem)
    return next(backend for backend in BACKENDS if considers(backend, problem))


def merges_projection(problem: Problem, name: str | None = None) -> bool:
    """Whether a layer runs with its projection merged into its recurrent weights.

    The CPU's kernels have no projection. On a GPU cuDNN has one, whose recurrence is smaller.

    Parameters
    ----------
    problem : Problem
        The call.
    name : str, optional
        Force this backend; see `select`. The last one of `BACKENDS` needs no merging.
    """
    if problem.device.type != "cpu" or not can_merge_projection(problem):
        return False
    return forced_backend(name) != BACKENDS[-1].name


def is_decided(problem: Problem) -> bool:
    """Whether `auto` has decided on a problem; it may not while another process holds a trial."""
    return not _is_tried(problem) or _selector.is_decided(problem)


def _is_tried(problem: Problem) -> bool:
    """Whether trials decide: where several backends can run a problem."""
    return problem.device.type in _DEVICES_WITH_TRIALS and not problem.variants


def explain(problem: Problem) -> dict[str, list[str]]:
    """Each backend's reasons against a problem; an empty list means that it can run it."""
    return {backend.name: backend.supports(problem) for backend in BACKENDS}
