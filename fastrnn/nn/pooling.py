"""Masked poolings: one vector per sequence, from the valid steps only.

Each takes the outputs ``y [T, B, F]`` of a recurrent layer and the valid steps ``lengths [B]``
and gives ``[B, out_size]``; that is F for all but `MeanMaxPooling`. What lies past a sequence's
length, and how much of it, makes no difference. A sequence of length zero gives zeros, and zero
gradients.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from fastrnn.nn.padding import blank_steps, valid_mask
from fastrnn.nn.scan import Lengths, valid_steps

__all__ = [
    "POOLINGS",
    "AttentionPooling",
    "LastPooling",
    "MaxPooling",
    "MeanMaxPooling",
    "MeanPooling",
    "Pooling",
    "make_pooling",
]


class Pooling(nn.Module):
    """Base of the poolings.

    Parameters
    ----------
    size : int
        Features F of a step, both directions together.
    bidirectional : bool, default False
        Whether the second half of the features comes from the reverse direction.
    device, dtype : optional
        Of the parameters, where the pooling has any.

    Attributes
    ----------
    out_size : int
        Features of a pooled sequence.
    """

    def __init__(
        self,
        size: int,
        *,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if bidirectional and size % 2:
            raise ValueError(f"size must be even for two directions, got {size}")
        self.size = self.out_size = size
        self.bidirectional = bidirectional

    def extra_repr(self) -> str:
        """Show the settings in the module's repr."""
        return f"{self.size}, bidirectional={self.bidirectional}"

    def _checked(self, y: Tensor, lengths: Lengths | None) -> Tensor | None:
        """Check the arguments; give the lengths as a tensor."""
        if y.dim() != 3 or y.shape[2] != self.size or 0 in y.shape:
            raise ValueError(f"y must have shape [steps, batch, {self.size}], got {tuple(y.shape)}")
        if lengths is None:
            return None
        return valid_steps(lengths, y.shape[1], y.shape[0], unit="steps", device=y.device)


class LastPooling(Pooling):
    """The state at the end of each direction's way.

    The forward features of each sequence's last valid step, and the reverse features of its
    first step, where the reverse direction ends.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.pooling import LastPooling
    >>> y = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
    >>> LastPooling(1)(y, [2])
    tensor([[2.]])
    """

    def forward(
        self, y: Tensor, lengths: Lengths | None = None, *, zero_padded: bool = False
    ) -> Tensor:
        """Pool [T, B, F] to [B, F]; `zero_padded` makes no difference here."""
        lengths = self._checked(y, lengths)
        forward_size = self.size // 2 if self.bidirectional else self.size
        ahead, back = y[..., :forward_size], y[0, :, forward_size:]
        if lengths is None:
            return torch.cat((ahead[-1], back), dim=1)
        last = (lengths - 1).clamp(min=0)[None, :, None].expand(1, -1, forward_size)
        ends = torch.cat((ahead.gather(0, last)[0], back), dim=1)
        return torch.where(lengths[:, None] > 0, ends, 0)

    def pool_state(self, h_n: Tensor) -> Tensor:
        """Give [B, F] from an LSTM's states [layers * D, B, H]: the same, if it began at zero."""
        return h_n[-2 if self.bidirectional else -1 :].transpose(0, 1).flatten(1)


class MeanPooling(Pooling):
    """The mean over the valid steps.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.pooling import MeanPooling
    >>> y = torch.tensor([[[1.0]], [[2.0]], [[9.0]]])
    >>> MeanPooling(1)(y, [2])
    tensor([[1.5000]])
    """

    def forward(
        self, y: Tensor, lengths: Lengths | None = None, *, zero_padded: bool = False
    ) -> Tensor:
        """Pool [T, B, F] to [B, F].

        Parameters
        ----------
        y : Tensor [T, B, F]
            Outputs of a recurrent layer.
        lengths : Tensor [B] or sequence of ints, optional
            Valid steps.
        zero_padded : bool, default False
            Says that y is zero past each length, as `fastrnn.nn.LSTM` leaves it; saves a copy.

        Returns
        -------
        Tensor [B, F]
            The means.
        """
        lengths = self._checked(y, lengths)
        wide = _accumulator(y)
        if lengths is None:
            return y.mean(0, dtype=wide).to(y.dtype)
        if not zero_padded:
            y = blank_steps(y, lengths)
        share = (lengths > 0).to(wide) / lengths.clamp(min=1)
        return (y.sum(0, dtype=wide) * share[:, None]).to(y.dtype)


class MaxPooling(Pooling):
    """The largest value of each feature over the valid steps.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.pooling import MaxPooling
    >>> y = torch.tensor([[[1.0]], [[2.0]], [[9.0]]])
    >>> MaxPooling(1)(y, [2])
    tensor([[2.]])
    """

    def forward(
        self, y: Tensor, lengths: Lengths | None = None, *, zero_padded: bool = False
    ) -> Tensor:
        """Pool [T, B, F] to [B, F]; `zero_padded` makes no difference here."""
        lengths = self._checked(y, lengths)
        if lengths is None:
            return y.amax(0)
        largest = blank_steps(y, lengths, float("-inf")).amax(0)
        return torch.where(lengths[:, None] > 0, largest, 0)


