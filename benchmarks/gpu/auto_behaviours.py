"""What `auto` owes, whom nobody forces a backend on: a right one, wherever it may be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.autoselect import BASELINE
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.verification import verify

from . import verdict
from .check import expectation, share, with_warnings
from .grid import AUTO_BEHAVIOURS, Case
from .numerics import arithmetic, poisoned_memory
from .subject import AUTO, PLAIN, VARIABLE, Subject, compiled, replayed
from .tensors import build, on_device
from .worker import Context, Record

LAST_RESORT = "eager"
SIZES = (16, 64, 128, 256)
NO_TRIAL = "no trial was held, so that auto took the baseline"


def run_auto_behaviour(name: str, precision: str, context: Context) -> Record:
    """One behaviour of `auto` in one precision."""
    if name == AUTO_BEHAVIOURS[0]:
        return with_warnings(lambda: _choices(precision, context))
    check, case, needs_gpu = CHECKS[name]
    if needs_gpu and context.device.type != "cuda":
        return {"status": "skipped", "reason": "needs a GPU"}
    with arithmetic(precision), poisoned_memory():
        subject = Subject(replace(case, precision=precision), AUTO, context)
        context.announce(AUTO, name)
        return check(subject)


def _choices(precision: str, context: Context) -> Record:
    """Which backend runs, and whether it is right."""
    decisions, undecided, errors, worst = {}, [], [], 0.0
    with arithmetic(precision):
        for size in SIZES:
            case = Case(12, 20, 20, size, 1, "random", precision=precision, seed=size)
            args, grads = on_device(case, *build(case), context.device.torch)
            problem = Problem.from_args(args, training=True)
            chosen = dispatch.select(problem).name
            if dispatch.is_decided(problem):
                decisions[f"H={size}"] = chosen
            else:
                undecided.append(f"H={size}")
            checks = verify(AUTO, args, grads, expectation(case))
            worst = max(worst, *map(share, checks))
            errors += [f"H={size}: {check}" for check in checks if not check.ok]
    skipped = _skipped(f"{NO_TRIAL}: {', '.join(undecided)}") if undecided else {}
    return {**skipped, **verdict.of_errors(errors), "decisions": decisions, "worst": worst}


def _graph(s: Subject) -> Record:
    """Captured after a warm-up has decided; a kernel that won must not be forgotten then."""

    def run() -> Record:
        s.results()
        outside = s.chosen
        skipped = {} if dispatch.is_decided(s.problem) else _skipped(NO_TRIAL)
        errors = s.errors(*replayed(s))
        if s.chosen == LAST_RESORT and outside not in (LAST_RESORT, BASELINE):
            errors.append(f"a graph gets {LAST_RESORT}, though {outside} was found faster")
        chosen = {"outside": outside, "captured": s.chosen}
        return {**skipped, **verdict.of_errors(errors), "chosen": chosen}

    return with_warnings(run)


def _compiled(s: Subject) -> Record:
    """Traced after a warm-up has decided; torch's compiler may warn of its own."""
    s.results()
    skipped = {} if dispatch.is_decided(s.problem) else _skipped(NO_TRIAL)
    return {**skipped, **verdict.of_errors(compiled(s)), "chosen": {"outside": s.chosen}}


def _skipped(reason: str) -> Record:
    return {"status": "skipped", "reason": reason}


# How each is checked, on which case, and whether it needs a GPU.
CHECKS: dict[str, tuple[Callable[[Subject], Record], Case, bool]] = dict(
    zip(
        AUTO_BEHAVIOURS[1:],
        (
            (_graph, PLAIN, True),
            (_graph, VARIABLE, True),
            (_compiled, PLAIN, False),
        ),
        strict=True,
    )
)
