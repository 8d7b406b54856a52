"""The fused Triton kernels behind the backend protocol."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
    variant_reasons,
)
from fastrnn.recurrence.gate_gradients import input_gradients
from fastrnn.recurrence.gpu_tensors import (
    by_falling_length,
    dense,
    input_share,
    lengths_on_device,
    on_device_of,
    product_precision,
)
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.tracing import constant_while_tracing
from fastrnn.recurrence.triton_kernels.config import (
    MAX_HIDDEN_SIZE,
    fuses_input,
    shared_memory,
)
from fastrnn.recurrence.triton_kernels.padding import (
    cut_result,
    cut_units,
    pad_args,
    pad_output_grads,
    pad_problem,
)

_MIN_CAPABILITY = (8, 0)
_TRUE = frozenset({"1", "true", "on", "yes", "y"})  # what Triton takes for true


class TritonBackend:
    """Whole sequences in one launch per layer, the recurrent weights in shared memory."""

    name = "triton"
    devices: frozenset[str] | None = frozenset({"cuda"})
    recordable = False
    # Interpreted, on the tests' grid: up to 1.6 in float32, 0.8 in float16, 2.1 in bfloat16; with
    # the error of the hardware's tanh (2**-11) put into every activation, 2.3 in 16-bit types. The
    # rest is room for the compiler's exp and other orders of sums.
    tolerance: Mapping[torch.dtype, float] = {
        torch.float32: 16.0,
        torch.float16: 4.0,
        torch.bfloat16: 4.0,
    }

    def unavailable(self) -> list[str]:
        """Say whether Triton and a GPU are there."""
        reason = _missing()
        return [reason] if reason else []

    def supports(self, problem: Problem) -> list[str]:
        """Refuse other devices and dtypes, projections, empty dimensions, and large H."""
        p = problem
        if p.device.type != "cuda" and not (p.device.type == "cpu" and _interpreting()):
            return [f"the tensors are on {p.device}, not on a GPU"]
        if p.device.type == "cuda" and _interpreting():
            return [f"TRITON_INTERPRET=1 is for CPU tensors; these are on {p.device}"]
        reasons = self.unavailable() + variant_reasons(p)
        if p.proj_size:
            reasons.append("proj_size > 0 is not implemented in the kernels")
        if p.batch_size == 0 or p.input_size == 0:
            reasons.append("the batch or the input has no elements")
        if p.dtype not in self.tolerance:
            return [*reasons, f"dtype {p.dtype} is not float32, float16 or bfloat16"]
        if p.hidden_size > MAX_HIDDEN_SIZE[p.dtype]:
            reasons.append(
                f"hidden_size is {p.hidden_size}; in {p.dtype} the recurrent weights fit on chip "
                f"up to {MAX_HIDDEN_SIZE[p.dtype]}"
            )
        elif p.device.type == "cuda" and not reasons:
            reasons += _device_reasons(p.device, p.dtype, p.hidden_size)
        return reasons

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep the activated gates, and the cell states in float32."""
        if not problem.training:
            return (0,)
        gates, cells = _reserve_sizes(pad_problem(problem))
        return (gates + cells,)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Multiply the input beforehand, unless the kernel does, then run all steps at once."""
        with torch.no_grad(), on_device_of(problem):
            p = pad_problem(problem)
            args = pad_args(problem, args).map(dense)
            order, lengths = by_falling_length(args.lengths, p)
            reserve = args.x.new_empty(self.reserve_shape(problem))
            fused = fuses_input(p.dtype, p.input_size)
            gates, cells = _split_reserve(reserve, p) if p.training else (None, None)
            if not fused:
                columns = p.num_directions * 4 * p.hidden_size
                w_ih = args.w_ih.view(columns, p.input_size)
                bias = None if args.bias is None else args.bias.view(-1)
                gates = input_share(args.x, w_ih, bias, p, out=gates)
            new = args.x.new_empty if lengths is None else args.x.new_zeros
            y = new(p.output_shape)
            h_n = args.x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
            c_n = torch.empty_like(h_n)
            tensors = {
                "gates": gates,
                "x": args.x if fused else None,
                "w_ih": args.w_ih if fused else None,
                "bias": args.bias if fused else None,
                "w_hh": args.w_hh,
                "h_0": args.h_0,
                "c_0": args.c_0,
                "y": y if p.output_shape[0] else None,
                "h_n": h_n,
                "c_n": c_n,
                "cells": cells,
                "order": order,
                "lengths": lengths,
            }
            _kernels().launch("forward", p, tensors)
            return cut_result(problem, ForwardResult(y, h_n, c_n, reserve))

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        """Run all steps backward at once, then form the weights' gradients by one product each."""
        with torch.no_grad(), on_device_of(problem):
            args = args._replace(lengths=lengths_on_device(args.lengths, problem)).map(dense)
            p, padded = pad_problem(problem), pad_args(problem, args)
            by_gate = padded.w_hh.view(p.num_directions, 4, p.hidden_size, p.hidden_size)
            grad_y, grad_h_n, grad_c_n = (
                None if g is None else dense(g) for g in pad_output_grads(problem, grads)
            )
            order, lengths = by_falling_length(args.lengths, p)
            gates, cells = _split_reserve(reserve, p)
            new = args.x.new_empty if lengths is None else args.x.new_zeros
            grad_gates = new(p.seq_len, p.batch_size, p.num_directions * 4 * p.hidden_size)
            grad_h_0 = args.x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
            grad_c_0 = torch.empty_like(grad_h_0)
            tensors = {
                "gates": gates,
                "cells": cells,
                "w_hh_t": by_gate.transpose(2, 3).contiguous(),
                "c_0": padded.c_0,
                "grad_y": grad_y,
                "grad_h_n": grad_h_n,
                "grad_c_n": grad_c_n,
                "grad_gates": grad_gates,
                "grad_h_0": grad_h_0,
                "grad_c_0": grad_c_0,
                "order": order,
                "lengths": lengths,
            }
            _kernels().launch("backward", p, tensors)
            grad_gates = cut_units(grad_gates, problem, groups=p.num_directions * 4)
            with product_precision(p):
                found = input_gradients(problem, args, y, grad_gates, wanted)
            h_0 = cut_units(grad_h_0, problem, groups=1) if wanted.h_0 else None
            c_0 = cut_units(grad_c_0, problem, groups=1) if wanted.c_0 else None
        return found._replace(
            h_0=None if args.h_0 is None else h_0, c_0=None if args.c_0 is None else c_0
        )


