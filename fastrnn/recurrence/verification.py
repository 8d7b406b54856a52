"""Whether a backend's numbers are right: the one bound that tests and benchmarks hold it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import OutputGrads, WantedGrads
from fastrnn.recurrence.backends.eager import reference_gradients
from fastrnn.recurrence.dispatch import select
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.reference import lstm_reference

OUTPUT_NAMES = ("y", "h_n", "c_n")

# Random changes of the inputs tried; with one, a tensor of one element may not move by luck.
_PERTURBATIONS = 4

# Whatever the dtype, an error may be at most this share of a tensor's largest value, so that zeros
# are never right; with few elements the largest may itself be small by luck.
_LARGEST_SHARE, _FEW_ELEMENTS = 0.25, 8

# TF32 has the exponents of float32 and the ten bits of float16's mantissa.
_TF32_EPS = 2.0**-10


@dataclass(frozen=True, slots=True)
class Check:
    """Largest error of one tensor, the error that it may have, and where it is too large."""

    name: str
    error: float
    allowed: float
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the bound; a NaN is not."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        """Name, error, bound and place in a line."""
        text = f"{self.name}: error {self.error:.3g}, allowed {self.allowed:.3g}"
        return f"{text}, {self.where}" if self.where else text


class Expectation(NamedTuple):
    """The exact results of a call, by name, and float32's own error in each of them."""

    truth: dict[str, Tensor]
    own_error: dict[str, float]


def expect(args: LayerArgs, grads: OutputGrads) -> Expectation:
    """Compute what a call should give.

    Float32's own error is the larger of two: that of torch's float32 arithmetic (the reference, run
    in float32), and what a relative change of the inputs by float32's precision does to the exact
    result. The second is there for tensors of few elements, where the first can be small by luck.

    Parameters
    ----------
    args : LayerArgs
        Inputs. The gradients of those that require them are expected too.
    grads : OutputGrads
        Gradients of y, h_n and c_n, to be propagated.
    """
    wanted = _wanted(args)
    truth = _run_reference(args, grads, wanted, torch.float64)
    others = [_run_reference(args, grads, wanted, torch.float32)]
    for draw in range(_PERTURBATIONS):
        move = _perturbation(draw)
        moved_grads = OutputGrads(*(None if g is None else move(g) for g in grads))
        others.append(_run_reference(args.map(move), moved_grads, wanted, torch.float64))
    own_error = {
        name: max(_largest_difference(other[name], exact) for other in others)
        for name, exact in truth.items()
    }
    return Expectation(truth, own_error)


def verify(
    backend: str, args: LayerArgs, grads: OutputGrads, expected: Expectation | None = None
) -> list[Check]:
    """Compare a backend with the float64 reference, outputs and gradients.

    An error may be at most ``backend.tolerance[dtype]`` times float32's own on the same numbers, in
    units of the dtype's precision (TF32's, where the call may use that), and never more than a
    quarter of the tensor's largest value.

    Parameters
    ----------
    backend : str
        Its name, or "auto" for the one that `dispatch.select` chooses.
    args, grads
        The call; see `expect`.
    expected : Expectation, optional
        If it is known already, on any device: for a call on a GPU it can be that of the same
        numbers on the CPU.

    Returns
    -------
    list of Check
        One for each output and each gradient.
    """
    expected = expected or expect(args, grads)
    wanted = _wanted(args)
    problem = Problem.from_args(args, training=any(wanted))
    tolerance = select(problem, backend).tolerance[problem.dtype]
    eps = _TF32_EPS if problem.allow_tf32 else torch.finfo(problem.dtype).eps
    factor = tolerance * eps / torch.finfo(torch.float32).eps
    got = _run_backend(backend, args, grads, wanted)
    return [
        _check(name, got[name].to(truth.device), truth, factor * expected.own_error[name])
        for name, truth in expected.truth.items()
    ]


def _check(name: str, values: Tensor, truth: Tensor, allowed: float) -> Check:
    if truth.numel() >= _FEW_ELEMENTS:
        allowed = min(allowed, _LARGEST_SHARE * float(truth.abs().max()))
    check = Check(name, _largest_difference(values, truth), allowed)
    return check if check.ok else replace(check, where=_where_wrong(values, truth, allowed))


def _largest_difference(values: Tensor, truth: Tensor) -> float:
    if truth.numel() == 0:
        return 0.0
    return float((values.double() - truth).abs().max())


def _where_wrong(values: Tensor, truth: Tensor, allowed: float) -> str:
    """Say how many elements are wrong, and show the first of them."""
    wrong = ~((values.double() - truth).abs() <= allowed)  # so that a NaN counts
    first = tuple(wrong.nonzero()[0].tolist())
    return (
        f"{int(wrong.sum())} of {truth.numel()} elements, the first at {list(first)}: "
        f"{float(values[first]):.6g} instead of {float(truth[first]):.6g}"
    )


def _wanted(args: LayerArgs) -> WantedGrads:
    return WantedGrads(*(t is not None and t.requires_grad for t in args.differentiable))


def _perturbation(draw: int) -> Callable[[Tensor], Tensor]:
    """Change every element by float32's precision, relatively, up or down at random."""
    rng = torch.Generator().manual_seed(draw)
    eps = torch.finfo(torch.float32).eps

    def move(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        wide = torch.float64
        up = torch.randint(0, 2, tensor.shape, generator=rng, dtype=wide, device="cpu") * 2 - 1
        return tensor.detach().double() * (1 + eps * up.to(tensor.device))

    return move


def _names(wanted: WantedGrads) -> list[str]:
    return [f"grad {name}" for name, want in zip(wanted._fields, wanted, strict=True) if want]


def _run_backend(
    backend: str, args: LayerArgs, grads: OutputGrads, wanted: WantedGrads
) -> dict[str, Tensor]:
    outputs = lstm_layer(args, backend)
    results = dict(zip(OUTPUT_NAMES, outputs, strict=True))
    if any(wanted):
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        inputs = [t for t in args.differentiable if t is not None and t.requires_grad]
        found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs])
        results.update(zip(_names(wanted), found, strict=True))
    return {name: tensor.detach() for name, tensor in results.items()}


def _run_reference(
    args: LayerArgs, grads: OutputGrads, wanted: WantedGrads, dtype: torch.dtype
) -> dict[str, Tensor]:
    def convert(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor

    wide = args.map(convert)
    with torch.no_grad():
        results = dict(zip(OUTPUT_NAMES, lstm_reference(wide), strict=True))
    if any(wanted):
        wide_grads = OutputGrads(*(None if g is None else convert(g) for g in grads))
        found = reference_gradients(wide, wide_grads, wanted, create_graph=False)
        results.update(zip(_names(wanted), (g for g in found if g is not None), strict=True))
    return results
