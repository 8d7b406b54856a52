"""The process that does the jobs; its arguments are device, plugin, threads, and a pipe."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import resource
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from .devices import Device, device_named

Params = dict[str, Any]
Record = dict[str, Any]

# Where each kind of job is done; imported on demand, so that one broken part leaves the others.
RUNNERS = {
    "environment": "environment:describe",
    "ceilings": "environment:ceilings",
    "backends": "environment:backends",
    "case": "check:run_case",
    "behaviour": "behaviours:run_behaviour",
    "cell": "speed:run_cell",
    "kernels": "profile:run_kernels",
    "overhead": "profile:run_overhead",
    "resources": "profile:run_resources",
}


@dataclass
class Context:
    """What a job may use besides its parameters."""

    device: Device
    send: Callable[[Record], None]
    at: Record = field(default_factory=dict)

    def announce(self, subject: str, step: str) -> None:
        """Say what comes next: should it crash, this is who did it and where."""
        self.at = {"subject": subject, "step": step}
        self.send({"event": "at", **self.at})


def finite(value: Any) -> Any:
    """The value with infinities and NaN as text, which JSON has no numbers for."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def run(job: Record, context: Context) -> Record:
    """Do one job; an exception becomes a record too."""
    context.announce(job["params"].get("backend", ""), "begin")
    try:
        module, name = RUNNERS[job["kind"]].split(":")
        runner = getattr(importlib.import_module(f".{module}", __package__), name)
        record: Record = {"status": "ok", **runner(job["params"], context)}
        context.device.synchronize()
    except Exception as error:
        record = {"status": "error", **describe_error(error)}
    if record["status"] != "ok" and not context.device.healthy():
        # Nothing that follows in this process would mean anything.
        record |= {"status": "crashed", "fatal": True, **context.at}
    return record


def describe_error(error: BaseException) -> Record:
    """Type and message of an error, and where it came from."""
    message = str(error).strip().splitlines() or [""]
    frames = traceback.format_exception(error)
    return {
        "error": f"{type(error).__name__}: {' '.join(message[:3])}"[:400],
        "tail": "".join(frames)[-1500:],
    }


def serve(jobs: TextIO, pipe: TextIO, device: str, plugin: str) -> int:
    """Answer jobs, one JSON line each, until there are no more."""

    def send(message: Record) -> None:
        pipe.write(json.dumps(finite(message)) + "\n")
        pipe.flush()

    context = Context(device_named(device), send)
    if plugin:
        load_plugin(plugin)
    send({"event": "ready"})
    for line in jobs:
        record = run(json.loads(line), context)
        send({"event": "end", **record})
        if record.get("fatal"):
            return 3
    return 0


def load_plugin(path: str) -> None:
    """Run a Python file that adds or replaces backends."""
    spec = importlib.util.spec_from_file_location("fastrnn_plugin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def main() -> int:
    """Set the threads, then serve."""
    device, plugin, threads, number = sys.argv[1:]
    os.set_inheritable(int(number), False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash needs no copy of the memory
    import torch

    torch.set_num_threads(int(threads))
    with os.fdopen(int(number), "w") as pipe:
        return serve(sys.stdin, pipe, device, plugin)


if __name__ == "__main__":
    sys.exit(main())
