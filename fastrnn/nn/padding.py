"""What lies past the ends of a batch's sequences: where it is, and how to stop it.

Selecting, unlike multiplying by a mask, also stops NaN and infinity, and their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blank_columns", "blank_steps", "valid_mask"]


def valid_mask(lengths: Tensor, steps: int) -> Tensor:
    """Say which steps are valid: bool ``[steps, B]`` for lengths ``[B]``."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def blank_steps(steps: Tensor, lengths: Tensor | None, value: float = 0) -> Tensor:
    """Overwrite what lies past each sequence's length.

    Parameters
    ----------
    steps : Tensor [T, B, F]
        The sequences, of any dtype.
    lengths : Tensor [B] or None
        Valid steps; None if all are.
    value : float, default 0
        What padding becomes.

    Returns
    -------
    Tensor [T, B, F]
        A new tensor; the given one without lengths.

    Examples
    --------
    >>> blank_steps(torch.ones(3, 2, 1), torch.tensor([3, 1]))[..., 0].tolist()
    [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    """
    if lengths is None:
        return steps
    return torch.where(valid_mask(lengths, steps.shape[0])[..., None], steps, value)


def blank_columns(strips: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero the columns past each strip's length, as `blank_steps` does: ``[B, C, H, W]``."""
    if lengths is None:
        return strips
    valid = valid_mask(lengths, strips.shape[3]).t()
    return torch.where(valid[:, None, None], strips, 0)
