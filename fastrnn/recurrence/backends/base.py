"""What a backend is: a way to run one layer forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fastrnn.recurrence.problem import LayerArgs, Problem


class ForwardResult(NamedTuple):
    """``y`` (`Problem.output_shape`), ``h_n [D, B, R]``, ``c_n [D, B, H]``, what backward keeps."""

    y: Tensor
    h_n: Tensor
    c_n: Tensor
    reserve: Tensor


class OutputGrads(NamedTuple):
    """Gradients of y, h_n and c_n; None stands for zeros."""

    y: Tensor | None
    h_n: Tensor | None
    c_n: Tensor | None


class WantedGrads(NamedTuple):
    """Which gradients are asked for, in the order of `LayerArgs`."""

    x: bool = True
    w_ih: bool = True
    w_hh: bool = True
    bias: bool = True
    w_hr: bool = True
    h_0: bool = True
    c_0: bool = True
    norm: bool = True


class InputGrads(NamedTuple):
    """Gradients in the order of `LayerArgs`; None where not wanted."""

    x: Tensor | None = None
    w_ih: Tensor | None = None
    w_hh: Tensor | None = None
    bias: Tensor | None = None
    w_hr: Tensor | None = None
    h_0: Tensor | None = None
    c_0: Tensor | None = None
    norm: Tensor | None = None


def variant_reasons(problem: Problem, able: Collection[str] = ()) -> list[str]:
    """Reasons against the variants of the cell that kernels do not have."""
    return [
        f"{variant} is not implemented in the kernels"
        for variant in problem.variants
        if variant not in able
    ]


class Backend(Protocol):
    """One way to run a layer.

    Attributes
    ----------
    name : str
        By which it is forced.
    tolerance : Mapping[torch.dtype, float]
        The dtypes it claims, and how many times `torch.nn.LSTM`'s own error in that dtype its
        error against the float64 reference may be.
    devices : frozenset of str or None
        Types of device for which `auto` considers it; None for all. It may support others too, for
        tests.
    recordable : bool
        Whether torch can differentiate its forward. Outside of a trace, backward then goes through
        the graph recorded by forward; the method `backward` serves the rest.
    """

    name: str
    devices: frozenset[str] | None
    recordable: bool
    tolerance: Mapping[torch.dtype, float]

    def unavailable(self) -> list[str]:
        """Reasons why it cannot run on this machine at all; empty when it can."""
        ...

    def supports(self, problem: Problem) -> list[str]:
        """Reasons why it cannot run this problem; empty when it can."""
        ...

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of the tensor, of the input's dtype, that forward keeps for backward."""
        ...

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Run the layer; a reserve is filled if ``problem.training``."""
        ...

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        """Return the wanted gradients."""
        ...
