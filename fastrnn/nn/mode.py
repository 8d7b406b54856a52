"""Training and evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["mode"]


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode; every module gets its own mode back after.

    Parameters
    ----------
    model
        The model.
    training
        True for training mode, False for evaluation mode.

    Examples
    --------
    >>> from torch import nn
    >>> from fastrnn.nn.mode import mode
    >>> layer = nn.Dropout()
    >>> with mode(layer, training=False):
    ...     print(layer.training)
    False
    >>> layer.training
    True
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training
