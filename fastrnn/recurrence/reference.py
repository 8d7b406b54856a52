"""The specification: one LSTM layer in plain torch, differentiable any number of times.

The equations are those of ``torch.nn.LSTM``; what `LayerArgs` has beyond changes them as follows.

- Coupled gates (Greff et al., 2017, "CIFG"): ``f = 1 - i``; there are three gates, i, g, o.
- ``norm`` (Ba et al., 2016, equations 20 to 22): ``z = LN(W_ih x) + LN(W_hh h) + bias`` and
  ``h = o * tanh(LN(c))``, all gates of a step normalised together.
- ``reset``: where true, the state is zero before that step.
- ``recurrent_mask`` (Gal & Ghahramani, 2016): multiplies the state where it enters ``W_hh``.
- ``zoneout`` (Krueger et al., 2017): the share of the state before that a step keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastrnn.recurrence.problem import LayerArgs

NORM_EPS = 1e-5
"""Added to the variance by layer normalisation, as `torch.nn.LayerNorm` does."""


def lstm_reference(args: LayerArgs) -> tuple[Tensor, Tensor, Tensor]:
    """Run one layer step by step.

    ``i, f, o = sigmoid``, ``g = tanh``, ``c = f * c + i * g``, ``h = o * tanh(c)``, then
    ``h = w_hr h`` with a projection. 16-bit inputs are computed in float32 and rounded at the end.
    A sequence's state stands still past its length.

    Parameters
    ----------
    args : LayerArgs
        Checked tensors of one call.

    Returns
    -------
    y : Tensor
        ``[T, B, D * R]``, zero past a sequence's length.
    h_n, c_n : Tensor
        ``[D, B, R]`` and ``[D, B, H]``, after the last valid step.
    """
    dtype = args.x.dtype
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    args = args.map(lambda t: t.to(wide) if t.is_floating_point() else t)
    valid = _valid_steps(args)
    if valid is not None:  # whatever lies in the padding, even NaN, must not reach a gradient
        args = args._replace(x=torch.where(valid, args.x, 0.0))
    results = [_direction(args, d, valid) for d in range(args.w_ih.shape[0])]
    y = torch.cat([result[0] for result in results], dim=-1)
    h_n = torch.stack([result[1] for result in results])
    c_n = torch.stack([result[2] for result in results])
    return y.to(dtype), h_n.to(dtype), c_n.to(dtype)


def _valid_steps(args: LayerArgs) -> Tensor | None:
    """Mask ``[T, B, 1]`` of the steps inside each sequence, or None without lengths."""
    if args.lengths is None:
        return None
    steps = torch.arange(args.x.shape[0], device=args.x.device)
    return (steps[:, None] < args.lengths.to(args.x.device)[None, :]).unsqueeze(-1)


def _direction(
    args: LayerArgs, direction: int, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    cell = _Cell(args, direction)
    cuts = _cuts(args.reset, direction, valid)
    seq_len, batch_size, _ = args.x.shape
    h = args.x.new_zeros(batch_size, cell.state_size)
    c = args.x.new_zeros(batch_size, cell.hidden_size)
    h = h if args.h_0 is None else args.h_0[direction]
    c = c if args.c_0 is None else args.c_0[direction]
    outputs: list[Tensor] = []
    for t in range(seq_len) if direction == 0 else range(seq_len - 1, -1, -1):
        if cuts is not None:  # not a product: NaN has to go as well
            h, c = torch.where(cuts[t], 0.0, h), torch.where(cuts[t], 0.0, c)
        next_h, next_c = cell.step(t, h, c)
        if valid is None:
            h, c = next_h, next_c
            outputs.append(h)
        else:
            h, c = torch.where(valid[t], next_h, h), torch.where(valid[t], next_c, c)
            outputs.append(torch.where(valid[t], next_h, 0.0))
    return torch.stack(outputs if direction == 0 else outputs[::-1]), h, c


def _cuts(reset: Tensor | None, direction: int, valid: Tensor | None) -> Tensor | None:
    """Mask ``[T, B, 1]`` of the steps before which a direction's state becomes zero.

    Backwards it is the step after which a reset comes: both directions cut at the same places.
    """
    if reset is None:
        return None
    cuts = reset.unsqueeze(-1)
    if valid is not None:
        cuts = cuts & valid
    if direction == 0:
        return cuts
    return torch.cat([cuts[1:], torch.zeros_like(cuts[:1])])


class _Cell:
    """One direction's weights, and its input's share of all steps' gates."""

    def __init__(self, args: LayerArgs, direction: int) -> None:
        self.w_hh = args.w_hh[direction]
        self.w_hr = None if args.w_hr is None else args.w_hr[direction]
        self.state_size = self.w_hh.shape[1]
        self.hidden_size = self.state_size if self.w_hr is None else self.w_hr.shape[1]
        self.num_gates = self.w_hh.shape[0] // self.hidden_size
        self.mask = None if args.recurrent_mask is None else args.recurrent_mask[direction]
        self.zoneout = None if args.zoneout is None else args.zoneout[direction]
        self.gains: tuple[Tensor, ...] | None = None
        projected = args.x @ args.w_ih[direction].t()
        if args.norm is not None:
            gates = self.num_gates * self.hidden_size
            sizes = [gates, gates, self.hidden_size, self.hidden_size]
            self.gains = torch.split(args.norm[direction], sizes)
            projected = _normalised(projected) * self.gains[0]
        if args.bias is not None:
            projected = projected + args.bias[direction]
        # At once: the gradient of one step's index would be as large as all steps together.
        self.projected = projected.unbind(0)

    def step(self, t: int, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Give the state after step ``t`` from the one before it."""
        recurrent = (h if self.mask is None else h * self.mask) @ self.w_hh.t()
        if self.gains is not None:
            recurrent = _normalised(recurrent) * self.gains[1]
        z_i, *z_f, z_g, z_o = (self.projected[t] + recurrent).chunk(self.num_gates, dim=-1)
        i = z_i.sigmoid()
        f = z_f[0].sigmoid() if z_f else 1 - i
        next_c = f * c + i * z_g.tanh()
        seen = next_c
        if self.gains is not None:
            seen = _normalised(next_c) * self.gains[2] + self.gains[3]
        next_h = z_o.sigmoid() * seen.tanh()
        if self.w_hr is not None:
            next_h = next_h @ self.w_hr.t()
        if self.zoneout is not None:
            kept = self.zoneout[t if self.zoneout.shape[0] > 1 else 0]
            kept_h, kept_c = torch.split(kept, [self.state_size, self.hidden_size], dim=-1)
            next_h = kept_h * h + (1 - kept_h) * next_h
            next_c = kept_c * c + (1 - kept_c) * next_c
        return next_h, next_c


def _normalised(values: Tensor) -> Tensor:
    """Shift and scale the last dimension to mean 0 and variance 1."""
    return torch.nn.functional.layer_norm(values, values.shape[-1:], eps=NORM_EPS)
