"""Training in little memory: between the passes only the states at every K-th step are kept.

Forward goes through segments of K steps and keeps the state that enters each. Backward takes them
in the opposite order: it runs one forward again, now with all that the backend keeps, and
differentiates it. The two directions meet a segment at different times, so they go one after the
other, and each segment is a call of one direction, which any backend can run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import (
    Backend,
    ForwardResult,
    InputGrads,
    OutputGrads,
    WantedGrads,
)
from fastrnn.recurrence.problem import LayerArgs, Problem, leaves_nothing_out

_WEIGHTS = ("w_ih", "w_hh", "bias", "w_hr", "norm")


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Another backend, in segments of ``problem.checkpoint_every`` steps; y is not kept either."""

    backend: Backend

    def reserve_shape(self, problem: Problem) -> tuple[int, ...]:
        """Keep h and c of each direction before each segment: ``[D, S, B, R + H]``, flat."""
        p = problem
        if not p.training:
            return (0,)
        words = self._dtype(p).itemsize // p.dtype.itemsize
        # Flat: of a symbol for S, an exported program would have to know that it is not 1.
        units = words * (p.state_size + p.hidden_size)
        return (p.num_directions * _num_segments(p) * p.batch_size * units,)

    def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
        """Run one segment after the other; all at once where no backward pass may follow."""
        p, x = problem, args.x
        if not p.training:
            return self.backend.forward(replace(p, checkpoint_every=0), args)
        y = x.new_empty(p.output_shape)
        h_n = x.new_empty(p.num_directions, p.batch_size, p.state_size)
        c_n = x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
        reserve = x.new_empty(self.reserve_shape(p))
        states = self._states(p, reserve)
        for d in range(p.num_directions):
            direction = _Direction(p, args, d, states.dtype)
            h, c = direction.first_state()
            for index in direction.segments:
                states[d, index] = torch.cat([h, c], -1)[0]
                segment = direction.segment(index, h, c)
                y_own, h, c, _ = self.backend.forward(segment.problem, segment.args)
                if not p.last_state_only:
                    direction.part_of(y, segment).copy_(segment.turn(y_own))
            h_n[d], c_n[d] = h[0], c[0]
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
        """Run each segment forward again, then backward; y is not read."""
        p, x = problem, args.x
        states = self._states(p, reserve)
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted.x else None
        grad_h_0 = x.new_empty(p.num_directions, p.batch_size, p.state_size)
        grad_c_0 = x.new_empty(p.num_directions, p.batch_size, p.hidden_size)
        # Sums of many small terms would come to a stand in 16 bits.
        wide = torch.promote_types(p.dtype, torch.float32)
        sums = {
            name: torch.zeros_like(weight, dtype=wide)
            for name in _WEIGHTS
            if getattr(wanted, name) and (weight := getattr(args, name)) is not None
        }
        for d in range(p.num_directions):
            direction = _Direction(p, args, d, states.dtype)
            grad_h, grad_c = direction.last_grads(grads)
            for index in reversed(direction.segments):
                h, c = torch.split(states[d : d + 1, index], [p.state_size, p.hidden_size], -1)
                segment = direction.segment(index, h, c)
                grad_y = None
                if grads.y is not None:
                    grad_y = segment.turn(direction.part_of(grads.y, segment).to(states.dtype))
                found = self._gradients(segment, OutputGrads(grad_y, grad_h, grad_c), wanted)
                grad_h, grad_c = found.h_0, found.c_0
                for name, total in sums.items():
                    total[d] += getattr(found, name)[0]
                if grad_x is not None and found.x is not None:
                    own_x = segment.turn(found.x)
                    grad_x[segment.steps] = own_x if d == 0 else grad_x[segment.steps] + own_x
            grad_h_0[d], grad_c_0[d] = grad_h[0], grad_c[0]  # type: ignore[index]
        return InputGrads(
            x=grad_x,
            h_0=grad_h_0 if wanted.h_0 and args.h_0 is not None else None,
            c_0=grad_c_0 if wanted.c_0 and args.c_0 is not None else None,
            **{name: total.to(p.dtype) for name, total in sums.items()},
        )

    def _gradients(self, segment: _Segment, grads: OutputGrads, wanted: WantedGrads) -> InputGrads:
        backend, args = self.backend, segment.args
        problem = replace(segment.problem, training=True)
        y = reserve = args.x.new_empty(0)
        if backend.reserve_shape(problem) != (0,):  # otherwise its backward runs forward by itself
            y, _, _, reserve = backend.forward(problem, args)
        return backend.backward(
            problem, args, y, reserve, grads, wanted._replace(h_0=True, c_0=True)
        )

    def _states(self, problem: Problem, reserve: Tensor) -> Tensor:
        p = problem
        size = p.state_size + p.hidden_size
        shape = (p.num_directions, _num_segments(p), p.batch_size, size)
        return reserve.view(self._dtype(p)).view(shape)

    def _dtype(self, problem: Problem) -> torch.dtype:
        """Dtype of the segments: that of the state inside the backend, so that nothing is rounded.

        Only kernels for GPUs compute in 16 bits.
        """
        devices = self.backend.devices
        for_gpu = devices is not None and "cuda" in devices
        is_narrow = problem.dtype in (torch.float16, torch.bfloat16)
        return torch.float32 if is_narrow and not for_gpu else problem.dtype


