"""The runner's end of a worker process."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results_file import ROOT

ENVIRONMENTS = ROOT / ".venv-peers"


def python_of(environment: str) -> Path:
    """The interpreter of an environment, as ``make bench-peers`` sets it up."""
    return ENVIRONMENTS / environment / "bin" / "python"


class PeerError(Exception):
    """A library could not do what it was asked for; its process lives on."""


class WorkerDied(Exception):  # noqa: N818 - it is an event, and no mistake of the caller
    """The process is gone: killed for its memory, for its time, or by a crash."""


@dataclass(frozen=True)
class Threads:
    """How many threads a process may use, and on which CPUs they run."""

    count: int

    @property
    def cpus(self) -> list[int]:
        """One CPU per core as far as they go, then the cores' second ones."""
        allowed = sorted(os.sched_getaffinity(0))
        first = [cpu for cpu in allowed if _siblings(cpu)[0] == cpu]
        return (first + [cpu for cpu in allowed if cpu not in first])[: self.count]

    def pin(self) -> None:
        """Keep this process, and what it starts, on those CPUs."""
        os.sched_setaffinity(0, self.cpus)

    def environment(self) -> dict[str, str]:
        """Variables by which the libraries, and the OpenMP and MKL below them, are told."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
        return {
            **os.environ,
            **dict.fromkeys(names, str(self.count)),
            # Intel's OpenMP spins for 200 ms after a call otherwise. Parallel parts of one call
            # follow each other within a millisecond, so none of them finds its threads asleep.
            "KMP_BLOCKTIME": "1",
            "PYTHONPATH": str(ROOT),
        }


def _siblings(cpu: int) -> list[int]:
    """The CPUs of one core; see sysfs's ``cpu/topology``."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        parts = path.read_text().strip().replace("-", ",").split(",")
    except OSError:
        return [cpu]
    return sorted(int(part) for part in parts)


class WorkerProcess:
    """A worker with some peers, started at once; use it as a context, or `close` it."""

    def __init__(self, python: Path, peers: list[str], threads: Threads) -> None:
        self.peers = peers
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        command = [str(python), "-m", "benchmarks.peers.worker", "--threads", str(threads.count)]
        self._process = subprocess.Popen(
            [*command, *peers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=threads.environment(),
            preexec_fn=threads.pin,
            # Ctrl-C is for the runner, which ends its workers itself.
            start_new_session=True,
        )

    def ask(self, op: str, *, timeout: float = 600.0, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises
        ------
        PeerError
            The library raised.
        WorkerDied
            The process ended, or did not answer in time and was ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerDied(self._how_it_ended()) from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                self.close()
                raise WorkerDied(f"no answer to '{op}' within {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerDied(self._how_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "the process was killed: most likely out of memory"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1][:300]}" if lines else ""
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the process ended {how}{last}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
