"""Who is measured: `torch.nn.LSTM` and `fastrnn.LSTM` on each backend, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.problem import Problem

from .numerics import DTYPES
from .plan import Cell

BASELINE = "torch"
AUTO = "auto"
# The reference, step by step: too slow to be worth the time.
NOT_MEASURED = frozenset({"eager"})


@dataclass
class Workload:
    """The tensors of a cell on the device; lengths stay on the CPU, where torch wants them."""

    cell: Cell
    x: Tensor
    lengths: Tensor | None
    grad_y: Tensor | None
    module: torch.nn.LSTM

    @classmethod
    def of(cls, cell: Cell, device: torch.device) -> Workload:
        """Random weights and inputs, made on the device."""
        torch.manual_seed(0)
        dtype = DTYPES[cell.precision]
        module = torch.nn.LSTM(
            cell.input_size,
            cell.hidden_size,
            bidirectional=cell.num_directions == 2,
            device=device,
            dtype=dtype,
        )
        shape = (cell.seq_len, cell.batch_size)
        x = torch.randn(*shape, cell.input_size, device=device, dtype=dtype)
        lengths = None
        if cell.packed:
            low = max(1, cell.seq_len // 8)
            lengths = torch.randint(low, cell.seq_len + 1, (cell.batch_size,))
        grad = None
        if cell.training:
            # Random signs: a gradient of ones would overflow float16 in the sums over all steps.
            width = cell.num_directions * cell.hidden_size
            grad = torch.randn(*shape, width, device=device, dtype=dtype) / 4
        return cls(cell, x.requires_grad_(cell.wants_grad_x), lengths, grad, module)


@dataclass
class Peer:
    """One way to do the cell's work; a call returns y, and the gradients if it trains."""

    name: str
    run: Callable[[], list[Tensor]]


def names(device_type: str, only: list[str] | None = None) -> list[str]:
    """Torch, every backend for the device, and `auto`; `only` chooses among the backends."""
    backends = [b.name for b in dispatch.BACKENDS if b.devices is None or device_type in b.devices]
    measured = [b for b in backends if b not in NOT_MEASURED and (not only or b in only)]
    return [BASELINE, *measured, AUTO]


def problem_of(cell: Cell, device: torch.device, *, allow_tf32: bool) -> Problem:
    """The cell as backends are asked about it."""
    return Problem(
        seq_len=cell.seq_len,
        batch_size=cell.batch_size,
        input_size=cell.input_size,
        hidden_size=cell.hidden_size,
        num_directions=cell.num_directions,
        proj_size=0,
        dtype=DTYPES[cell.precision],
        device=device,
        variable_length=cell.packed,
        training=cell.training,
        allow_tf32=allow_tf32,
    )


def why_not(name: str, problem: Problem) -> list[str]:
    """Reasons why a peer cannot do it."""
    return [] if name in (BASELINE, AUTO) else dispatch.backend_by_name(name).supports(problem)


def peer(name: str, work: Workload) -> Peer:
    """A peer, ready to run."""
    if name == BASELINE:
        work.module.flatten_parameters()
        return Peer(name, _mode(work, work.module, _stock(work)))
    cell = work.cell
    ours = fastrnn.LSTM(
        cell.input_size,
        cell.hidden_size,
        bidirectional=cell.num_directions == 2,
        device=work.x.device,
        dtype=work.x.dtype,
    )
    ours.load_state_dict(work.module.state_dict())
    run = _mode(work, ours, lambda: ours(work.x, lengths=work.lengths)[0])

    def forced() -> list[Tensor]:
        with fastrnn.use_backend(name):
            return run()

    return Peer(name, forced)


def _stock(work: Workload) -> Callable[[], Tensor]:
    lengths = work.lengths
    if lengths is None:
        return lambda: work.module(work.x)[0]

    def packed() -> Tensor:
        sequence = pack_padded_sequence(work.x, lengths, enforce_sorted=False)
        y, _ = work.module(sequence)
        return pad_packed_sequence(y, total_length=work.cell.seq_len)[0]

    return packed


def _mode(
    work: Workload, module: torch.nn.Module, forward: Callable[[], Tensor]
) -> Callable[[], list[Tensor]]:
    if not work.cell.training:

        def infer() -> list[Tensor]:
            with torch.inference_mode():
                return [forward()]

        return infer
    inputs = [*module.parameters(), *([work.x] if work.cell.wants_grad_x else [])]

    def train() -> list[Tensor]:
        y = forward()
        return [y.detach(), *torch.autograd.grad(y, inputs, work.grad_y)]

    return train
