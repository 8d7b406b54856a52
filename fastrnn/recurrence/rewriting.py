"""Layers written as other layers with the same results, which more kernels can run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from fastrnn.recurrence.problem import LayerArgs, Problem

_UNTOUCHED_BY_MERGING = frozenset({"coupled_gates", "reset"})


def uncoupled(args: LayerArgs, problem: Problem) -> tuple[LayerArgs, Problem]:
    """Give coupled gates four: 1 - sigmoid(z) = sigmoid(-z), so f has i's weights, negated."""

    def four(weight: Tensor) -> Tensor:
        i, g, o = weight.chunk(3, dim=1)
        return torch.cat([i, -i, g, o], dim=1)

    args = args._replace(
        w_ih=four(args.w_ih),
        w_hh=four(args.w_hh),
        bias=None if args.bias is None else four(args.bias),
    )
    others = tuple(variant for variant in problem.variants if variant != "coupled_gates")
    return args, replace(problem, variants=others)


def can_merge_projection(problem: Problem) -> bool:
    """Whether `with_merged_projection` may be used: the state enters nothing but ``w_hh``."""
    return problem.proj_size > 0 and _UNTOUCHED_BY_MERGING.issuperset(problem.variants)


def with_merged_projection(args: LayerArgs) -> LayerArgs:
    """Write a layer with a projection as one without, which keeps ``m = o * tanh(c)``.

    ``w_hh h = w_hh (w_hr m) = (w_hh w_hr) m``, so the recurrent weights are the product. There need
    be no ``m`` for the initial state: it comes as an input of each direction's first step. 16-bit
    numbers become float32, as the product would be rounded. `projected` has the way back.
    """
    args = args.map(_widened)
    assert args.w_hr is not None
    merged = args._replace(w_hh=args.w_hh @ args.w_hr, w_hr=None, h_0=None)
    if args.h_0 is None:
        return merged
    return merged._replace(
        x=_beside(args.x, _first_inputs(args, args.h_0)),
        w_ih=_beside(args.w_ih, _side_by_side(args.w_hh)),
    )


def projected(
    outputs: tuple[Tensor, Tensor, Tensor], args: LayerArgs
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn what the layer of `with_merged_projection` returned into the results of `args`' own."""
    y, m_n, c_n = outputs
    assert args.w_hr is not None
    w_hr = _widened(args.w_hr)
    parts = torch.split(y, w_hr.shape[2], dim=-1)
    y = torch.cat([linear(part, w) for part, w in zip(parts, w_hr, strict=True)], dim=-1)
    h_n = torch.stack([linear(m, w) for m, w in zip(m_n, w_hr, strict=True)])
    if args.h_0 is not None and args.lengths is not None:
        is_empty = (args.lengths == 0).to(h_n.device)[:, None]
        h_n = torch.where(is_empty, _widened(args.h_0), h_n)
    dtype = args.x.dtype
    return y.to(dtype), h_n.to(dtype), c_n.to(dtype)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _beside(left: Tensor, right: Tensor) -> Tensor:
    """Join last dimensions like `torch.cat`, whose gradients would be views with gaps."""
    return pad(left, (0, right.shape[-1])) + pad(right, (left.shape[-1], 0))


def _side_by_side(w_hh: Tensor) -> Tensor:
    """Weights ``[D, G, P]`` as ``[D, G, D * P]``: each direction takes its own part of an input."""
    if w_hh.shape[0] == 1:
        return w_hh
    forward, backward = w_hh.unbind(0)
    nothing = torch.zeros_like(forward)
    return torch.stack([torch.cat([forward, nothing], -1), torch.cat([nothing, backward], -1)])


def _first_inputs(args: LayerArgs, h_0: Tensor) -> Tensor:
    """Give initial states where their directions begin, zeros elsewhere: ``[T, B, D * P]``."""
    seq_len, batch_size, _ = args.x.shape
    steps = torch.arange(seq_len, device=h_0.device)[:, None]
    last = torch.full_like(steps[:1], seq_len - 1).expand(1, batch_size)
    if args.lengths is not None:
        last = args.lengths.to(h_0.device)[None, :] - 1
    first = h_0[0]
    if args.reset is not None:  # both directions are cut before a step: backwards, after it began
        first = torch.where(args.reset[0][:, None], 0.0, first)
    parts = [torch.where((steps == 0)[:, :, None], first, 0.0)]
    if h_0.shape[0] == 2:
        parts.append(torch.where((steps == last)[:, :, None], h_0[1], 0.0))
    return torch.cat([part.expand(seq_len, batch_size, -1) for part in parts], dim=-1)
