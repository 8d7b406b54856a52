"""What `auto` takes on a GPU: the backend that a trial found fastest and right, else the baseline.

A class of problems is tried out once per device and remembered; see `decisions`. Where no trial may
run, what is known counts, else the baseline: `cudnn` where it supports the problem, else the last
backend, which is plain torch. So no number ever comes from a kernel that was not checked on such a
GPU.
"""

from __future__ import annotations

import functools
import math
import operator
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fastrnn._version import __version__
from fastrnn.recurrence.backends import Backend
from fastrnn.recurrence.decisions import Decision, DecisionStore, ProblemClass, alone
from fastrnn.recurrence.hardware import (
    AUTOTUNE_VARIABLE,
    Cuda,
    DeviceFacts,
    Hardware,
    autotune_enabled,
    cudnn_version,
    triton_version,
)
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.tracing import constant_while_tracing
from fastrnn.recurrence.trial import MARGIN, MAX_STEPS, Run, hold_trial, range_end
from fastrnn.recurrence.trial_calls import run_once

BASELINE = "cudnn"

_RETRY_SECONDS = 1.0  # after another process was found to hold a trial

_LONGEST_BITS = (MAX_STEPS - 1).bit_length()

_Key = tuple[Any, ...]


def considers(backend: Backend, problem: Problem) -> bool:
    """Whether `auto` may take a backend for a problem."""
    on_device = backend.devices is None or problem.device.type in backend.devices
    return on_device and not backend.supports(problem)