@functools.cache
def _import() -> tuple[ModuleType | None, str]:
    if find_spec("triton") is None:
        return None, "Triton is not installed"
    try:
        from fastrnn.recurrence.triton_kernels import launch
    except ImportError as error:
        return None, f"the Triton kernels cannot be imported: {error}"
    return launch, ""


def _kernels() -> ModuleType:
    module, reason = _import()
    if module is None:
        raise RuntimeError(reason)
    return module


@constant_while_tracing
def _missing() -> str:
    kernels, reason = _import()
    if kernels is None or kernels.INTERPRETED or torch.cuda.is_available():
        return reason
    return "torch sees no GPU"


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "").lower() in _TRUE


@constant_while_tracing
def _device_reasons(device: torch.device, dtype: torch.dtype, hidden_size: int) -> list[str]:
    return list(_lacking(device, dtype, hidden_size))


@functools.cache
def _lacking(gpu: torch.device, dtype: torch.dtype, hidden_size: int) -> tuple[str, ...]:
    device = torch.cuda.get_device_properties(gpu)
    capability = (device.major, device.minor)
    if torch.version.hip is None and capability < _MIN_CAPABILITY:
        return (f"{device.name} has compute capability {capability}; 8.0 or newer is needed",)
    available = getattr(
        device, "shared_memory_per_block_optin", getattr(device, "shared_memory_per_block", 0)
    )
    needed = shared_memory(dtype, hidden_size)
    if needed > available:
        return (
            f"hidden_size {hidden_size} in {dtype} needs {needed} bytes of shared memory; "
            f"{device.name} has {available} for a block",
        )
    return ()


def _reserve_sizes(problem: Problem) -> tuple[int, int]:
    """Elements of the input's dtype that the gates and then the cell states take.

    Both start at 16-byte boundaries, as units are padded to a multiple of 8.
    """
    p = problem
    units = p.seq_len * p.batch_size * p.num_directions * p.hidden_size
    return 4 * units, units * (torch.float32.itemsize // p.dtype.itemsize)


def _split_reserve(reserve: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    p = problem
    gates, _ = _reserve_sizes(p)
    return (
        reserve[:gates].view(-1, p.num_directions * 4 * p.hidden_size),
        reserve[gates:].view(torch.float32),
    )