class MeanMaxPooling(Pooling):
    """The mean and the largest value of each feature, side by side: 2 * F features.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.pooling import MeanMaxPooling
    >>> y = torch.tensor([[[1.0]], [[2.0]], [[9.0]]])
    >>> MeanMaxPooling(1)(y, [2])
    tensor([[1.5000, 2.0000]])
    """

    def __init__(
        self,
        size: int,
        *,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, bidirectional=bidirectional)
        self.mean = MeanPooling(size, bidirectional=bidirectional)
        self.max = MaxPooling(size, bidirectional=bidirectional)
        self.out_size = 2 * size

    def forward(
        self, y: Tensor, lengths: Lengths | None = None, *, zero_padded: bool = False
    ) -> Tensor:
        """Pool [T, B, F] to [B, 2 * F]; see `MeanPooling`."""
        mean = self.mean(y, lengths, zero_padded=zero_padded)
        return torch.cat((mean, self.max(y, lengths)), dim=1)


class AttentionPooling(Pooling):
    """A weighted mean whose weights come from learned queries.

    Each head has a query and a share of the features. For a head, step t of a sequence scores
    ``y[t] . query``, over all features; a softmax over the valid steps makes the scores weights
    that sum to 1, and the head's features are their weighted mean: dot-product attention [1]_ with
    a learned query in place of a decoder's state, in several heads [2]_.

    Parameters
    ----------
    size, bidirectional, device, dtype
        See `Pooling`.
    heads : int, default 1
        Number of heads; divides the number of features.

    Attributes
    ----------
    query : Parameter [heads, F]
        Uniform in +-1/sqrt(F) at first.

    References
    ----------
    .. [1] M.-T. Luong, H. Pham, C. D. Manning, "Effective Approaches to Attention-based Neural
       Machine Translation", EMNLP 2015.
    .. [2] A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn.pooling import AttentionPooling
    >>> pooling = AttentionPooling(4)
    >>> pooled, weights = pooling(torch.rand(5, 2, 4), [5, 3], return_weights=True)
    >>> pooled.shape, weights.shape, weights[1, 3:].tolist()
    (torch.Size([2, 4]), torch.Size([2, 5]), [0.0, 0.0])
    """

    def __init__(
        self,
        size: int,
        *,
        bidirectional: bool = False,
        heads: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size, bidirectional=bidirectional)
        if heads < 1 or size % heads:
            raise ValueError(f"heads must be at least 1 and divide size ({size}), got {heads}")
        self.heads = heads
        self.query = nn.Parameter(torch.empty(heads, size, device=device, dtype=dtype))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """Show the settings in the module's repr."""
        return f"{super().extra_repr()}, heads={self.heads}"

    def reset_parameters(self) -> None:
        """Draw the queries anew."""
        bound = self.size**-0.5
        nn.init.uniform_(self.query, -bound, bound)

    @overload
    def forward(
        self,
        y: Tensor,
        lengths: Lengths | None = None,
        *,
        zero_padded: bool = False,
        return_weights: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        y: Tensor,
        lengths: Lengths | None = None,
        *,
        zero_padded: bool = False,
        return_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        y: Tensor,
        lengths: Lengths | None = None,
        *,
        zero_padded: bool = False,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool [T, B, F] to [B, F].

        Parameters
        ----------
        y : Tensor [T, B, F]
            Outputs of a recurrent layer.
        lengths : Tensor [B] or sequence of ints, optional
            Valid steps.
        zero_padded : bool, default False
            Says that y is zero past each length, as `fastrnn.nn.LSTM` leaves it; saves a copy.
        return_weights : bool, default False
            Also give the weights.

        Returns
        -------
        pooled : Tensor [B, F]
            The weighted means.
        weights : Tensor [B, T]
            With `return_weights`: the mean over all heads; zero on padding; a sequence's weights
            sum to 1, or to 0 if its length is zero.
        """
        lengths = self._checked(y, lengths)
        if not zero_padded:
            y = blank_steps(y, lengths)
        scores = (y @ self.query.t()).to(_accumulator(y))  # [T, B, heads]
        if lengths is None:
            weights = scores.softmax(0)
        else:
            padding = ~valid_mask(lengths, y.shape[0])[..., None]
            # A finite floor, not -inf: a softmax of nothing but -inf has NaN gradients.
            floor = torch.finfo(scores.dtype).min
            weights = scores.masked_fill(padding, floor).softmax(0).masked_fill(padding, 0)
        weights = weights.to(y.dtype)
        parts = y.reshape(*y.shape[:2], self.heads, -1)
        pooled = torch.einsum("tbh,tbhf->bhf", weights, parts).flatten(1)
        return (pooled, weights.mean(2).t()) if return_weights else pooled


POOLINGS: dict[str, type[Pooling]] = {
    "last": LastPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "mean+max": MeanMaxPooling,
    "attention": AttentionPooling,
}


def make_pooling(
    name: str,
    size: int,
    *,
    bidirectional: bool = False,
    heads: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Pooling:
    """Make the pooling of a name.

    Parameters
    ----------
    name : {"last", "mean", "max", "mean+max", "attention"}
        A key of `POOLINGS`.
    size, bidirectional, device, dtype
        See `Pooling`.
    heads : int, default 1
        Heads of the attention; 1 for all other poolings.

    Returns
    -------
    Pooling
        A new module.

    Raises
    ------
    ValueError
        If the name is unknown, or has no heads.

    Examples
    --------
    >>> from fastrnn.nn.pooling import make_pooling
    >>> make_pooling("mean", 128, bidirectional=True)
    MeanPooling(128, bidirectional=True)
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {name!r}")
    if name == "attention":
        return AttentionPooling(
            size, bidirectional=bidirectional, heads=heads, device=device, dtype=dtype
        )
    if heads != 1:
        raise ValueError(f"heads is for pooling='attention' only, got {heads} with {name!r}")
    return POOLINGS[name](size, bidirectional=bidirectional, device=device, dtype=dtype)


def _accumulator(y: Tensor) -> torch.dtype:
    """Give the type to sum in: float32 or wider."""
    return torch.promote_types(y.dtype, torch.float32)