class AutoSelector:
    """Chooses among backends by trial.

    Parameters
    ----------
    backends : sequence of Backend
        All there are; the last supports every problem.
    store : DecisionStore, optional
        Where decisions are kept; by default in memory, the user's cache and the package.
    hardware : Hardware, optional
        On which trials run; by default torch's "cuda".

    Attributes
    ----------
    trial_runner : Run
        How trials run a call; by default a backend alone, without the operators around it.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        store: DecisionStore | None = None,
        hardware: Hardware | None = None,
    ) -> None:
        self.backends = tuple(backends)
        self.store = store or DecisionStore()
        self.hardware = hardware or Cuda()
        self.trial_runner: Run = run_once
        self._not_before: dict[torch.device, float] = {}
        self._chosen: dict[_Key, Backend] = {}
        self._classes: dict[_Key, ProblemClass | None] = {}
        self._facts: dict[torch.device, DeviceFacts | None] = {}
        self._trial_lock = threading.Lock()

    def choose(self, problem: Problem) -> Backend:
        """Choose the backend for a problem."""
        if torch.compiler.is_compiling() or _is_symbolic(problem):
            return self._choose_while_tracing(problem)
        baseline = self._baseline(problem)
        key = _key(problem, baseline)
        chosen = self._chosen.get(key)
        if chosen is not None and (chosen is baseline or not chosen.supports(problem)):
            return chosen
        decided, final = self._decide(problem, baseline, key)
        if final:
            self._chosen.setdefault(key, decided)
        return decided

    def is_decided(self, problem: Problem) -> bool:
        """Whether a decision stands behind what is chosen, or there is nothing to decide."""
        self.choose(problem)
        return _key(problem, self._baseline(problem)) in self._chosen

    def _decide(self, problem: Problem, baseline: Backend, key: _Key) -> tuple[Backend, bool]:
        """Find or make the decision for a problem; tells whether it is worth remembering."""
        if problem.batch_size == 0 or problem.input_size == 0:
            return baseline, False
        problem_class = self._class_of(problem, baseline, key)
        if problem_class is None:
            return baseline, False
        contenders = self._contenders(problem, baseline)
        if not contenders:
            return baseline, True
        decision = self.store.lookup(problem_class)
        if not _settles(decision, contenders) and self._may_try(problem.device):
            decision = self._try_once(problem, problem_class, contenders, baseline)
        if decision is None:
            return self._verified_elsewhere(problem_class, contenders, baseline) or baseline, False
        final = _settles(decision, contenders) and self._holds_for_all(
            decision.winner, {backend.name for backend in (*contenders, baseline)}
        )
        return _fastest_of(contenders, decision, baseline), final

    def _holds_for_all(self, winner: str, able: set[str]) -> bool:
        """Whether the choice is that of all problems with the same key.

        A winner that does not support this very problem may support others, unless it is gone:
        built without it, or no driver for it.
        """
        return winner in able or all(
            backend.name != winner or backend.unavailable() for backend in self.backends
        )

    def _baseline(self, problem: Problem) -> Backend:
        for backend in self.backends:
            if backend.name == BASELINE and considers(backend, problem):
                return backend
        return self.backends[-1]

    def _contenders(self, problem: Problem, baseline: Backend) -> list[Backend]:
        return [
            backend
            for backend in self.backends[:-1]
            if backend is not baseline and considers(backend, problem)
        ]

    def _try_once(
        self,
        problem: Problem,
        problem_class: ProblemClass,
        contenders: Sequence[Backend],
        baseline: Backend,
    ) -> Decision | None:
        """Hold a trial, one at a time: two at once would disturb each other's times.

        While another thread or process holds one on this device, what is known counts. Nobody
        waits: this thread may hold what the other one needs to get on.
        """
        outcome = None
        with self._alone_on(problem.device) as free:
            if free:
                self.store.refresh()  # another process may have decided meanwhile
            decision = self.store.lookup(problem_class)
            if free and not _settles(decision, contenders):
                outcome = hold_trial(
                    problem, contenders, baseline, self.hardware, self.trial_runner
                )
                decision = outcome.decision
                self.store.add(problem_class, decision, lasting=outcome.lasting)
        if outcome is not None and outcome.failed:
            winner, dropped = outcome.decision.winner, outcome.decision.dropped
            reasons = "; ".join(f"{name}: {why}" for name, why in dropped.items())
            warnings.warn(
                f"in a trial of backends some failed, so {winner!r} is taken ({reasons}); "
                f"{AUTOTUNE_VARIABLE}=0 switches trials off",
                RuntimeWarning,
                stacklevel=2,
            )
        return decision

    @contextmanager
    def _alone_on(self, device: torch.device) -> Iterator[bool]:
        """Try to be the only one that holds a trial on a device; yields whether it is."""
        now = time.monotonic()
        if now < self._not_before.get(device, now) or not self._trial_lock.acquire(blocking=False):
            yield False
            return
        try:
            facts = self._describe(device)
            name = f"trial on {facts.identity if facts else device}"
            with alone(name, self.store.file) as free:
                if not free:  # not to be asked for again in every call
                    self._not_before[device] = now + _RETRY_SECONDS
                yield free
        finally:
            self._trial_lock.release()

    def _verified_elsewhere(
        self, problem_class: ProblemClass, contenders: Sequence[Backend], baseline: Backend
    ) -> Backend | None:
        """Find the fastest that was right in a trial against another baseline.

        `cudnn` takes no lengths while a CUDA graph is captured. Plain torch, step by step, is then
        the baseline, and slower than any kernel that was checked before the capture.
        """
        if baseline is not self.backends[-1]:
            return None
        times = [
            (time, backend.name)
            for decision in self.store.similar(problem_class, "baseline")
            for backend in contenders
            if (time := decision.microseconds.get(backend.name)) is not None
        ]
        return self._by_name(min(times)[1]) if times else None

    def _may_try(self, device: torch.device) -> bool:
        return autotune_enabled() and not _is_recorded() and self.hardware.may_time(device)

    def _choose_while_tracing(self, problem: Problem) -> Backend:
        """Choose by what is known; where T or B is a symbol, a winner must win for all of them."""
        p = problem
        if p.batch_size == 0:
            return self.backends[-1]
        winner = self._agreed_winner(
            _if_known(p.seq_len),
            _if_known(p.batch_size),
            p.device,
            p.dtype,
            # What a layer's weights fix may be a guard of the compiled program.
            operator.index(p.hidden_size),
            operator.index(p.input_size),
            operator.index(p.num_directions),
            operator.index(p.proj_size),
            p.variable_length,
            p.training,
            p.last_state_only,
            p.allow_tf32,
        )
        return self._by_name(winner)

    def _by_name(self, name: str) -> Backend:
        for backend in self.backends:
            if backend.name == name:
                return backend
        return self.backends[-1]

    @constant_while_tracing
    def _agreed_winner(
        self,
        seq_len: int | None,
        batch_size: int | None,
        device: torch.device,
        dtype: torch.dtype,
        hidden_size: int,
        input_size: int,
        num_directions: int,
        proj_size: int,
        variable_length: bool,
        training: bool,
        last_state_only: bool,
        allow_tf32: bool,
    ) -> str:
        problem = Problem(
            seq_len=seq_len or 1,
            batch_size=batch_size or 1,
            input_size=input_size,
            hidden_size=hidden_size,
            num_directions=num_directions,
            proj_size=proj_size,
            dtype=dtype,
            device=device,
            variable_length=variable_length,
            training=training,
            last_state_only=last_state_only,
            allow_tf32=allow_tf32,
        )
        baseline = self._baseline(problem)
        facts = self._describe(device)
        if facts is None or input_size == 0:
            return baseline.name
        sizes = {"seq_len_up_to": seq_len, "batch_size_up_to": batch_size}
        symbols = [name for name, size in sizes.items() if size is None]
        known = self.store.similar(_classify(problem, facts, baseline), *symbols)
        winners = {decision.winner for decision in known}
        usable = {backend.name for backend in self._contenders(problem, baseline)}
        return winners.pop() if len(winners) == 1 and winners <= usable else baseline.name

    def _class_of(self, problem: Problem, baseline: Backend, key: _Key) -> ProblemClass | None:
        if key not in self._classes:
            facts = self._describe(problem.device)
            self._classes[key] = None if facts is None else _classify(problem, facts, baseline)
        return self._classes[key]

    def _describe(self, device: torch.device) -> DeviceFacts | None:
        if device not in self._facts:
            self._facts[device] = self.hardware.describe(device)
        return self._facts[device]


def _key(problem: Problem, baseline: Backend) -> _Key:
    """Make the key of a choice from what is at hand: every call asks for it."""
    p = problem
    return (
        baseline.name,
        p.device,
        p.dtype,
        p.hidden_size,
        p.input_size,
        (p.batch_size - 1).bit_length(),
        min((p.seq_len - 1).bit_length(), _LONGEST_BITS + 1),
        p.num_directions,
        p.proj_size,
        p.variable_length,
        p.training,
        p.last_state_only,
        p.allow_tf32,
    )


def _classify(problem: Problem, facts: DeviceFacts, baseline: Backend) -> ProblemClass:
    p = problem
    return ProblemClass(
        device_name=facts.name,
        compute_capability=facts.compute_capability,
        **current_versions(),
        baseline=baseline.name,
        dtype=str(p.dtype).removeprefix("torch."),
        allow_tf32=p.allow_tf32,
        hidden_size=p.hidden_size,
        proj_size=p.proj_size,
        num_directions=p.num_directions,
        input_size_up_to=range_end(p.input_size),
        input_alignment=next(n for n in (128, 8, 1) if p.input_size % n == 0),
        batch_size_up_to=range_end(p.batch_size),
        seq_len_up_to=range_end(p.seq_len) if p.seq_len <= MAX_STEPS else None,
        variable_length=p.variable_length,
        training=p.training,
        last_state_only=p.last_state_only,
    )


@functools.cache
def current_versions() -> dict[str, str]:
    """Versions that a decision holds for, by field of `ProblemClass`."""
    return {
        "fastrnn": __version__,
        "torch": str(torch.__version__),
        "cudnn": cudnn_version(),
        "triton": triton_version(),
    }


def _fastest_of(contenders: Sequence[Backend], decision: Decision, baseline: Backend) -> Backend:
    """Take the winner, else the fastest of the others that beat the baseline as a winner must."""
    by_name = {backend.name: backend for backend in (*contenders, baseline)}
    if decision.winner in by_name:
        return by_name[decision.winner]
    times = decision.microseconds
    most = (1 - MARGIN) * times.get(baseline.name, 0.0)
    right = [b for b in contenders if times.get(b.name, math.inf) <= most]
    return min(right, key=lambda b: times[b.name], default=baseline)


def _settles(decision: Decision | None, contenders: Sequence[Backend]) -> bool:
    """Whether a decision was made with all of the contenders in view."""
    return decision is not None and all(decision.covers(backend.name) for backend in contenders)


def _if_known(size: int) -> int | None:
    """Give a size that a traced program fixes; None for a symbol."""
    # Loaded already wherever something is traced; by itself it takes a second.
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return operator.index(size) if has_static_value(size) else None


def _is_symbolic(problem: Problem) -> bool:
    """Whether sizes are symbols of a trace that torch's compiler does not lead."""
    return type(problem.seq_len) is not int or type(problem.batch_size) is not int


def _is_recorded() -> bool:
    """Whether operations do more now than compute: traced, transformed, faked or counted."""
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
