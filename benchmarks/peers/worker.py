"""The process that holds libraries and times their calls.

``python -m benchmarks.peers.worker --threads 2 torch fastrnn`` reads one JSON request a line from
its input and answers each with one line. It needs numpy and the libraries that it is asked for.

Libraries keep their own way of waiting, so that each runs at its best: threads may spin while a
call runs. An answer is sent only when they have gone to sleep, so nobody spins during the turn of
another library.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.cases import LayerCase

from .registry import PEERS
from .work import Work, make_work

_QUIET_SHARE, _QUIET_SECONDS, _PATIENCE_SECONDS = 0.1, 0.002, 1.0


class Worker:
    """The layers of one process, by the name of their peer."""

    def __init__(self, peers: list[str], threads: int) -> None:
        self.modules = {
            peer: importlib.import_module(f"benchmarks.peers.libraries.{PEERS[peer].file}")
            for peer in peers
        }
        for module in self.modules.values():
            module.set_threads(threads)
        self.work: tuple[LayerCase, bool, Work] | None = None
        self.layers: dict[str, Any] = {}
        self.before: dict[str, int] = {}

    def describe(self) -> dict[str, Any]:
        """Versions of the libraries."""
        versions: dict[str, str] = {}
        for module in self.modules.values():
            versions |= module.versions()
        return {"versions": versions, "cpus": len(os.sched_getaffinity(0))}

    def load(self, peer: str, case: dict[str, Any], training: bool) -> dict[str, Any]:
        """Make a peer's layer for a case, with weights and inputs, and let it compile."""
        self.layers.pop(peer, None)
        layer_class = getattr(self.modules[peer], PEERS[peer].layer)
        layer = layer_class(self._work_for(LayerCase(**case), training))
        _give_memory_back()
        self.before[peer] = _memory("VmRSS")
        begin = time.perf_counter()
        layer.prepare()
        self.layers[peer] = layer
        return {"seconds": time.perf_counter() - begin}

    def check(self, peer: str, path: str) -> dict[str, Any]:
        """Run twice; store the second results, and say how long that run took."""
        layer = self.layers[peer]
        layer.run()
        begin = time.perf_counter()
        output = layer.run()
        seconds = time.perf_counter() - begin
        np.savez(path, **layer.results(output))
        return {"seconds": seconds}

    def first(self, peer: str) -> dict[str, Any]:
        """Run once; say what memory that took above weights and inputs, at its highest."""
        _give_memory_back()
        _reset_highest_memory()
        answer = self.time(peer, 1)
        return {**answer, "peak_bytes": _memory("VmHWM") - self.before[peer]}

    def time(self, peer: str, repeats: int) -> dict[str, Any]:
        """Run some times in a row; say how long a run took."""
        run = self.layers[peer].run
        gc.disable()
        try:
            begin = time.perf_counter()
            for _ in range(repeats):
                run()
            return {"seconds": (time.perf_counter() - begin) / repeats}
        finally:
            gc.enable()

    def drop(self) -> dict[str, Any]:
        """Forget all layers."""
        self.layers.clear()
        self.work = None
        _give_memory_back()
        return {}

    def _work_for(self, case: LayerCase, training: bool) -> Work:
        if self.work is None or self.work[:2] != (case, training):
            self.work = None
            self.work = (case, training, make_work(case, training))
        return self.work[2]


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        operation: Callable[..., dict[str, Any]] = getattr(worker, request.pop("op"))
        try:
            answer = operation(**request)
        except Exception as error:  # a library may raise anything
            message = " ".join(str(error).split())[:300]
            answer = {"error": f"{type(error).__name__}: {message}"}
        _wait_until_quiet()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _wait_until_quiet() -> None:
    """Return when no thread of this process computes any more, or after a second."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < _PATIENCE_SECONDS:
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(_QUIET_SECONDS)
        if time.process_time() - cpu < _QUIET_SHARE * (time.perf_counter() - wall):
            return


def _give_memory_back() -> None:
    """Return what is free to the system, so that it counts when it is taken again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_highest_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # see proc(5)


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("peers", nargs="+", choices=PEERS)
    arguments = parser.parse_args()
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Where memory runs out, this process is the one to go, and its parent says so.
    Path("/proc/self/oom_score_adj").write_text("1000")
    serve(Worker(arguments.peers, arguments.threads), sys.stdin, answers)


if __name__ == "__main__":
    main()
