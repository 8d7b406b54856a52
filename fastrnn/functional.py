"""The LSTM as a function: layers, dropout between them, projections."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, as_lengths

__all__ = ["LayerWeights", "lstm"]


class LayerWeights(NamedTuple):
    """Weights of one layer: ``w_ih [D, 4H, I]``, ``w_hh [D, 4H, R]``, ``bias [D, 4H]``,
    ``w_hr [D, P, H]``; gate order i, f, g, o; R is P with a projection and H without. Coupled
    gates have 3H rows, i, g, o. ``norm [D, 10H]`` (``8H`` with coupled gates) is for layer
    normalisation: the gains of the input's and of the state's gates, gain and shift of the cell.
    """  # noqa: D205

    w_ih: Tensor
    w_hh: Tensor
    bias: Tensor | None = None
    w_hr: Tensor | None = None
    norm: Tensor | None = None


def lstm(
    x: Tensor,
    layers: Sequence[LayerWeights],
    hx: tuple[Tensor, Tensor] | None = None,
    *,
    lengths: Tensor | Sequence[int] | None = None,
    reset: Tensor | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    zoneout: tuple[float, float] = (0.0, 0.0),
    training: bool = False,
    last_state_only: bool = False,
    checkpoint_every: int | None = None,
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
    reset : Tensor, optional
        Steps before which the state becomes zero, ``[T, B]``, bool; both directions are cut there.
    dropout : float, default 0.0
        Probability of zeroing an element between two layers, while ``training``.
    recurrent_dropout : float, default 0.0
        Probability of zeroing an element of the state where it enters ``w_hh``, while ``training``;
        one draw for all steps of a sequence.
    zoneout : tuple of float, default (0.0, 0.0)
        Probabilities with which a unit keeps its hidden state, and its cell state, in a step.
        Without ``training`` a state is the expectation of that.
    training : bool, default False
        Whether dropout and zoneout draw.
    last_state_only : bool, default False
        Return no output of the last layer but its state; without gradients, and with
        ``checkpoint_every``, it is not even written.
    checkpoint_every : int, optional
        Train in little memory: keep each layer's states at every so many steps only, and run the
        steps between them forward again in the backward pass; see `fastrnn.LSTM`.
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
    if not torch.compiler.is_compiling():  # which would take the numbers for symbols
        check_probability("dropout", dropout)
        check_probability("recurrent_dropout", recurrent_dropout)
        check_zoneout(zoneout)
        check_checkpoint_every(checkpoint_every)
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
            layer.norm,
            lengths,
            reset,
            _recurrent_mask(y, layer, recurrent_dropout) if training else None,
            _kept_shares(y, layer, zoneout, training),
        )
        is_last = i == len(layers) - 1
        y, h, c = lstm_layer(
            args,
            backend,
            last_state_only=last_state_only and is_last,
            checkpoint_every=checkpoint_every,
        )
        h_n.append(h)
        c_n.append(c)
    if len(layers) == 1:
        return y, (h_n[0], c_n[0])
    return y, (torch.cat(h_n), torch.cat(c_n))


def check_probability(name: str, value: float) -> None:
    """Raise a `ValueError` unless a number is between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; it should be a probability, from 0 to 1")


def check_zoneout(zoneout: tuple[float, float]) -> None:
    """Raise a `ValueError` unless it is a pair of probabilities."""
    if not isinstance(zoneout, tuple) or len(zoneout) != 2:
        raise ValueError(
            f"zoneout is {zoneout!r}; it should be two probabilities, of the hidden state and of "
            "the cell state"
        )
    for value in zoneout:
        check_probability("zoneout", value)


def check_checkpoint_every(checkpoint_every: int | None) -> None:
    """Raise a `ValueError` unless it is None or a number of steps, at least 1."""
    if checkpoint_every is None:
        return
    is_int = isinstance(checkpoint_every, int) and not isinstance(checkpoint_every, bool)
    if not is_int or checkpoint_every < 1:
        raise ValueError(
            f"checkpoint_every is {checkpoint_every!r}; it should be None or a whole number of "
            "steps, at least 1"
        )


def _recurrent_mask(x: Tensor, layer: LayerWeights, probability: float) -> Tensor | None:
    """Draw what the state is multiplied by: ``[D, B, R]``, 0 or 1 / (1 - p)."""
    if probability == 0:
        return None
    num_directions, _, state_size = layer.w_hh.shape
    ones = x.new_ones(num_directions, x.shape[1], state_size)
    return torch.nn.functional.dropout(ones, probability)


def _kept_shares(
    x: Tensor, layer: LayerWeights, zoneout: tuple[float, float], training: bool
) -> Tensor | None:
    """Give the shares of the state that steps keep, ``[D, T or 1, B or 1, R + H]``."""
    if zoneout == (0, 0):
        return None
    num_directions, _, state_size = layer.w_hh.shape
    hidden_size = state_size if layer.w_hr is None else layer.w_hr.shape[2]
    seq_len, batch_size = x.shape[:2] if training else (1, 1)
    shares = [
        # Not x.new_full: vmap with randomness="same" refuses to draw from what it batches.
        torch.full(
            (num_directions, seq_len, batch_size, size),
            probability,
            dtype=x.dtype,
            device=x.device,
        )
        for size, probability in zip((state_size, hidden_size), zoneout, strict=True)
    ]
    kept = torch.cat(shares, dim=-1)
    return torch.bernoulli(kept) if training else kept


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
    if num_layers == 1:
        return [hx[0]], [hx[1]]
    h_0, c_0 = (list(torch.split(state, num_directions)) for state in hx)
    return h_0, c_0
