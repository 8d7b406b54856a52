"""The fused CPU kernels of ``csrc/cpu`` behind the backend protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastrnn.recurrence.backends import recycling
from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
    variant_reasons,
)
from fastrnn.recurrence.backends.native import address, import_native
from fastrnn.recurrence.problem import LayerArgs, Problem

if TYPE_CHECKING:
    from fastrnn._cpu import Call

ISA_VARIABLE = "FASTRNN_CPU_ISA"


_VARIANTS = frozenset({"coupled_gates", "reset", "recurrent_dropout"})
_SIXTEEN_BITS = frozenset({torch.float16, torch.bfloat16})


class CpuBackend:
    """Whole sequences in one call to C++: all threads, no work on padding.

    The kernels know float32 and float64. 16-bit tensors are converted on the way in and out.
    """

    name = "cpu"
    devices: frozenset[str] | None = frozenset({"cpu"})
    recordable = False
    # Activations within 4 ulp, two in a row, and sums in another order than torch's: typically 2
    # to 3 times its error, 7.4 at most in 4,000 random problems of few elements.
    tolerance: Mapping[torch.dtype, float] = {
        torch.float32: 16.0,
        torch.float64: 16.0,
        torch.float16: 4.0,
        torch.bfloat16: 4.0,
    }

    def __init__(self) -> None:
        # At once, not when it is first needed: torch's compiler cannot trace an import.
        self._import = import_native("fastrnn._cpu")

    @property
    def isa(self) -> str:
        """Name of the instruction set in use; ``FASTRNN_CPU_ISA`` forces one.

        Raises
        ------
        ValueError
            If the variable names a set that this CPU or build does not have.
        """
        name: str = self._native().select_isa(os.environ.get(ISA_VARIABLE, ""))
        return name

    def _native(self) -> ModuleType:
        module, reasons = self._import
        if module is None:
            raise RuntimeError(reasons[0])
        return module

    def unavailable(self) -> list[str]:
        """Say whether the native module is there."""
        return self._import[1]

    def supports(self, problem: Problem) -> list[str]:
        """Refuse other devices and dtypes, projections and empty dimensions."""
        reasons = self.unavailable() + variant_reasons(problem, _VARIANTS)
        if problem.device.type != "cpu":
            reasons.append(f"the tensors are on {problem.device}, not on the CPU")
        if problem.proj_size:
            reasons.append("proj_size > 0 is not implemented in the kernels")
        if problem.batch_size == 0 or problem.input_size == 0:
            reasons.append("the batch or the input has no elements")
        return reasons

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep the gates i, f, g, o and the cell state: ``[T, B, D, 5, H]``, at least float32."""
        if not problem.training:
            return (0,)
        p = problem
        planes: int = self._native().reserve_planes
        words = _wide(p.dtype).itemsize // p.dtype.itemsize
        return (p.seq_len, p.batch_size, p.num_directions, planes, words * p.hidden_size)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Run the layer; see ``csrc/lstm.h`` for what each array means."""
        p, dense = problem, _dense(args)
        x = dense.x
        y = x.new_empty(p.seq_len, p.batch_size, p.num_directions * p.hidden_size)
        h_n = x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
        c_n = torch.empty_like(h_n)
        reserve = recycling.empty(args.x, self.reserve_shape(p))
        call = self._call(p, dense)
        workspace = x.new_empty(call.forward_workspace())
        call.forward(
            x=x.data_ptr(),
            w_ih=dense.w_ih.data_ptr(),
            w_hh=dense.w_hh.data_ptr(),
            bias=address(dense.bias),
            h_0=address(dense.h_0),
            c_0=address(dense.c_0),
            y=y.data_ptr(),
            h_n=h_n.data_ptr(),
            c_n=c_n.data_ptr(),
            reserve=address(reserve if p.training else None),
            workspace=workspace.data_ptr(),
        )
        # The kernels always write y; where nobody wants it, it is dropped here.
        y = y if p.output_shape[0] else y.new_empty(p.output_shape)
        if x is not args.x:
            y, h_n, c_n = y.to(p.dtype), h_n.to(p.dtype), c_n.to(p.dtype)
        return ForwardResult(y, h_n, c_n, reserve)

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        """Run the layer backward; the weight gradients come all together or not at all."""
        p, dense = problem, _dense(args)
        x, w_ih, y, reserve = dense.x, dense.w_ih, _dense_tensor(y), reserve.contiguous()
        grad_y, grad_h_n, grad_c_n = (None if g is None else _dense_tensor(g) for g in grads)
        wants_weights = wanted.w_ih or wanted.w_hh or wanted.bias
        grad_x = x.new_empty(p.num_directions, *x.shape) if wanted.x else None
        grad_w_ih = torch.empty_like(w_ih) if wants_weights else None
        grad_w_hh = torch.empty_like(dense.w_hh) if wants_weights else None
        grad_bias = w_ih.new_empty(w_ih.shape[:2]) if wants_weights else None
        grad_h_0 = x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
        grad_c_0 = torch.empty_like(grad_h_0)
        call = self._call(p, dense)
        workspace = x.new_empty(call.backward_workspace(wanted.x, wants_weights))
        call.backward(
            x=x.data_ptr(),
            w_ih=w_ih.data_ptr(),
            w_hh=dense.w_hh.data_ptr(),
            h_0=address(dense.h_0),
            c_0=address(dense.c_0),
            y=y.data_ptr(),
            reserve=reserve.data_ptr(),
            grad_y=address(grad_y),
            grad_h_n=address(grad_h_n),
            grad_c_n=address(grad_c_n),
            grad_x=address(grad_x),
            grad_w_ih=address(grad_w_ih),
            grad_w_hh=address(grad_w_hh),
            grad_bias=address(grad_bias),
            grad_h_0=grad_h_0.data_ptr(),
            grad_c_0=grad_c_0.data_ptr(),
            workspace=workspace.data_ptr(),
        )
        if grad_x is not None:
            grad_x = grad_x[0] if p.num_directions == 1 else grad_x.sum(0)
        found = InputGrads(
            x=grad_x,
            w_ih=grad_w_ih if wanted.w_ih else None,
            w_hh=grad_w_hh if wanted.w_hh else None,
            bias=grad_bias if wanted.bias and dense.bias is not None else None,
            h_0=grad_h_0 if wanted.h_0 and dense.h_0 is not None else None,
            c_0=grad_c_0 if wanted.c_0 and dense.c_0 is not None else None,
        )
        if p.dtype not in _SIXTEEN_BITS:
            return found
        return InputGrads(*(None if g is None else g.to(p.dtype) for g in found))

    def _call(self, problem: Problem, dense: LayerArgs) -> Call:
        p = problem
        call: Call = self._native().Call(
            isa=os.environ.get(ISA_VARIABLE, ""),
            float64=p.dtype == torch.float64,
            seq_len=p.seq_len,
            batch_size=p.batch_size,
            input_size=p.input_size,
            hidden_size=p.hidden_size,
            num_directions=p.num_directions,
            num_gates=3 if "coupled_gates" in p.variants else 4,
            lengths=address(dense.lengths),
            reset=address(dense.reset),
            state_mask=address(dense.recurrent_mask),
            num_threads=torch.get_num_threads(),
        )
        return call


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Type that the kernels calculate in."""
    return torch.float32 if dtype in _SIXTEEN_BITS else dtype


def _dense_tensor(tensor: Tensor) -> Tensor:
    if tensor.dtype in _SIXTEEN_BITS:
        tensor = tensor.float()
    return tensor.contiguous()


def _dense(args: LayerArgs) -> LayerArgs:
    """Contiguous tensors, lengths as int64: what the native core takes."""
    dense = args.map(_dense_tensor)
    lengths = dense.lengths
    return dense if lengths is None else dense._replace(lengths=lengths.to("cpu", torch.int64))
