"""What a training was made with, in JSON types."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import nn

from fastrnn._version import __version__
from fastrnn.data import StripDataset
from fastrnn.training.checks import fingerprint
from fastrnn.training.config import TrainingConfig
from fastrnn.training.evaluation import device_of
from fastrnn.training.history import TrainingResult

Facts = dict[str, Any]


def run_facts(
    model: nn.Module,
    result: TrainingResult,
    train: StripDataset,
    validation: StripDataset | None,
    config: TrainingConfig,
) -> Facts:
    """Put together what describes a training; parameters as for `write_run_report`."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "training": asdict(config),
        "model": model_facts(model),
        "data": {
            "train": data_facts(train),
            "validation": None if validation is None else data_facts(validation),
        },
        "result": {
            "epochs": len(result.history),
            "stopped_by": result.stopped_by,
            "best_epoch": result.best_epoch,
            "seconds": sum(record.seconds for record in result.history),
            "last_epoch": asdict(result.history[-1]),
        },
        "versions": {
            "fastrnn": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "machine": machine_facts(device_of(model)),
    }


def model_facts(model: nn.Module) -> Facts:
    """Describe a model: its class, its size, and its settings if it has some."""
    settings: Any = getattr(model, "config", None)
    has_settings = is_dataclass(settings) and not isinstance(settings, type)
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "settings": asdict(settings) if has_settings else {},
    }


def data_facts(dataset: StripDataset) -> Facts:
    """Describe a dataset without reading its strips.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> data_facts(StripDigits("test", size=20))["widths"]["longest"] <= 420
    True
    """
    widths = dataset.lengths
    counts = np.bincount(dataset.targets, minlength=len(dataset.labels)).tolist()
    facts = fingerprint(dataset) or {}
    hashes = {name: facts.pop(name) for name in ("targets", "lengths")}
    return {
        **facts,
        "sha256": hashes,
        "strips of each class": dict(zip(dataset.labels, counts, strict=True)),
        "widths": {
            "shortest": int(widths.min()),
            "median": float(np.median(widths)),
            "longest": int(widths.max()),
        },
    }


def machine_facts(device: torch.device) -> Facts:
    """Describe what the model runs on."""
    on_gpu = device.type == "cuda"
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
