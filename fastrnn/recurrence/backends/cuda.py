"""The persistent CUDA kernels of ``csrc/cuda`` behind the backend protocol."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
    variant_reasons,
)
from fastrnn.recurrence.backends.native import address, import_native
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

if TYPE_CHECKING:
    from fastrnn._cuda import Device, Plan

_MODULE = "fastrnn._cuda"
_MAX_SIZE = 2**30  # of T, B and I: the kernels count in 32 bits, and some steps ahead


class CudaBackend:
    """Whole sequences in one launch per layer, the recurrent weights in registers."""

    name = "cuda"
    devices: frozenset[str] | None = frozenset({"cuda"})
    recordable = False
    # Emulated, with approximations as wrong as they may be: up to 2.2 in float32, 0.8 in 16 bits.
    # The bounds are those of `triton`, for other orders of sums.
    tolerance: Mapping[torch.dtype, float] = {
        torch.float32: 16.0,
        torch.float16: 4.0,
        torch.bfloat16: 4.0,
    }

    def __init__(self) -> None:
        # At once, not when it is first needed: torch's compiler cannot trace an import.
        self._import = _import_if_built()

    def _native(self) -> ModuleType:
        module, reasons = self._import
        if module is None:
            raise RuntimeError(reasons[0])
        return module

    def unavailable(self) -> list[str]:
        """Say whether the native module, a driver that can run it, and a GPU are there."""
        module, reasons = self._import
        if module is None:
            return reasons
        reason = _missing(module)
        return [reason] if reason else []

    def supports(self, problem: Problem) -> list[str]:
        """Refuse other devices and dtypes, projections, empty dimensions, and large H."""
        p = problem
        module = self._import[0]
        if module is None:
            return list(self._import[1])
        if p.device.type != module.device_type:
            return [f"the tensors are on {p.device}, not on a GPU"]
        reasons = self.unavailable() + variant_reasons(p)
        if p.proj_size:
            reasons.append("proj_size > 0 is not implemented in the kernels")
        if p.batch_size == 0 or p.input_size == 0:
            reasons.append("the batch or the input has no elements")
        if max(p.seq_len, p.batch_size, p.input_size) > _MAX_SIZE:
            reasons.append(f"T, B and I may be at most {_MAX_SIZE}")
        if p.dtype not in self.tolerance:
            return [*reasons, f"dtype {p.dtype} is not float32, float16 or bfloat16"]
        # Compared, not passed on: a compiled program may hold a symbol in the place of the number.
        padded = next((size for size in module.padded_sizes if p.hidden_size <= size), None)
        if padded is None:
            reasons.append(
                f"hidden_size is {p.hidden_size}; one block holds the recurrent weights of at most "
                f"{module.padded_sizes[-1]} units"
            )
        elif not reasons:
            reasons += _device_reasons(module, p.device, _precision(p), padded, p.training)
        return reasons

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep the cell states, in float32; the gates are computed again."""
        if not problem.training:
            return (0,)
        p = problem
        units = p.seq_len * p.batch_size * p.num_directions * p.hidden_size
        return (units * (torch.float32.itemsize // p.dtype.itemsize),)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Pack the weights, then run all steps at once; see ``csrc/cuda/arguments.h``."""
        with torch.no_grad(), on_device_of(problem):
            p = problem
            call = self._prepare(p, args)
            reserve = args.x.new_empty(self.reserve_shape(p))
            new = args.x.new_empty if call.lengths is None else args.x.new_zeros
            y = new(p.output_shape)
            h_n = args.x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
            c_n = torch.empty_like(h_n)
            share = None if call.plan.fuses_input else _share(call.args, p)
            weights = self._pack_forward(call)
            self._native().forward(
                call.plan,
                **call.input_addresses(share),
                weights=weights.data_ptr(),
                c_0=address(call.args.c_0),
                y=address(y if p.output_shape[0] else None),
                h_n=h_n.data_ptr(),
                c_n=c_n.data_ptr(),
                cells=address(reserve if p.training else None),
                **call.queue,
            )
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
        """Compute the gates again, run all steps backward, then one product per gradient."""
        with torch.no_grad(), on_device_of(problem):
            p = problem
            args = args._replace(lengths=lengths_on_device(args.lengths, p))
            call = self._prepare(p, args)
            y = dense(y)
            gates = self._gates(p, call, y)
            grad_y, grad_h_n, grad_c_n = (None if g is None else dense(g) for g in grads)
            grad_h_0 = y.new_empty(p.num_directions, p.batch_size, p.hidden_size)
            grad_c_0 = torch.empty_like(grad_h_0)
            bias_shape = (call.plan.tiles, p.num_directions, p.hidden_size, 4)
            wants_bias = wanted.bias and args.bias is not None
            grad_bias = y.new_empty(bias_shape, dtype=torch.float32) if wants_bias else None
            weights = _words(y, call.plan.backward_weight_bytes)
            native = self._native()
            native.pack_backward(
                call.plan, w_hh=call.args.w_hh.data_ptr(), words=weights.data_ptr(), **call.queue
            )
            native.backward(
                call.plan,
                weights=weights.data_ptr(),
                gates=gates.data_ptr(),
                cells=reserve.data_ptr(),
                c_0=address(call.args.c_0),
                order=address(call.order),
                lengths=address(call.lengths),
                grad_y=address(grad_y),
                grad_h_n=address(grad_h_n),
                grad_c_n=address(grad_c_n),
                grad_h_0=grad_h_0.data_ptr(),
                grad_c_0=grad_c_0.data_ptr(),
                grad_bias_tiles=address(grad_bias),
                **call.queue,
            )
            found = _weight_gradients(p, args, y, gates, wanted)
        return found._replace(
            bias=None if grad_bias is None else _by_gate(grad_bias.sum(0)).to(y.dtype).flatten(1),
            h_0=grad_h_0 if wanted.h_0 and args.h_0 is not None else None,
            c_0=grad_c_0 if wanted.c_0 and args.c_0 is not None else None,
        )

    def _gates(self, problem: Problem, call: _Call, y: Tensor) -> Tensor:
        """All activated gates, ``[T, B, D * H * 4]``, zero on padding."""
        p = problem
        fused, lengths = call.plan.fuses_input, call.lengths
        shape = (p.seq_len, p.batch_size, p.num_directions * p.hidden_size * 4)
        share = None if fused else _share(call.args, p)
        if lengths is not None:
            gates = y.new_zeros(shape)
        else:  # no padding to keep at zero: the share's memory will do
            gates = y.new_empty(shape) if share is None else share.view(shape)
        weights = self._pack_forward(call)
        self._native().gates(
            call.plan,
            **call.input_addresses(share),
            weights=weights.data_ptr(),
            y=y.data_ptr(),
            gates=gates.data_ptr(),
            **call.queue,
        )
        return gates

    def _pack_forward(self, call: _Call) -> Tensor:
        words = _words(call.args.x, call.plan.forward_weight_bytes)
        self._native().pack_forward(
            call.plan,
            w_ih=call.args.w_ih.data_ptr(),
            w_hh=call.args.w_hh.data_ptr(),
            words=words.data_ptr(),
            **call.queue,
        )
        return words

    def _prepare(self, problem: Problem, args: LayerArgs) -> _Call:
        native, p = self._native(), problem
        order, lengths = by_falling_length(args.lengths, p)
        args = args._replace(lengths=None)
        if _copies_cannot_start(p):
            args = args._replace(x=pad(args.x, (0, 1)), w_ih=pad(args.w_ih, (0, 1)))
        plan = native.make_plan(
            native.Problem(
                precision=_precision(p),
                seq_len=p.seq_len,
                batch_size=p.batch_size,
                input_size=args.x.shape[2],
                hidden_size=p.hidden_size,
                num_directions=p.num_directions,
                training=p.training,
            ),
            _describe(native, p.device),
        )
        return _Call(plan, args.map(dense), order, lengths, _queue(p.device))


class _Call(NamedTuple):
    """What both passes of a call need."""

    plan: Plan
    args: LayerArgs
    order: Tensor | None
    lengths: Tensor | None
    queue: dict[str, int]

    def input_addresses(self, share: Tensor | None) -> dict[str, int]:
        return {
            "x": self.args.x.data_ptr(),
            "bias": address(self.args.bias),
            "share": address(share),
            "h_0": address(self.args.h_0),
            "order": address(self.order),
            "lengths": address(self.lengths),
        }


def _import_if_built() -> tuple[ModuleType | None, list[str]]:
    if find_spec(_MODULE) is None:
        return None, ["the package was built without CUDA (no nvcc was found, or FASTRNN_CUDA=OFF)"]
    return import_native(_MODULE)


@constant_while_tracing
def _missing(native: ModuleType) -> str:
    if native.device_type == "cuda" and not torch.cuda.is_available():
        return native.driver_fault() or "torch sees no GPU"
    fault: str = native.driver_fault()
    return fault


@constant_while_tracing
def _device_reasons(
    native: ModuleType, device: torch.device, precision: str, hidden_size: int, training: bool
) -> list[str]:
    return list(_lacking(native, device, precision, hidden_size, training))


@functools.cache
def _lacking(
    native: ModuleType, device: torch.device, precision: str, hidden_size: int, training: bool
) -> tuple[str, ...]:
    # Other sizes decide nothing: an input too wide for the kernel is multiplied beforehand.
    problem = native.Problem(
        precision=precision,
        seq_len=1,
        batch_size=1,
        input_size=1,
        hidden_size=hidden_size,
        num_directions=1,
        training=training,
    )
    reasons = list(native.reasons_against(problem, _describe(native, device)))
    if not reasons and device.type == "cuda":
        # A build may have been limited to some architectures.
        with torch.cuda.device(device):
            reasons = list(filter(None, [native.device_fault(torch.cuda.current_device())]))
    return tuple(reasons)


@functools.cache
def _describe(native: ModuleType, device: torch.device) -> Device:
    if native.device_type == "cpu":
        emulated: Device = native.emulated_device
        return emulated
    gpu: Any = torch.cuda.get_device_properties(device)
    described: Device = native.Device(
        major=gpu.major,
        minor=gpu.minor,
        multiprocessors=gpu.multi_processor_count,
        # Not every build of torch tells the first.
        shared_bytes=getattr(gpu, "shared_memory_per_block_optin", 0) or 48 * 1024,
    )
    return described


def _precision(problem: Problem) -> str:
    if problem.dtype == torch.float32:
        return "tf32" if problem.allow_tf32 else "float32"
    return str(problem.dtype).removeprefix("torch.")


def _queue(device: torch.device) -> dict[str, int]:
    if device.type != "cuda":
        return {"device": 0, "stream": 0}
    index = torch.cuda.current_device() if device.index is None else device.index
    return {"device": index, "stream": torch.cuda.current_stream(device).cuda_stream}


def _copies_cannot_start(problem: Problem) -> bool:
    """Whether rows of x are no multiple of four bytes, the least that is copied asynchronously."""
    return problem.dtype.itemsize == 2 and problem.input_size % 2 == 1


def _words(like: Tensor, size: int) -> Tensor:
    return like.new_empty(size // 4, dtype=torch.int32)


def _by_unit(tensor: Tensor) -> Tensor:
    """``[D, 4H, ...]`` to ``[D, H, 4, ...]``: the gates of a unit side by side."""
    directions, gates, *rest = tensor.shape
    return tensor.reshape(directions, 4, gates // 4, *rest).transpose(1, 2)


def _by_gate(tensor: Tensor) -> Tensor:
    """``[D, H, 4, ...]`` to ``[D, 4, H, ...]``."""
    return tensor.transpose(1, 2)


def _share(args: LayerArgs, problem: Problem) -> Tensor:
    w_ih = _by_unit(args.w_ih).flatten(0, 2)
    bias = None if args.bias is None else _by_unit(args.bias).flatten()
    return input_share(args.x, w_ih, bias, problem)


def _weight_gradients(
    problem: Problem, args: LayerArgs, y: Tensor, grad_gates: Tensor, wanted: WantedGrads
) -> InputGrads:
    """Let the common products run with gates in the kernels' order, and put them back."""
    by_unit = args._replace(w_ih=_by_unit(args.w_ih).flatten(1, 2), bias=None).map(dense)
    with product_precision(problem):
        found = input_gradients(problem, by_unit, y, grad_gates, wanted)

    def back(grad: Tensor | None) -> Tensor | None:
        if grad is None:
            return None
        directions, gates, columns = grad.shape
        return _by_gate(grad.view(directions, gates // 4, 4, columns)).flatten(1, 2)

    return found._replace(w_ih=back(found.w_ih), w_hh=back(found.w_hh))
