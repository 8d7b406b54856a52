"""The specification: one LSTM layer in plain torch, differentiable any number of times."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrnn.recurrence.problem import LayerArgs


def lstm_reference(args: LayerArgs) -> tuple[Tensor, Tensor, Tensor]:
    """Run one layer step by step.

    The equations are those of ``torch.nn.LSTM``: ``i, f, o = sigmoid``, ``g = tanh``,
    ``c = f * c + i * g``, ``h = o * tanh(c)``, then ``h = w_hr h`` with a projection. 16-bit inputs
    are computed in float32 and rounded at the end. A sequence's state stands still past its length.

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
    x, w_hh = args.x, args.w_hh[direction]
    w_hr = None if args.w_hr is None else args.w_hr[direction]
    seq_len, batch_size, _ = x.shape
    hidden_size = w_hh.shape[0] // 4
    h = x.new_zeros(batch_size, w_hh.shape[1]) if args.h_0 is None else args.h_0[direction]
    c = x.new_zeros(batch_size, hidden_size) if args.c_0 is None else args.c_0[direction]
    projected = x @ args.w_ih[direction].t()
    if args.bias is not None:
        projected = projected + args.bias[direction]
    outputs: list[Tensor] = []
    for t in range(seq_len) if direction == 0 else range(seq_len - 1, -1, -1):
        z_i, z_f, z_g, z_o = (projected[t] + h @ w_hh.t()).chunk(4, dim=-1)
        next_c = z_f.sigmoid() * c + z_i.sigmoid() * z_g.tanh()
        next_h = z_o.sigmoid() * next_c.tanh()
        if w_hr is not None:
            next_h = next_h @ w_hr.t()
        if valid is None:
            h, c = next_h, next_c
            outputs.append(h)
        else:
            h, c = torch.where(valid[t], next_h, h), torch.where(valid[t], next_c, c)
            outputs.append(torch.where(valid[t], next_h, 0.0))
    return torch.stack(outputs if direction == 0 else outputs[::-1]), h, c
