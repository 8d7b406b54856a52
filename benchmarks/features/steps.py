"""An LSTM that is computed step by step, sequence by sequence, in float64: what must come out.

It reads a layer's parameters by their names and shares no code with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .feature import compare, gradients


@dataclass(frozen=True)
class Cell:
    """Variants of one step.

    Attributes
    ----------
    layer_norm : bool
        Ba et al. 2016: both shares of the gates are normalised over all four, with a gain each, and
        the cell state, with gain and shift, where it goes into h.
    coupled : bool
        f = 1 - i, and weights of three gates: i, g, o.
    zoneout : tuple of float
        Shares of the former h and c that are mixed into the new ones: Krueger et al. 2017 in
        evaluation.
    keep : Tensor or None
        What h is multiplied with on its way into W_hh, ``[H]``.
    """

    layer_norm: bool = False
    coupled: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    keep: Tensor | None = None

    def step(
        self, weights: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        recurrent = weights["weight_hh"] @ (h if self.keep is None else h * self.keep)
        given = weights["weight_ih"] @ x
        if self.layer_norm:
            given = normed(given) * weights["norm_ih"]
            recurrent = normed(recurrent) * weights["norm_hh"]
        z = given + recurrent
        if "bias_ih" in weights:
            z = z + weights["bias_ih"] + weights["bias_hh"]
        if self.coupled:
            i, g, o = z.chunk(3)
            i = i.sigmoid()
            f = 1 - i
        else:
            i, f, g, o = z.chunk(4)
            i, f = i.sigmoid(), f.sigmoid()
        new_c = f * c + i * g.tanh()
        seen = new_c
        if self.layer_norm:
            seen = normed(new_c) * weights["norm_cell"] + weights["norm_cell_bias"]
        new_h = o.sigmoid() * seen.tanh()
        keep_h, keep_c = self.zoneout
        return keep_h * h + (1 - keep_h) * new_h, keep_c * c + (1 - keep_c) * new_c


def normed(z: Tensor) -> Tensor:
    centred = z - z.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt()


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
NORMS = ("norm_ih", "norm_hh", "norm_cell", "norm_cell_bias")


def by_steps(
    layer: nn.Module,
    x: Tensor,
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    lengths: Sequence[int] | None = None,
    cell: Cell = Cell(),
) -> list[Tensor]:
    """y ``[T, B, D * H]``, h_n and c_n of a layer without projections, time first."""
    _, batch_size, _ = x.shape
    directions = 2 if layer.bidirectional else 1
    shape = (layer.num_layers * directions, batch_size, layer.hidden_size)
    h_0, c_0 = hx or (x.new_zeros(shape), x.new_zeros(shape))
    y, h_n, c_n = x.double(), [], []
    for row in range(layer.num_layers):
        outputs = []
        for d in range(directions):
            suffix = f"_l{row}" + ("_reverse" if d else "")
            weights = {
                name: getattr(layer, name + suffix).double()
                for name in (*NAMES, *(NORMS if cell.layer_norm else ()))
                if hasattr(layer, name + suffix)
            }
            start = (h_0[row * directions + d].double(), c_0[row * directions + d].double())
            output, h, c = _direction(weights, y, start, bool(d), lengths, cell)
            outputs.append(output)
            h_n.append(h)
            c_n.append(c)
        y = torch.cat(outputs, dim=-1)
    return [y, torch.stack(h_n), torch.stack(c_n)]


def _direction(
    weights: dict[str, Tensor],
    x: Tensor,
    start: tuple[Tensor, Tensor],
    backwards: bool,
    lengths: Sequence[int] | None,
    cell: Cell,
) -> tuple[Tensor, Tensor, Tensor]:
    seq_len, batch_size, _ = x.shape
    sequences, h_n, c_n = [], [], []
    for b in range(batch_size):
        h, c = start[0][b], start[1][b]
        valid = range(seq_len if lengths is None else lengths[b])
        outputs = [torch.zeros_like(h)] * seq_len
        for t in reversed(valid) if backwards else valid:
            h, c = cell.step(weights, x[t, b], h, c)
            outputs[t] = h
        sequences.append(torch.stack(outputs))
        h_n.append(h)
        c_n.append(c)
    return torch.stack(sequences, dim=1), torch.stack(h_n), torch.stack(c_n)


def check(
    layer: nn.Module,
    x: Tensor,
    got: Sequence[Tensor],
    want: Sequence[Tensor],
    *,
    retain_graph: bool = False,
) -> None:
    """Compare outputs, and the gradients of x and of all parameters.

    The graph is to be retained where both take a weight that was computed once.
    """
    compare("output", got, want)
    leaves = [t for t in (x, *layer.parameters()) if t.requires_grad]
    found = gradients(got, leaves, retain_graph=retain_graph)
    compare("gradient", found, gradients(want, leaves), tolerance=1e-3)
