"""A trial: backends side by side on random data, first for right numbers, then for time."""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch

from fastrnn.recurrence.backends import Backend
from fastrnn.recurrence.decisions import Decision
from fastrnn.recurrence.hardware import Hardware
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.trial_calls import (
    Call,
    Results,
    exact_results,
    poison,
    random_call,
    run_once,
)

MARGIN = 0.03
"""A backend must be faster than the baseline by this share, so that noise never decides."""

MAX_STEPS = 256
"""Steps of a trial, at most: beyond, the time per step does not depend on their number."""

_MIN_STEPS = 16  # fewer only if the problem has fewer: the batch is cut first
_MAX_BYTES = 1 << 30  # of one run's tensors, about
_MAX_FLOPS = 4e11  # of one forward pass: tens of milliseconds on a small GPU
_EXACT_STEPS, _EXACT_BATCH = 8, 4

_TIMING_MICROSECONDS = 3e5
_MIN_PAIRS, _MAX_PAIRS = 3, 12  # of rounds, one in each order
_HOPELESS = 3.0  # times the baseline's first time: not worth timing again

_TF32_EPS = 2.0**-10
# On problems this small, float32's own error is up to about 8 eps of a tensor's largest element;
# a tolerance counts such errors.
_OWN_ERROR = 4.0
_LARGEST_ERROR = 1 / 16  # whatever the dtype: a few wrong rows or steps must be found in any


class Outcome(NamedTuple):
    """A trial's decision.

    Attributes
    ----------
    decision : Decision
        Who won.
    lasting : bool
        Whether it holds for other processes and days too.
    failed : bool
        Whether a backend raised something else than that there is too little memory.
    """

    decision: Decision
    lasting: bool
    failed: bool


class _BaselineError(Exception):
    """The baseline itself cannot run: there is nothing to compare with."""


Run = Callable[[Backend, Call], Results]
"""Runs a call on a backend, forward and, if it is one of training, backward."""


def hold_trial(
    problem: Problem,
    contenders: Sequence[Backend],
    baseline: Backend,
    hardware: Hardware,
    run: Run = run_once,
) -> Outcome:
    """Find the fastest backend for problems like this one.

    A contender must agree with a float64 run of the reference on a small problem, and with the
    baseline on a large one, in outputs and gradients. It wins if it is faster than the baseline by
    `MARGIN` and the fastest of all. Nothing of the caller's is touched: tensors, random states,
    gradient mode, hooks.

    Parameters
    ----------
    problem : Problem
        One of the class; steps and batch are cut to what tells enough.
    contenders : sequence of Backend
        Those that could be faster. One that raises is out, with its reason.
    baseline : Backend
        Whose numbers are trusted.
    hardware : Hardware
        On which it all runs.
    run : callable, optional
        How a backend runs a call; by default `run_once`, without anything around it.
    """
    race = _Race(problem, baseline, hardware, run)
    with hardware.on(problem.device), _undisturbed(problem.device):
        try:
            race.start()
            for contender in contenders:
                race.admit(contender)
            race.run()
        except _BaselineError as error:
            race.times.clear()
            race.dropped[baseline.name] = str(error)
            for contender in contenders:
                race.dropped.setdefault(contender.name, "the baseline failed first")
    return race.outcome()


