"""The stages of a run, in their order; each adds records and never raises for a failure found."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from . import build as building
from . import ncu, sanitize_stage, speed_stage
from .build_log import told_of_cuda
from .clock import Deadline, Stopwatch
from .grid import (
    AUTO_BEHAVIOURS,
    BEHAVIOURS,
    PRECISIONS,
    Case,
    all_cases,
    for_backend,
    self_test_cases,
)
from .plan import all_cells, fitting, profiled_cells, resource_cells, self_test_cells
from .results import INCOMPLETE, Record, failed
from .run import PROFILE_TIMEOUT, REPORT_SECONDS, Progress, Run
from .settings import ROOT, SANITIZE
from .speed_stage import kernel_jobs, without_culprit
from .supervisor import Job

SHOWN = (
    *("device", "capability", "driver", "sm_clock", "torch", "cuda", "cudnn", "triton", "nvcc"),
    *("python", "commit", "copy_gb_per_s", "matmul_tflops"),
)
BUILD_SECONDS = 240.0
CASE_TIMEOUT, COMPILE_TIMEOUT = 90.0, 180.0
# The grid's part of the time, where speed is measured too.
CHECK_SHARE = 0.5
MIN_NCU_SECONDS, MAX_NCU_SECONDS = 25.0, 60.0
MIN_RESOURCE_SECONDS, MAX_RESOURCE_SECONDS = 25.0, 60.0
# Which cases crash is worth knowing, as long as they do not all.
MAX_CRASHES = 15
TAIL_CHARACTERS = 1500
NO_TIME = "the time was over"


def env(run: Run) -> None:
    """The machine, its versions, and two measured ceilings."""
    shown: dict[str, object] = {}
    for record in _asked(run, [_describe(run), Job("ceilings", "ceilings")]):
        shown |= {**record.get("environment", {}), **record.get("ceilings", {})}
    texts = [f"{key} {shown[key]}" for key in SHOWN if shown.get(key) is not None]
    run.show(", ".join(texts) or "env: nothing was found out")


def build(run: Run) -> None:
    """Install the checkout into a folder of its own, where the workers find it."""
    settings = run.settings
    log = settings.work / "build.log"
    seconds = min(BUILD_SECONDS, run.deadline.left())
    record = building.build(ROOT, settings.site, log, seconds, settings.defines)
    run.add({"kind": "build", "name": "build", **record})
    modules = ", ".join(record["modules"]) or "no native module"
    warned = f", {record['compiler_warnings']} compiler warnings"
    run.show(f"build: {record['status']} after {record['seconds']} s: {modules}{warned}")
    if told := told_of_cuda(record):
        run.show(f"build: {told}")


def find_backends(run: Run) -> None:
    """Ask which backends there are, and where: what check and speed plan by."""
    run.found.asked = True
    for record in _asked(run, [_describe(run), Job("backends", "backends")]):
        run.found.backends |= record.get("backends", {})
        memory = record.get("environment", {}).get("memory_bytes")
        run.found.memory = memory or run.found.memory
    listed = [f"{name} ({why or 'usable'})" for name, why in run.found.backends.items()]
    run.show(f"backends: {', '.join(listed) or 'none: the package cannot be imported'}")
    if not run.found.backends:  # nobody answered, and that is a record already
        return
    for name in run.settings.backends or run.found.backends:
        if name not in run.found.usable(run.settings):
            why = run.found.backends.get(name, "there is none of that name for this device")
            error = f"backend {name!r} cannot run: {why}; --backends chooses others"
            run.add({"kind": "missing", "name": name, "status": "error", "error": error})


def _asked(run: Run, jobs: list[Job]) -> list[Record]:
    """Answers to questions that others depend on; that there was no time for one is noted."""
    records = run.alone(jobs)
    done = {record["name"] for record in records if record["status"] != "not finished"}
    for job in jobs:
        if job.name not in done:
            _incomplete(run, job.name, f"the question for {job.name} has no answer: {NO_TIME}")
    return records


def _incomplete(run: Run, name: str, error: str) -> None:
    record = {"kind": "incomplete", "name": name, "stage": run.stage}
    run.add({**record, "status": INCOMPLETE, "error": error})


def _nothing_matches(run: Run, stage: str, what: str) -> None:
    error = f"--filter is {run.settings.pattern!r}; it should match a name of {what}, "
    error += f"or --stages should leave {stage} out"
    run.add({"kind": "filter", "name": stage, "status": "error", "error": error})


def _describe(run: Run) -> Job:
    return Job("environment", "environment", {"commit": run.settings.commit})


def check(run: Run) -> None:
    """The whole grid and all behaviours on every backend."""
    settings = run.settings
    later = "speed" in settings.stages or "profile" in settings.stages
    share = CHECK_SHARE if later else 1.0
    keep = REPORT_SECONDS + sanitize_stage.seconds_kept(run)
    deadline = run.deadline.share(share, keep=keep)
    bundles = list(check_bundles(run))
    if not bundles:
        _nothing_matches(run, "check", "a case or a behaviour, with a backend that can run")
        return
    not_finished: list[Record] = []
    progress = Progress(run, "check", sum(map(len, bundles)))

    def deliver(record: Record) -> None:
        progress.count(record)
        if record["status"] == "not finished":
            not_finished.append(record)

    supervisor = run.supervisor("check", threads=1, deliver=deliver, max_crashes=MAX_CRASHES)
    supervisor.run(bundles, deadline, settings.check_workers())
    progress.tell()
    run.left_out("check", supervisor.left_out)
    missing = Counter(job.params["backend"] for job in supervisor.left_out)
    missing.update(record["params"]["backend"] for record in not_finished)
    for backend, count in missing.items():
        text = f"{count} cases of {backend} were not checked"
        if backend not in supervisor.banned and not deadline.left():
            _incomplete(run, backend, f"{text}: {NO_TIME}")
        else:
            crashed = backend in supervisor.banned
            why = "it crashed too often" if crashed else "no worker could be started"
            error = {"status": "error", "error": f"{text}: {why}"}
            run.add({"kind": "incomplete", "name": backend, **error})
    of_triton = [r for r in run.records if r.get("params", {}).get("backend") == "triton"]
    if not later and any(map(failed, of_triton)):  # what explains them; later stages tell it too
        kernel_resources(run, run.deadline)


def check_bundles(run: Run) -> Iterator[list[Job]]:
    """Jobs of the grid; those of one case together, as they share what is expected of it."""
    settings, backends = run.settings, run.found.usable(run.settings)
    precisions = ("fp32", "bf16") if settings.self_test else PRECISIONS
    jobs = [
        _behaviour(name, backend, precision)
        for name in BEHAVIOURS
        for backend in backends
        for precision in precisions
    ]
    # On one worker: while one process holds a trial, `auto` takes the baseline in all others.
    of_auto = [_behaviour(name, "auto", p) for name in AUTO_BEHAVIOURS for p in precisions]
    wanted = settings.chosen([job.name for job in of_auto + jobs])
    if chosen := [job for job in of_auto if job.name in wanted]:
        yield chosen
    yield from ([job] for job in jobs if job.name in wanted)
    make = self_test_cases if settings.self_test else all_cases
    cases = make(settings.seed)
    members = {backend: set(for_backend(cases, backend)) for backend in backends}
    bundle: list[Job] = []
    previous: Case | None = None
    for case in cases:
        if bundle and previous is not None and not _same_numbers(previous, case):
            yield bundle
            bundle = []
        names = [backend for backend in backends if case in members[backend]]
        found = [_case(case, backend) for backend in names]
        wanted = settings.chosen([job.name for job in found])
        bundle += [job for job in found if job.name in wanted]
        previous = case
    if bundle:
        yield bundle


def _same_numbers(a: Case, b: Case) -> bool:
    """Whether two cases in a row differ in TF32 only, so that one expectation serves both."""
    return b == replace(a, precision="tf32") and a.precision == "fp32"


def _case(case: Case, backend: str) -> Job:
    params = {"backend": backend, "case": asdict(case)}
    return Job(f"{backend}, {case.name}", "case", params, CASE_TIMEOUT)


def _behaviour(name: str, backend: str, precision: str) -> Job:
    params = {"behaviour": name, "backend": backend, "precision": precision}
    return Job(f"{backend}, {precision}: {name}", "behaviour", params, COMPILE_TIMEOUT)


def speed(run: Run) -> None:
    """Measure the cells that match the filter and fit into the memory, as time allows."""
    cells = self_test_cells() if run.settings.self_test else all_cells()
    names = run.settings.chosen([cell.name for cell in cells])
    wanted = [cell for cell in cells if cell.name in names]
    if not wanted:
        _nothing_matches(run, "speed", "a cell, like those that --dry-run prints")
        return
    planned = fitting(wanted, run.found.memory)
    large = [cell for cell in wanted if cell not in planned]
    if run.left_out("speed, too large for this device's memory", large):
        run.show(f"speed: {len(large)} cells do not fit into this device's memory")
    measured, left = speed_stage.speed(run, planned)
    if not measured:
        why = NO_TIME if planned else "none fits into this device's memory"
        _incomplete(run, "speed", f"no cell was measured: {why}")
    elif left and run.settings.pattern:  # of all cells there are always some left
        _incomplete(run, "speed", f"{left} cells that --filter asks for were not measured")


def profile(run: Run) -> None:
    """Kernels of typical problems, the cost of a call, what Triton compiled, and counters."""
    settings = run.settings
    deadline = run.deadline.share(1.0, keep=REPORT_SECONDS)
    backends = list(settings.backends)
    cells = self_test_cells()[:1] if settings.self_test else profiled_cells()
    precisions = ("fp32",) if settings.self_test else ("fp32", "fp16")
    jobs = [
        Job(
            f"overhead, {precision}",
            "overhead",
            {"precision": precision, "backends": backends, "skip": {}},
            PROFILE_TIMEOUT,
        )
        for precision in precisions
    ]
    # On one worker, whose start takes long; the profiler slows down what comes after it.
    jobs += kernel_jobs(run, cells, label="profile: ")
    supervisor = run.supervisor("profile", 1, retry=without_culprit)
    supervisor.run([jobs], deadline)
    run.left_out("profile", supervisor.left_out)
    _counters(run, deadline)
    kernel_resources(run, deadline)


def kernel_resources(run: Run, deadline: Deadline) -> None:
    """Registers, spills and shared memory of what Triton makes of the usual sizes."""
    if "triton" not in run.found.usable(run.settings):
        return
    params: dict[str, Any] = {"cells": [cell.as_params() for cell in resource_cells()]}
    # Half of the time is for the start of a worker, and for the last cell.
    params |= {"names": ["triton"], "seconds": min(MAX_RESOURCE_SECONDS, deadline.left()) / 2}
    job = Job("resources", "resources", params, MAX_RESOURCE_SECONDS)
    if deadline.left() < MIN_RESOURCE_SECONDS:
        run.left_out("profile", [job])
    else:
        run.alone([job], min(MAX_RESOURCE_SECONDS, deadline.left()))


def _counters(run: Run, deadline: Deadline) -> None:
    """Hardware counters of the first profiled cell's longest kernels, backend by backend."""
    profiled = [r for r in run.records if r["kind"] == "kernels" and "cell" in r]
    if run.settings.device != "cuda" or not profiled:
        return
    last = next((r for r in profiled if r["name"].startswith("profile: ")), profiled[0])
    settings = run.settings
    for peer in (name for name in ("triton", "cuda") if name in last["peers"]):
        kernels = [entry["kernel"] for entry in last["peers"][peer].get("kernels", [])[:3]]
        name = f"{peer}: {last['name']}"
        if not kernels:
            continue
        if deadline.left() < MIN_NCU_SECONDS:
            reason = f"less than {MIN_NCU_SECONDS:g} s were left"
            run.add({"kind": "ncu", "name": name, "status": "skipped", "reason": reason})
            continue
        record = ncu.measure(
            last["cell"],
            peer,
            kernels,
            env=run.launch_env("profile"),
            folder=ROOT,
            log=settings.work / f"ncu_{peer}.log",
            timeout=min(MAX_NCU_SECONDS, deadline.left()),
        )
        run.add({"kind": "ncu", "name": name, **record})


FUNCTIONS: dict[str, Callable[[Run], None]] = {
    "env": env,
    "build": build,
    "check": check,
    SANITIZE: sanitize_stage.sanitize,
    "speed": speed,
    "profile": profile,
}
NEEDS_BACKENDS = frozenset({"check", SANITIZE, "speed", "profile"})


def run_stages(run: Run) -> None:
    """All chosen stages, in their order; one that breaks is a failure, and the next goes on."""
    for name, function in FUNCTIONS.items():
        if name not in run.settings.stages:
            continue
        watch = Stopwatch()
        run.stage = name
        record: Record = {"kind": "stage", "name": name, "status": "ok"}
        try:
            if name in NEEDS_BACKENDS and not run.found.asked:
                find_backends(run)
            function(run)
        except Exception as error:
            tail = traceback.format_exc()[-TAIL_CHARACTERS:]
            record |= {"status": "error", "tail": tail}
            record["error"] = f"the stage ended half-way: {type(error).__name__}: {error}"
            run.show(f"{name}: {record['error']}")
        run.add({**record, "seconds": watch.seconds()})