def _num_segments(problem: Problem) -> int:
    return (problem.seq_len + problem.checkpoint_every - 1) // problem.checkpoint_every


class _Turn:
    """The change between the order of time and the order in which a direction goes; undoes itself.

    The last valid step of a sequence comes first where the direction is the reverse one.
    """

    def __init__(self, reverse: bool, lengths: Tensor | None, num_steps: int) -> None:
        self._reverse = reverse
        self._source: Tensor | None = None
        if reverse and lengths is not None:
            steps = torch.arange(num_steps, device=lengths.device)[:, None]
            self._source = torch.where(steps < lengths, lengths - 1 - steps, steps)

    def __call__(self, tensor: Tensor) -> Tensor:
        """Bring ``[K, B, ...]`` into the other order."""
        if not self._reverse:
            return tensor
        if self._source is None:
            return tensor.flip(0)
        source = self._source.to(tensor.device)
        return tensor[source, torch.arange(tensor.shape[1], device=tensor.device)]


class _Segment(NamedTuple):
    """Some steps of one direction as a call of their own, in the order in which it goes."""

    problem: Problem
    args: LayerArgs
    steps: slice
    turn: _Turn


class _Direction:
    """One direction of a layer, cut into segments."""

    def __init__(self, problem: Problem, args: LayerArgs, index: int, dtype: torch.dtype) -> None:
        self._index, self._every = index, problem.checkpoint_every
        self._problem = replace(
            problem, num_directions=1, dtype=dtype, training=False, checkpoint_every=0
        )
        own = {name: getattr(args, name) for name in (*_WEIGHTS, "h_0", "c_0", "recurrent_mask")}
        self._args = args._replace(**{k: self._own(t) for k, t in own.items() if t is not None})
        in_time = range(_num_segments(problem))
        self.segments: Sequence[int] = in_time if index == 0 else in_time[::-1]

    def first_state(self) -> tuple[Tensor, Tensor]:
        """Give h and c before the first segment, ``[1, B, R]`` and ``[1, B, H]``."""
        p, args = self._problem, self._args
        zeros = args.w_ih.new_zeros(1, p.batch_size, p.state_size + p.hidden_size)
        h, c = torch.split(zeros, [p.state_size, p.hidden_size], -1)
        return h if args.h_0 is None else args.h_0, c if args.c_0 is None else args.c_0

    def last_grads(self, grads: OutputGrads) -> tuple[Tensor | None, Tensor | None]:
        """Give the gradients of h and c after the last segment."""
        h, c = (None if g is None else self._own(g) for g in (grads.h_n, grads.c_n))
        return h, c

    def segment(self, index: int, h: Tensor, c: Tensor) -> _Segment:
        """Give a segment, which begins with a state."""
        args, begin = self._args, index * self._every
        steps = slice(begin, min(begin + self._every, self._problem.seq_len))
        num_steps = steps.stop - begin
        lengths = None if args.lengths is None else (args.lengths - begin).clamp(0, num_steps)
        if leaves_nothing_out(lengths, num_steps):
            lengths = None
        turn = _Turn(self._index == 1, lengths, num_steps)
        own = args._replace(
            x=turn(args.x[steps].to(h.dtype)),
            h_0=h,
            c_0=c,
            lengths=lengths,
            reset=None if args.reset is None else self._reset(args.reset, steps, turn),
            zoneout=None if args.zoneout is None else self._zoneout(args.zoneout, steps, turn),
        )
        problem = replace(self._problem, seq_len=num_steps, variable_length=lengths is not None)
        return _Segment(problem, own, steps, turn)

    def part_of(self, y: Tensor, segment: _Segment) -> Tensor:
        """Give this direction's features, in a segment's steps, of ``[T, B, D * R]``."""
        size = self._problem.state_size
        return y[segment.steps].narrow(-1, self._index * size, size)

    def _own(self, tensor: Tensor) -> Tensor:
        """Give this direction's part of ``[D, ...]``."""
        return tensor[self._index : self._index + 1].to(self._problem.dtype)

    def _reset(self, reset: Tensor, steps: slice, turn: _Turn) -> Tensor:
        """Give the steps before which the state becomes zero, in the direction's order.

        Backwards they are those after which a reset comes, be it in the next segment; but not the
        last one of a sequence, where the state is the initial one.
        """
        if self._index == 0:
            return reset[steps]
        cuts = reset[steps.start + 1 : steps.stop + 1]
        if steps.stop == self._problem.seq_len:
            cuts = torch.cat([cuts, torch.zeros_like(reset[:1])])
        if self._args.lengths is not None:
            following = torch.arange(steps.start + 1, steps.stop + 1, device=reset.device)
            cuts = cuts & (following[:, None] < self._args.lengths.to(reset.device))
        return turn(cuts)

    def _zoneout(self, zoneout: Tensor, steps: slice, turn: _Turn) -> Tensor:
        """Give the shares that a segment's steps keep: one draw, whenever it is run."""
        own = zoneout[self._index : self._index + 1]
        if own.shape[1] > 1:  # otherwise all steps have the same
            own = turn(own[0, steps].expand(-1, self._problem.batch_size, -1)).unsqueeze(0)
        return own.to(self._problem.dtype)
