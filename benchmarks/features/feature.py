"""What a feature is: a function that uses it, and checks the numbers that come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Make(Protocol):
    """Makes a layer with the options of its constructor, on the device that is tried."""

    def __call__(self, input_size: int, hidden_size: int, **options: Any) -> nn.Module: ...


Run = Callable[[Make, torch.device], None]


@dataclass(frozen=True)
class Feature:
    """Its name in the table, the group of rows it stands in, and the function that tries it."""

    name: str
    group: str
    run: Run


class WrongResultError(Exception):
    """A feature that ran, but gave wrong numbers."""


class Group:
    """Collects the features of one file, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: list[Feature] = []

    def __call__(self, name: str) -> Callable[[Run], Run]:
        def add(run: Run) -> Run:
            self.features.append(Feature(name, self.name, run))
            return run

        return add


def require(holds: bool, otherwise: str) -> None:
    """Raise `WrongResultError` unless it holds."""
    if not holds:
        raise WrongResultError(otherwise)


def compare(
    what: str, got: Iterable[Tensor], want: Iterable[Tensor], *, tolerance: float = 1e-4
) -> None:
    """Raise `WrongResultError` unless shapes are equal, and numbers but for rounding.

    The bound is `tolerance` relative to each number, and a tenth of it beside that.
    """
    for position, (a, b) in enumerate(zip(got, want, strict=True)):
        require(a.shape == b.shape, f"{what} {position} is {list(a.shape)}, not {list(b.shape)}")
        a, b = a.detach().double().cpu(), b.detach().double().cpu()
        if not torch.allclose(a, b, rtol=tolerance, atol=tolerance / 10):
            raise WrongResultError(f"{what} {position} differs by {float((a - b).abs().max()):.2g}")


def same(what: str, got: Iterable[Tensor], want: Iterable[Tensor]) -> None:
    """Raise `WrongResultError` unless equal bit for bit."""
    for position, (a, b) in enumerate(zip(got, want, strict=True)):
        require(torch.equal(a, b), f"{what} {position} is not the same again")


def gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor], **options: Any) -> list[Tensor]:
    """Gradients of a fixed, uneven weighting of all outputs."""
    loss = sum(
        (o.double().reshape(-1) * torch.arange(1, o.numel() + 1, device=o.device).cos()).sum()
        for o in outputs
    )
    return list(torch.autograd.grad(loss, leaves, **options))


def flat(result: Any) -> list[Tensor]:
    """y, h_n and c_n of a call."""
    y, (h_n, c_n) = result
    return [y, h_n, c_n]
