"""The LSTM as a function: layers, dropout between them, projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, as_lengths

__all__ = ["LayerWeights", "lstm"]


class LayerWeights(NamedTuple):
    """Weights of one layer: ``w_ih [D, 4H, I]``, ``w_hh [D, 4H, R]``, ``bias [D, 4H]``,
    ``w_hr [D, P, H]``; gate order i, f, g, o; R is P with a projection and H without.
    """  # noqa: D205

    w_ih: Tensor
    w_hh: Tensor
    bias: Tensor | None = None
    w_hr: Tensor | None = None


def lstm(
    x: Tensor,
    layers: Sequence[LayerWeights],
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    lengths: Tensor | Sequence[int] | None = None,
    dropout: float = 0.0,
    training: bool = False,
    last_state_only: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a stack of LSTM layers over padded sequences.

    Parameters
    ----------
    x : Tensor
        Input, ``[T, B, I]``, time first.
    layers : sequence of LayerWeights
        One per layer, all with the same number of directions D.
    hx : tuple of Tensor, optional
        Initial state ``h_0 [L * D, B, R]`` and ``c_0 [L * D, B, H]`` for L layers; zeros by
        default.
    lengths : Tensor or sequence of int, optional
        Valid steps of each sequence, ``[B]``, from 0 to T; all T by default. Steps beyond cost no
        arithmetic, come out as zeros, and get zero gradients.
    dropout : float, default 0.0
        Probability of zeroing an element between two layers, while ``training``.
    training : bool, default False
        Whether dropout applies.
    last_state_only : bool, default False
        Return no output of the last layer but its state; without gradients it is not even written.
    backend : str, optional
        Force a backend by name; see `fastrnn.use_backend`.

    Returns
    -------
    y : Tensor
        Output of the last layer, ``[T, B, D * R]``; ``[0, B, D * R]`` if ``last_state_only``.
    (h_n, c_n) : tuple of Tensor
        State after each sequence's last valid step, ``[L * D, B, R]`` and ``[L * D, B, H]``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong dtype, shape, device or value.

    Examples
    --------
    >>> layer = LayerWeights(torch.randn(1, 32, 3), torch.randn(1, 32, 8))
    >>> y, (h_n, c_n) = lstm(torch.randn(10, 2, 3), [layer], lengths=[10, 4])
    >>> y.shape, h_n.shape
    (torch.Size([10, 2, 8]), torch.Size([1, 2, 8]))
    """
    if not layers:
        raise ValueError("layers is empty; it should have the weights of at least one layer")
    num_directions = layers[0].w_ih.shape[0]
    lengths = None if lengths is None else as_lengths(lengths)
    h_0, c_0 = (None, None) if hx is None else _split_state(hx, len(layers), num_directions)
    y = x
    h_n: list[Tensor] = []
    c_n: list[Tensor] = []
    for i, layer in enumerate(layers):
        if i > 0 and dropout > 0 and training:
            y = torch.nn.functional.dropout(y, dropout)
        args = LayerArgs(
            y,
            layer.w_ih,
            layer.w_hh,
            layer.bias,
            layer.w_hr,
            None if h_0 is None else h_0[i],
            None if c_0 is None else c_0[i],
            lengths=lengths,
        )
        is_last = i == len(layers) - 1
        y, h, c = lstm_layer(args, backend, last_state_only=last_state_only and is_last)
        h_n.append(h)
        c_n.append(c)
    if len(layers) == 1:
        return y, (h_n[0], c_n[0])
    return y, (torch.cat(h_n), torch.cat(c_n))


def _split_state(
    hx: tuple[Tensor, Tensor], num_layers: int, num_directions: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Split ``[L * D, ...]`` states into one ``[D, ...]`` per layer."""
    for name, state in zip(("h_0", "c_0"), hx, strict=True):
        if state.dim() != 3 or state.shape[0] != num_layers * num_directions:
            raise ValueError(
                f"{name} has shape {list(state.shape)}; its first dimension should be layers * "
                f"directions = {num_layers * num_directions}, of three dimensions"
            )
    h_0, c_0 = (list(torch.split(state, num_directions)) for state in hx)
    return h_0, c_0