def trial_problem(problem: Problem) -> Problem:
    """Stand for a problem's class by its largest batch, cut to what fits a trial.

    Steps are cut first, down to 16.
    """
    p = replace(problem, batch_size=range_end(problem.batch_size))
    numbers = 2 * p.input_size + 12 * p.num_directions * p.hidden_size
    flops = 8 * p.num_directions * p.hidden_size * (p.input_size + p.state_size)
    cells = int(min(_MAX_BYTES / (numbers * p.dtype.itemsize), _MAX_FLOPS / flops))
    batch_size = min(p.batch_size, max(1, cells // min(p.seq_len, _MIN_STEPS)))
    seq_len = min(p.seq_len, MAX_STEPS, max(_MIN_STEPS, cells // batch_size))
    return replace(p, seq_len=seq_len, batch_size=batch_size)


def range_end(size: int) -> int:
    """End of the range of sizes that share a decision: the next power of two.

    Examples
    --------
    >>> range_end(32), range_end(33)
    (32, 64)
    """
    return 1 << (size - 1).bit_length()


class _Race:
    def __init__(self, problem: Problem, baseline: Backend, hardware: Hardware, run: Run) -> None:
        self.baseline = baseline
        self.hardware = hardware
        self._run_call = run
        small = replace(
            problem,
            seq_len=min(problem.seq_len, _EXACT_STEPS),
            batch_size=min(problem.batch_size, _EXACT_BATCH),
        )
        self._problems = (small, trial_problem(problem))
        self.runners: list[Backend] = []
        self.times: dict[str, list[float]] = {}
        self.dropped: dict[str, str] = {}
        self._raised = self._out_of_memory = False

    def start(self) -> None:
        """Make the data and what is expected of it."""
        small, large = self._problems
        try:
            self._small = random_call(small, exact=True)
            self._truth = exact_results(self._small)
            self._large = random_call(large, exact=False)
            self._expected = self._run_call(self.baseline, self._large)
        except Exception as error:
            raise self._failed_baseline(error) from error
        self.runners.append(self.baseline)

    def admit(self, backend: Backend) -> None:
        """Let a backend take part if its numbers are right."""
        try:
            if reason := self._against(backend):
                self.dropped[backend.name] = reason
            else:
                self.runners.append(backend)
        except Exception as error:
            self._drop(backend, error)

    def _against(self, backend: Backend) -> str | None:
        eps = _precision(self._large.problem)
        dtype = self._large.problem.dtype
        tolerance, baselines = backend.tolerance[dtype], self.baseline.tolerance[dtype]
        for call, expected, errors in (
            (self._small, self._truth, tolerance),
            # Both err here, and sums over time err the more the longer they are.
            (
                self._large,
                self._expected,
                (tolerance + baselines) * math.sqrt(self._large.problem.seq_len),
            ),
        ):
            if reasons := backend.supports(call.problem):
                return f"it cannot run the trial: {'; '.join(reasons)}"
            poison(backend, call)
            allowed = min(_LARGEST_ERROR, _OWN_ERROR * eps * errors)
            if wrong := _difference(self._run_call(backend, call), expected, allowed):
                return wrong
        return None

    def run(self) -> None:
        """Time all in turns, each round in the other order: drifts of the clock hit all alike."""
        if len(self.runners) == 1:
            return
        first = {backend: self._time(backend) for backend in self.runners}
        limit = _HOPELESS * (first[self.baseline] or math.inf)
        field = [b for b, spent in first.items() if spent is not None and spent <= limit]
        self.times = {b.name: [] if b in field else [t] for b, t in first.items() if t is not None}
        pairs = _TIMING_MICROSECONDS / max(1.0, 2 * sum(first[b] or 0.0 for b in field))
        for _ in range(2 * int(min(max(pairs, _MIN_PAIRS), _MAX_PAIRS))):
            for backend in list(field):
                spent = self._time(backend)
                if spent is None:
                    field.remove(backend)
                    del self.times[backend.name]
                else:
                    self.times[backend.name].append(spent)
            field.reverse()

    def _time(self, backend: Backend) -> float | None:
        try:
            return self.hardware.time(lambda: self._run_call(backend, self._large))
        except Exception as error:
            if backend is self.baseline:
                raise self._failed_baseline(error) from error
            self._drop(backend, error)
            return None

    def _drop(self, backend: Backend, error: Exception) -> None:
        self._raised = True
        self._note(error)
        self.dropped[backend.name] = f"it raised {_one_line(error)}"

    def _failed_baseline(self, error: Exception) -> _BaselineError:
        self._note(error)
        return _BaselineError(f"the baseline raised {_one_line(error)}")

    def _note(self, error: Exception) -> None:
        # Torch says it in a class of its own, Triton and cuBLAS in words.
        words = str(error).lower()
        self._out_of_memory |= isinstance(error, torch.OutOfMemoryError) or any(
            text in words for text in ("out of memory", "alloc_failed")
        )

    def outcome(self) -> Outcome:
        """Pick the winner."""
        base = self.times.get(self.baseline.name, [])
        ratios = {
            name: statistics.median(a / b for a, b in zip(times, base, strict=False))
            for name, times in self.times.items()
            if base
        }
        winner = min(ratios, key=ratios.__getitem__, default=self.baseline.name)
        if ratios.get(winner, 1.0) > 1 - MARGIN:
            winner = self.baseline.name
        decision = Decision(
            winner=winner,
            microseconds={n: round(statistics.median(t), 2) for n, t in self.times.items()},
            ratio=round(ratios[winner], 4) if winner in ratios else None,
            dropped=self.dropped,
            date=datetime.date.today().isoformat(),
        )
        # What was raised may be over another day: too little memory, a full disk, no compiler. But
        # if the baseline failed after a contender, the device may be broken: never do it again.
        baseline_failed = self.baseline.name in self.dropped
        broken = self._raised and baseline_failed and not self._out_of_memory
        failed = self._raised or baseline_failed
        return Outcome(decision, broken or not failed, failed and not self._out_of_memory)


def _difference(got: Results, expected: Results, allowed: float) -> str | None:
    """Say what is wrong with the results, if anything: largest and mean error, shape, presence."""
    for name, want in expected.items():
        have = got.get(name)
        if have is None:
            return f"{name} is missing"
        if have.shape != want.shape:
            return f"{name} has shape {list(have.shape)} instead of {list(want.shape)}"
        if want.numel() == 0:
            continue
        wide = torch.promote_types(want.dtype, torch.float32)
        want = want.to(wide)
        off = have.to(wide) - want
        for kind, size in (("largest", torch.inf), ("root of mean square", 2)):
            error = float(torch.linalg.vector_norm(off, size))
            scale = float(torch.linalg.vector_norm(want, size))
            if not error <= allowed * scale:  # written so that a NaN fails
                return (
                    f"{name} is wrong: {kind} error {error / scale if scale else error:.3g} of "
                    f"its values, allowed {allowed:.3g}"
                )
    return None


def _precision(problem: Problem) -> float:
    return _TF32_EPS if problem.allow_tf32 else torch.finfo(problem.dtype).eps


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Shut out the caller's modes: autocast, inference mode, hooks on saved tensors."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
    ):
        yield
