"""Torch's own LSTM behind the backend protocol: cuDNN's kernels, and what torch has instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import (
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
    variant_reasons,
)
from fastrnn.recurrence.hardware import is_capturing
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.recording import recorded_gradients
from fastrnn.recurrence.reference import lstm_reference


def _has_library() -> bool:
    if torch.version.hip is not None:  # there MIOpen stands in for cuDNN
        return True
    return bool(torch.backends.cudnn.is_available())  # type: ignore[no-untyped-call]


_HAS_LIBRARY = _has_library()  # asked once: torch's compiler cannot trace the question


class CudnnBackend:
    """What ``torch.nn.LSTM`` would run on a GPU, and with its precision.

    Torch gives the layer to cuDNN in float16, float32 and float64, and in bfloat16 where it was
    built with cuDNN 9.13 or later and the GPU is of compute capability 8.0 or later; on ROCm to
    MIOpen in float16 and float32, without a projection. Whatever else, and everything while
    ``torch.backends.cudnn.enabled`` is False, runs step by step on torch's own kernels.
    """

    name = "cudnn"
    devices: frozenset[str] | None = frozenset({"cuda"})
    recordable = True
    # Torch's own kernels have 2.2 times the error of the reference at most in 32 and 64 bits, and
    # less than it in 16, though they round h and c at every step (240 small random problems, CPU).
    # The rest is room for cuDNN's other sums and activations.
    tolerance: Mapping[torch.dtype, float] = {
        torch.float32: 16.0,
        torch.float64: 16.0,
        torch.float16: 8.0,
        torch.bfloat16: 8.0,
    }

    def unavailable(self) -> list[str]:
        """Say whether there is a GPU, and a library for it in torch."""
        if not torch.cuda.is_available():
            return ["torch finds no CUDA device"]
        return [] if _HAS_LIBRARY else ["this torch has no cuDNN"]

    def supports(self, problem: Problem) -> list[str]:
        """Refuse other devices, empty dimensions, wide projections, and lengths in a graph."""
        reasons = self.unavailable() + variant_reasons(problem)
        if problem.device.type != "cuda":
            reasons.append(f"the tensors are on {problem.device}, not on a CUDA device")
        if problem.batch_size == 0 or problem.input_size == 0:
            reasons.append("the batch or the input has no elements")
        if problem.proj_size >= problem.hidden_size:  # torch takes equal sizes for no projection
            reasons.append("proj_size is not smaller than the hidden size")
        if problem.variable_length and not reasons and is_capturing(problem.device):
            reasons.append("lengths are read on the host, which a CUDA graph cannot capture")
        return reasons

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep nothing: torch keeps the graph, or backward runs forward again."""
        return (0,)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Run the layer by operations that torch can differentiate."""
        y, h_n, c_n = _forward(problem, args)
        y = y if problem.output_shape[0] else y.new_empty(problem.output_shape)
        return ForwardResult(y, h_n, c_n, y.new_empty(0))

    def backward(
        self,
        problem: Problem,
        args: LayerArgs,
        y: Tensor,
        reserve: Tensor,
        grads: OutputGrads,
        wanted: WantedGrads,
    ) -> InputGrads:
        """Run forward again, recorded, and differentiate it."""

        def run(leaves: LayerArgs) -> tuple[Tensor, ...]:
            return self.forward(problem, leaves)[:3]

        return recorded_gradients(run, args.map(Tensor.detach), grads, wanted)


def _forward(problem: Problem, args: LayerArgs) -> tuple[Tensor, Tensor, Tensor]:
    p, x = problem, args.x
    shape = (p.num_directions, p.batch_size)
    # cuDNN takes dense states only.
    h_0 = x.new_zeros(*shape, p.state_size) if args.h_0 is None else args.h_0.contiguous()
    c_0 = x.new_zeros(*shape, p.hidden_size) if args.c_0 is None else args.c_0.contiguous()
    # has_biases, num_layers, dropout, train, bidirectional; cuDNN keeps what backward needs only
    # if it is told to train.
    options = (True, 1, 0.0, p.training, p.num_directions == 2)
    if args.lengths is not None and args.lengths.is_cuda and is_capturing(x.device):
        # A compiled program may be captured after it was traced: lengths cannot be read then.
        return lstm_reference(args)
    lengths = None if args.lengths is None else _on_host(args.lengths, p.seq_len)
    if lengths is None or int(lengths.min()) == p.seq_len:  # no padding: cuDNN's fastest kernels
        return torch._VF.lstm(x, (h_0, c_0), _flat_params(args), *options, batch_first=False)
    if int(lengths.max()) == 0:  # torch packs no empty batch; the reference takes any
        return lstm_reference(args)
    packing = _Packing.of(lengths, x)
    # One gather and one scatter of the valid steps; torch's own packing copies step by step.
    packed_y, h_last, c_last = torch._VF.lstm(
        x.flatten(0, 1).index_select(0, packing.steps),
        packing.batch_sizes,
        (h_0.index_select(1, packing.rows), c_0.index_select(1, packing.rows)),
        _flat_params(args),
        *options,
    )
    y = x.new_zeros(p.output_shape[0] * p.batch_size, p.num_directions * p.state_size)
    if p.output_shape[0]:
        y.index_copy_(0, packing.steps, packed_y)
    return (
        y.view(p.output_shape),
        h_0.index_copy(1, packing.rows, h_last),  # rows without a step keep their state
        c_0.index_copy(1, packing.rows, c_last),
    )


def _flat_params(args: LayerArgs) -> list[Tensor]:
    """Weights in torch's order, as views of one buffer in cuDNN's.

    Torch compares the addresses with cuDNN's layout. If the buffer starts a storage, has its whole
    size, and each part lies where cuDNN expects it, cuDNN takes the buffer as it is; otherwise
    torch warns and copies. The layout is dense: matrices of all directions, then biases of all
    directions. There are always two biases, so a missing one is filled with zeros.
    """
    zeros = args.w_ih.new_zeros(args.w_ih.shape[:2])
    matrices = [t for t in (args.w_ih, args.w_hh, args.w_hr) if t is not None]
    biases = [zeros if args.bias is None else args.bias, zeros]
    # `unbind` and `split`, not indices: each of their gradients is one copy.
    parts = [
        part
        for group in (matrices, biases)
        for direction in zip(*map(Tensor.unbind, group), strict=True)
        for part in direction
    ]
    flat = torch.cat([part.reshape(-1) for part in parts])
    slices = flat.split_with_sizes([part.numel() for part in parts])
    views = [view.view_as(part) for view, part in zip(slices, parts, strict=True)]
    num_directions, size = len(zeros), len(matrices)
    ordered: list[Tensor] = []
    for d in range(num_directions):
        w_ih, w_hh, *w_hr = views[d * size : (d + 1) * size]
        b_ih, b_hh = views[num_directions * size + 2 * d :][:2]
        ordered += [w_ih, w_hh, b_ih, b_hh, *w_hr]
    return ordered


def _on_host(lengths: Tensor, seq_len: int) -> Tensor:
    # Torch plans a packed run on the host: where lengths are on the GPU, this waits for it. A
    # length outside of the range counts as in the reference; nobody has looked at it on a GPU.
    return lengths.to("cpu", torch.int64).clamp(0, seq_len)


class _Packing(NamedTuple):
    """Where the valid steps of a padded batch lie when they are packed, longest sequence first.

    Attributes
    ----------
    rows : Tensor
        The sequences that have a step at all, longest first.
    steps : Tensor
        Index of each packed step in the padded batch with time and batch taken together.
    batch_sizes : Tensor
        How many sequences reach each step; on the host, as torch wants it.
    """

    rows: Tensor
    steps: Tensor
    batch_sizes: Tensor

    @classmethod
    def of(cls, lengths: Tensor, x: Tensor) -> _Packing:
        """Pack the steps of ``x``; ``lengths`` is on the host, and one of them not zero."""
        seq_len, batch_size, _ = x.shape
        by_length, rows = lengths.sort(descending=True, stable=True)
        ended = torch.bincount(lengths, minlength=seq_len + 1).cumsum(0)  # by each step
        batch_sizes = (batch_size - ended)[: int(by_length[0])]
        rows = rows[: int(batch_sizes[0])].to(x.device)
        firsts = (batch_sizes.cumsum(0) - batch_sizes).to(x.device)  # of each step, when packed
        # The size is known here, so that nobody asks the GPU for it.
        num_steps = int(batch_sizes.sum())
        step = torch.repeat_interleave(batch_sizes.to(x.device), output_size=num_steps)
        place = torch.arange(num_steps, device=x.device) - firsts[step]
        return cls(rows, step * batch_size + rows[place], batch_sizes)
