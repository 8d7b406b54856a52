"""The state of an LSTM between two calls, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree

from fastrnn.recurrence.problem import can_be_read

__all__ = ["LSTMState"]

_INDEX_DTYPES = (torch.int32, torch.int64)


class LSTMState(NamedTuple):
    """Hidden state and cell state of all layers; what one call leaves and the next may go on from.

    It is a pair: ``h, c = state``, ``state[0]`` is ``h``, and wherever it is taken a plain tuple
    of the two tensors does as well. Nothing changes it in place: each method gives a new one.

    Attributes
    ----------
    h : Tensor
        ``[L * D, B, R]`` for L layers and D directions, in `torch.nn.LSTM`'s order. R is the size
        of a projection, and H without one. ``[L * D, R]`` for one sequence without a batch.
    c : Tensor
        ``[L * D, B, H]``; ``[L * D, H]`` without a batch.

    Notes
    -----
    Tools of torch that go through tuples go through it. `torch.export` wants its dynamic shapes in
    the same form: ``LSTMState({1: batch}, {1: batch})``. A module traced by `torch.jit.trace` gives
    a plain tuple.

    Examples
    --------
    A long recording in pieces, without gradients from one piece to the one before:

    >>> import torch
    >>> from fastrnn import LSTM
    >>> layer, state = LSTM(3, 8), None
    >>> for piece in torch.randn(100, 2, 3).split(25):
    ...     y, state = layer(piece, state)
    ...     state = state.detach()
    >>> state.h.shape
    torch.Size([1, 2, 8])

    A new recording begins in the second place of the batch:

    >>> state = state.reset(torch.tensor([False, True]))
    >>> state.c[:, 1].abs().max().item()
    0.0
    """

    h: Tensor
    c: Tensor

    def detach(self) -> LSTMState:
        """Cut it off from the calls that it came from: no gradients flow back through it."""
        return LSTMState(self.h.detach(), self.c.detach())

    def clone(self) -> LSTMState:
        """Copy both tensors; gradients flow through."""
        return LSTMState(self.h.clone(), self.c.clone())

    def to(self, *args: Any, **kwargs: Any) -> LSTMState:
        """Move or convert both tensors; arguments as of `torch.Tensor.to`."""
        return LSTMState(self.h.to(*args, **kwargs), self.c.to(*args, **kwargs))

    def sequences(self, which: int | slice) -> LSTMState:
        """Take the state of some sequences, as views.

        It has a name because ``state[0]`` is ``h``, as of every pair.

        Parameters
        ----------
        which : int or slice
            Places in the batch. An int gives the state of one sequence without a batch,
            ``[L * D, R]`` and ``[L * D, H]``.

        Raises
        ------
        TypeError
            If it is neither.
        IndexError
            If there is no such sequence.
        ValueError
            If the state has no batch, or the slice a negative step.

        Examples
        --------
        >>> state = LSTMState(torch.zeros(2, 5, 8), torch.zeros(2, 5, 8))
        >>> state.sequences(slice(1, 4)).h.shape, state.sequences(0).h.shape
        (torch.Size([2, 3, 8]), torch.Size([2, 8]))
        """
        batch_size = _batch_size(self)
        if isinstance(which, bool) or not isinstance(which, int | slice):
            raise TypeError(
                f"which is a {type(which).__name__}; it should be an int or a slice "
                "(reorder takes a tensor)"
            )
        if isinstance(which, int) and not -batch_size <= which < batch_size:
            raise IndexError(f"which is {which}, but the state has {batch_size} sequences")
        if isinstance(which, slice) and which.step is not None and which.step < 1:
            raise ValueError(f"which has step {which.step}; it should be at least 1")
        return LSTMState(self.h[:, which], self.c[:, which])

    def reorder(self, index: Tensor) -> LSTMState:
        """Take sequences in any order, some of them several times, as a beam search does.

        Parameters
        ----------
        index : Tensor
            ``[K]``, int64 or int32: the place in the batch that each new sequence comes from.

        Returns
        -------
        LSTMState
            Copies, ``[L * D, K, R]`` and ``[L * D, K, H]``. A sequence's gradient is the sum of
            those of its copies.

        Raises
        ------
        TypeError
            If the index is no tensor of integers.
        ValueError
            If it is not of one dimension, or the state has no batch.
        IndexError
            If a value lies outside ``0..B-1``; on an accelerator torch finds it, later.

        Examples
        --------
        >>> state = LSTMState(torch.arange(3.0).view(1, 3, 1), torch.zeros(1, 3, 1))
        >>> state.reorder(torch.tensor([2, 2, 0])).h.flatten()
        tensor([2., 2., 0.])
        """
        batch_size = _batch_size(self)
        if not isinstance(index, Tensor):
            raise TypeError(f"index is a {type(index).__name__}; it should be a tensor [K]")
        if index.dtype not in _INDEX_DTYPES:
            raise TypeError(f"index has dtype {index.dtype}; it should be torch.int64")
        if index.dim() != 1:
            raise ValueError(f"index has shape {list(index.shape)}; it should be [K]")
        if can_be_read(index):
            low, high = (int(bound) for bound in torch.aminmax(index))
            if low < 0 or high >= batch_size:
                raise IndexError(
                    f"index goes from {low} to {high}; it should lie between 0 and "
                    f"{batch_size - 1}, as the state has {batch_size} sequences"
                )
        return LSTMState(*(part.index_select(1, index.to(part.device)) for part in self))

    def reset(
        self, mask: Tensor, initial: LSTMState | tuple[Tensor, Tensor] | None = None
    ) -> LSTMState:
        """Put some sequences back to the beginning.

        Parameters
        ----------
        mask : Tensor
            ``[B]``, bool: true where a new sequence begins.
        initial : LSTMState or tuple of Tensor, optional
            What it begins with: shapes as of this state, or with 1 in the place of ``L * D`` or B.
            Zeros by default.

        Returns
        -------
        LSTMState
            What was there before is gone where the mask is true, NaN included, and no gradients
            flow back through it.

        Raises
        ------
        TypeError
            If the mask is no tensor of booleans.
        ValueError
            If a shape is wrong, or the state has no batch.
        """
        batch_size = _batch_size(self)
        if not isinstance(mask, Tensor):
            raise TypeError(f"mask is a {type(mask).__name__}; it should be a bool tensor [B]")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {mask.dtype}; it should be torch.bool")
        if mask.dim() != 1 or mask.shape[0] != batch_size:
            raise ValueError(
                f"mask has shape {list(mask.shape)}; it should be [{batch_size}], one per sequence"
            )
        if initial is not None:
            _check_initial(self, initial)
        mask = mask.to(self.h.device)[:, None]
        # Multiplying by zero would keep NaN.
        h, c = (
            torch.where(mask, 0 if initial is None else initial[i], part)
            for i, part in enumerate(self)
        )
        return LSTMState(h, c)

    @classmethod
    def cat(cls, states: Sequence[LSTMState | tuple[Tensor, Tensor]]) -> LSTMState:
        """Put the sequences of several states into one batch.

        Parameters
        ----------
        states : sequence of LSTMState or tuple of Tensor
            At least one; they agree in everything but B.

        Raises
        ------
        ValueError
            If there is none, one has no batch, or the shapes do not fit.

        Examples
        --------
        >>> part = LSTMState(torch.zeros(2, 5, 8), torch.zeros(2, 5, 8))
        >>> LSTMState.cat([part, part.sequences(slice(2))]).h.shape
        torch.Size([2, 7, 8])
        """
        if not states:
            raise ValueError("states is empty; it should have at least one state")
        for i, state in enumerate(states):
            _batch_size(state)
            sizes, first = (
                [(part.shape[0], part.shape[2]) for part in s] for s in (state, states[0])
            )
            if sizes != first:
                raise ValueError(
                    f"states[{i}] has shapes {_shapes(state)}, states[0] has {_shapes(states[0])}; "
                    "they should differ in the second dimension only"
                )
        return cls(torch.cat([h for h, _ in states], 1), torch.cat([c for _, c in states], 1))


def _batch_size(state: tuple[Tensor, Tensor]) -> int:
    h, c = state
    if h.dim() != 3 or c.dim() != 3:
        raise ValueError(
            f"the state has shapes {_shapes(state)}; it should have a batch: [L * D, B, R] and "
            "[L * D, B, H]"
        )
    return h.shape[1]


def _check_initial(state: LSTMState, initial: tuple[Tensor, Tensor]) -> None:
    for name, part, start in zip("hc", state, initial, strict=True):
        fits = start.dim() == part.dim() and start.shape[2] == part.shape[2]
        if not fits or any(start.shape[d] not in (1, part.shape[d]) for d in (0, 1)):
            raise ValueError(
                f"initial has shape {list(start.shape)} for {name}; it should be "
                f"{list(part.shape)}, or 1 in the place of the first two"
            )


def _shapes(state: tuple[Tensor, Tensor]) -> str:
    return f"{list(state[0].shape)} and {list(state[1].shape)}"


# So that an exported program that takes or returns a state can be saved; torch has no other way.
_pytree._register_namedtuple(LSTMState, serialized_type_name="fastrnn.LSTMState")
# A pair of tensors runs no code: `torch.load` may read it with `weights_only`.
torch.serialization.add_safe_globals([LSTMState])
