"""LSTMs of fewer parameters: recurrent weights in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastrnn.functional import check_probability
from fastrnn.nn.lstm import LSTM
from fastrnn.nn.state import LSTMState

__all__ = ["LightLSTM"]


class LightLSTM(nn.Module):
    """An LSTM whose hidden units are divided into heads that do not see each other.

    The recurrent weights of a layer are block-diagonal: ``4 * H * H / heads`` numbers instead of
    ``4 * H * H``, as in NX's sLSTM [1]_. All heads read the layer's whole input, so they mix from
    layer to layer. Each head is a `fastrnn.LSTM` of ``H / heads`` units on the fused kernels.
    Together with ``coupled_gates=True`` (three gates instead of four), ``proj_size`` and one
    direction it makes models for small devices.

    Parameters
    ----------
    input_size, hidden_size, num_layers, dropout, bidirectional, proj_size
        As for `fastrnn.LSTM`; ``hidden_size`` and ``proj_size`` are those of all heads together.
    heads : int, default 2
        Number of blocks; divides ``hidden_size`` and ``proj_size``.
    device, dtype
        Of the parameters.
    **options
        Further options of `fastrnn.LSTM`, for each head.

    References
    ----------
    .. [1] M. Beck et al., "xLSTM: Extended Long Short-Term Memory", NeurIPS 2024.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.nn import LightLSTM
    >>> layer = LightLSTM(28, 64, heads=4, coupled_gates=True)
    >>> y, (h_n, c_n) = layer(torch.randn(300, 2, 28), lengths=[300, 220])
    >>> y.shape, h_n.shape
    (torch.Size([300, 2, 64]), torch.Size([1, 2, 64]))
    >>> sum(p.numel() for p in layer.parameters())
    8832
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        heads: int = 2,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, number in (("heads", heads), ("num_layers", num_layers)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {number!r}")
        for name, size in (("hidden_size", hidden_size), ("proj_size", proj_size)):
            if size % heads:
                raise ValueError(f"heads must divide {name} ({size}), got {heads}")
        check_probability("dropout", dropout)
        self.heads = heads
        self.bidirectional = bidirectional
        self.dropout = nn.Dropout(dropout)
        out = (proj_size or hidden_size) * (2 if bidirectional else 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                LSTM(
                    input_size if layer == 0 else out,
                    hidden_size // heads,
                    bidirectional=bidirectional,
                    proj_size=proj_size // heads,
                    device=device,
                    dtype=dtype,
                    **options,
                )
                for _ in range(heads)
            )
            for layer in range(num_layers)
        )

    def forward(
        self,
        input: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        last_state_only: bool = False,
    ) -> tuple[Tensor, LSTMState]:
        """Run all layers.

        Parameters
        ----------
        input : Tensor [T, B, I]
            The sequences; ``[B, T, I]`` with ``batch_first=True``, as is then ``y``.
        lengths : Tensor or sequence of int, optional
            Valid steps of each sequence, ``[B]``; all by default.
        last_state_only : bool, default False
            Return ``y`` without a step, as `fastrnn.LSTM` does.

        Returns
        -------
        y : Tensor [T, B, D * H]
            All heads' forward features, then all heads' reverse features; zero on padding.
        (h_n, c_n) : LSTMState
            ``[num_layers * D, B, H]``, heads side by side.

        Raises
        ------
        TypeError, ValueError
            If the input is no padded batch; else as `fastrnn.LSTM` raises.
        """
        if not isinstance(input, Tensor):
            raise TypeError(f"input must be a tensor [T, B, I], got {type(input).__name__}")
        if input.is_nested or input.dim() != 3:
            found = "a nested tensor" if input.is_nested else f"shape {list(input.shape)}"
            raise ValueError(f"input must be a padded batch [T, B, I], got {found}")
        y, states = input, []
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            if number:
                y = self.dropout(y)
            assert isinstance(layer, nn.ModuleList)
            runs = [
                head(y, lengths=lengths, last_state_only=last and last_state_only) for head in layer
            ]
            y = self._side_by_side([out for out, _ in runs])
            states.append(
                [torch.cat(parts, dim=2) for parts in zip(*(s for _, s in runs), strict=True)]
            )
        h_n, c_n = (torch.cat(parts) for parts in zip(*states, strict=True))
        return y, LSTMState(h_n, c_n)

    def _side_by_side(self, outputs: list[Tensor]) -> Tensor:
        """Join heads; both directions stay apart, as poolings want them."""
        if not self.bidirectional:
            return torch.cat(outputs, dim=2)
        halves = [y.chunk(2, dim=2) for y in outputs]
        return torch.cat([ahead for ahead, _ in halves] + [back for _, back in halves], dim=2)

    def extra_repr(self) -> str:
        """Show the number of heads in the module's repr."""
        return f"heads={self.heads}"
