"""What one run was asked for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SANITIZE = "sanitize"
STAGES = ("env", "build", "check", SANITIZE, "speed", "profile")
REPORT = "report"
# Work files of a run lie here, below the folder for results; the file in it keeps git away.
WORK_FOLDER = "gpu_run"


@dataclass(frozen=True)
class Settings:
    """Options of the command, checked."""

    stages: tuple[str, ...] = STAGES
    minutes: float = 8.0
    output: Path = ROOT / "benchmarks" / "results"
    site: Path = ROOT / "build" / f"gpu_site_{sys.implementation.cache_tag}"
    backends: tuple[str, ...] = ()
    pattern: str = ""
    seed: int = 0
    commit: str = ""
    workers: int = 0
    defines: tuple[str, ...] = ()
    plugin: str = ""
    device: str = "cuda"
    self_test: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What was asked for, as it is stored: no folders of this machine."""
        return {
            "stages": list(self.stages),
            "minutes": self.minutes,
            "backends": list(self.backends),
            "filter": self.pattern,
            "seed": self.seed,
            "workers": self.workers,
            "defines": list(self.defines),
            "plugin": Path(self.plugin).name,
        }

    @property
    def work(self) -> Path:
        """Folder of logs and of the stream of records."""
        return self.output / WORK_FOLDER

    @property
    def lines(self) -> Path:
        """The stream of records, one JSON line each, written as they come."""
        return self.work / "lines.jsonl"

    @property
    def workers_log(self) -> Path:
        """What the workers printed."""
        return self.work / "workers.log"

    @property
    def decisions(self) -> Path:
        """Folder for what `auto` decides while nothing else computes."""
        return self.work / "decisions"

    def wants(self, backend: str) -> bool:
        """Whether a backend takes part."""
        return not self.backends or backend in self.backends

    def chosen(self, names: Sequence[str]) -> set[str]:
        """The names that match the filter."""
        return {name for name in names if re.search(self.pattern, name)}

    def check_workers(self) -> int:
        """Processes that check at once; speed is measured by one alone."""
        return self.workers or max(1, min(12, (os.cpu_count() or 1) * 3 // 4))

    def launch_env(self, stage: str, scratch: Path) -> dict[str, str]:
        """Environment of a stage's workers: checkout before built package, nothing forced.

        What is of no use to later stages goes into the folder `scratch`.
        """
        forced = ("FASTRNN_BACKEND", "FASTRNN_CPU_ISA", "FASTRNN_AUTOTUNE", "TRITON_INTERPRET")
        env = {key: value for key, value in os.environ.items() if key not in forced}
        inherited = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
        env |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.site), *inherited]),
            "PYTHONFAULTHANDLER": "1",
            "FASTRNN_CACHE_DIR": str(self.decisions if stage == "speed" else scratch / stage),
        }
        if stage == "check":
            # What Triton finds fastest while others compute is of no use to later stages.
            env["TRITON_CACHE_DIR"] = str(scratch / "triton")
            # Torch asks for the first where its algorithms are to be deterministic.
            env |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        return env


@dataclass
class Found:
    """What the first jobs said of this machine; later stages plan by it."""

    asked: bool = False
    backends: dict[str, str] = field(default_factory=dict)
    memory: int | None = None

    def usable(self, settings: Settings) -> list[str]:
        """Backends that take part and can run here."""
        return [
            name for name, reason in self.backends.items() if not reason and settings.wants(name)
        ]
