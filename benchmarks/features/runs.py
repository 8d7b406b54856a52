"""Runs features, and tells in a few words how each went."""

from __future__ import annotations

import functools
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import fastrnn

from . import autograd, calls, compilers, modules, variants
from .feature import Feature, WrongResultError

FEATURES: list[Feature] = [
    feature
    for group in (calls, autograd, compilers, modules, variants)
    for feature in group.feature.features
]
NOT_RUN = "not run: no GPU here"
_LONGEST = 90


@dataclass(frozen=True)
class Column:
    """One implementation on one device."""

    name: str
    layer: type[nn.Module]
    device: torch.device

    def can_run(self) -> bool:
        return self.device.type == "cpu" or torch.cuda.is_available()

    def make(self, input_size: int, hidden_size: int, **options: Any) -> nn.Module:
        return self.layer(input_size, hidden_size, **options, device=self.device)


COLUMNS = (
    Column("`nn.LSTM`, CPU", nn.LSTM, torch.device("cpu")),
    Column("`nn.LSTM`, cuDNN", nn.LSTM, torch.device("cuda")),
    Column("`fastrnn.LSTM`, CPU", fastrnn.LSTM, torch.device("cpu")),
    Column("`fastrnn.LSTM`, CUDA", fastrnn.LSTM, torch.device("cuda")),
)


def outcome(feature: Feature, column: Column) -> str:
    """``yes``, ``wrong: ...`` where numbers are, or ``no: ...`` with the error that came."""
    try:
        with _quiet(), torch.random.fork_rng(), _exact_products():
            torch.manual_seed(0)
            feature.run(column.make, column.device)
    except WrongResultError as error:
        return f"wrong: {first_words(error)}"
    except Exception as error:  # whatever it is, it is the answer
        return f"no: {type(error).__name__}: {first_words(error)}"
    return "yes"


def first_words(error: BaseException) -> str:
    """The first line of its message, cut, without paths of this machine."""
    lines = str(error).strip().splitlines() or [""]
    text = re.sub(r"(/[\w.+-]+){2,}(:\d+: )?", "", lines[0])
    text = " ".join(text.split())
    if len(text) <= _LONGEST:
        return text
    return text[:_LONGEST].rsplit(" ", 1)[0] + " ..."


def run_column(column: Column, features: Sequence[Feature]) -> Iterator[tuple[Feature, str]]:
    """Each feature and its outcome, as they come."""
    for feature in features:
        yield feature, outcome(feature, column) if column.can_run() else NOT_RUN


@contextmanager
def _quiet() -> Iterator[None]:
    """What compilers and children print, and warnings, are not the answer."""
    with (
        tempfile.TemporaryFile("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@functools.wraps(torch.backends.cudnn.flags)
def _exact_products() -> Any:
    """Float32 without TF32 on a GPU: all are held to the same float64."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
