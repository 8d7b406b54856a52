"""Jagged nested tensors to padded sequences and back, by one index and without a loop.

A jagged tensor ``[B, j, I]`` of `torch.nested` holds its steps one after the other, in
``values [N, I]``: sequence b has those from ``offsets[b]`` on, up to ``offsets[b + 1]`` or, where
the tensor has ``lengths``, as many as these say. What lies between is in no sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Padded", "from_padded", "to_padded", "without_steps"]


class Padded(NamedTuple):
    """The sequences of a jagged tensor side by side.

    Attributes
    ----------
    x : Tensor
        ``[T, B, I]``, zero on padding; T is at least 1.
    lengths : Tensor
        Valid steps ``[B]``.
    places : Tensor
        ``[N]``: which of the T * B steps each row of ``values`` is, T * B for a row of none.
    """

    x: Tensor
    lengths: Tensor
    places: Tensor


def to_padded(nested: Any) -> Padded:
    """Lay the sequences of a jagged tensor side by side.

    Parameters
    ----------
    nested : Tensor
        ``[B, j, I]``, of layout `torch.jagged`. Gradients flow to its values.

    Raises
    ------
    ValueError
        If the layout is another one, or not the second of three dimensions is the ragged one.

    Examples
    --------
    >>> import torch
    >>> sequences = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])]
    >>> nested = torch.nested.nested_tensor(sequences, layout=torch.jagged)
    >>> x, lengths, places = to_padded(nested)
    >>> x[..., 0].tolist(), lengths.tolist(), places.tolist()
    ([[1.0, 3.0], [2.0, 0.0]], [2, 1], [0, 2, 1])
    """
    if nested.layout != torch.jagged:
        raise ValueError(
            f"x is a nested tensor of layout {nested.layout}; it should have layout=torch.jagged"
        )
    if nested.dim() != 3 or nested._ragged_idx != 1:
        raise ValueError(
            f"x has shape {_shape(nested)}; a nested tensor should be [B, j, I], j the ragged one"
        )
    values, offsets = nested.values(), nested.offsets()
    starts = offsets[:-1]
    lengths = offsets.diff() if nested.lengths() is None else nested.lengths()
    batch_size = starts.shape[0]
    seq_len = max(1, _longest(nested)) if batch_size > 0 else 1
    num_steps = seq_len * batch_size

    rows = torch.arange(values.shape[0], dtype=offsets.dtype, device=offsets.device)
    owner = torch.searchsorted(starts, rows, right=True).sub(1).clamp(min=0)
    step = rows - starts[owner]
    is_owned = (step >= 0) & (step < lengths[owner])
    places = torch.where(is_owned, step * batch_size + owner, num_steps)
    # Rows of no sequence go into one more step, which is cut off.
    x = values.new_zeros(num_steps + 1, values.shape[1]).index_copy(0, places, values)
    return Padded(x[:num_steps].view(seq_len, batch_size, values.shape[1]), lengths, places)


def from_padded(y: Tensor, places: Tensor, nested: Any) -> Tensor:
    """Bring padded output into the structure of the jagged input.

    Parameters
    ----------
    y : Tensor
        ``[T, B, F]``.
    places : Tensor
        ``[N]``, from `to_padded`.
    nested : Tensor
        The input that they came from.

    Returns
    -------
    Tensor
        Jagged ``[B, j, F]`` with the input's own offsets and lengths, so that both can be added;
        zero in rows of no sequence.
    """
    nothing = y.new_zeros(1, y.shape[2])
    values = torch.cat([y.flatten(0, 1), nothing]).index_select(0, places)
    return torch.nested.nested_tensor_from_jagged(
        values,
        nested.offsets(),
        nested.lengths(),
        min_seqlen=nested._maybe_min_seqlen,
        max_seqlen=nested._maybe_max_seqlen,
    )


def without_steps(y: Tensor, nested: Any) -> Tensor:
    """Give a jagged ``[B, j, F]`` whose sequences are all empty, for ``y [0, B, F]``."""
    return torch.nested.nested_tensor_from_jagged(
        y.flatten(0, 1), torch.zeros_like(nested.offsets()), min_seqlen=0, max_seqlen=0
    )


def _longest(nested: Any) -> int:
    if torch.compiler.is_compiling():
        # A compiled program must not ask a tensor for a number, but for the shape of another one
        # that is then never made.
        if nested.lengths() is not None:
            nested = torch.nested.nested_tensor_from_jagged(
                nested.values(), lengths=nested.lengths()
            )
        return int(nested.to_padded_tensor(0.0).shape[1])
    # Torch keeps this number with the tensor; `lengths.max()` would wait for a GPU every time.
    return int(nested._get_max_seqlen())


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(str(size) for size in tensor.shape)}]"
