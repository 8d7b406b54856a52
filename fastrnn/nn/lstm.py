"""A drop-in for `torch.nn.LSTM` that runs on the package's fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastrnn.functional import LayerWeights, lstm
from fastrnn.nn import jagged
from fastrnn.nn.state import LSTMState

State = LSTMState | tuple[Tensor, Tensor]


class LSTM(nn.RNNBase):
    """Long short-term memory, with `torch.nn.LSTM`'s parameters, results and checkpoints.

    Parameters
    ----------
    input_size, hidden_size : int
        Features I of a step, and hidden units H.
    num_layers : int, default 1
        Layers on top of each other.
    bias : bool, default True
        Whether the layers have biases.
    batch_first : bool, default False
        Whether padded input and output are ``[B, T, ...]`` instead of ``[T, B, ...]``; states are
        not affected. Time first is the kernels' layout and saves a copy.
    dropout : float, default 0.0
        Probability of zeroing an element between two layers, in training mode.
    bidirectional : bool, default False
        Whether a second set of weights runs from the end to the start.
    proj_size : int, default 0
        If positive, project the recurrent state to this size P.
    device, dtype
        Of the parameters.

    Notes
    -----
    It derives from `torch.nn.RNNBase`, not from `torch.nn.LSTM`: the compiler of torch breaks its
    graph at every instance of the latter.

    Examples
    --------
    >>> import torch
    >>> from fastrnn import LSTM
    >>> layer = LSTM(28, 64, bidirectional=True)
    >>> strips = torch.randn(300, 4, 28)
    >>> y, (h_n, c_n) = layer(strips, lengths=[300, 220, 160, 0])
    >>> y.shape, h_n.shape
    (torch.Size([300, 4, 128]), torch.Size([2, 4, 64]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        last_state_only: bool = False,
    ) -> tuple[Any, LSTMState]:
        """Run all layers.

        Parameters
        ----------
        x : Tensor or PackedSequence
            ``[T, B, I]`` (``[B, T, I]`` if ``batch_first``), ``[T, I]`` without a batch, packed
            sequences, or a nested tensor of layout `torch.jagged`, which is ``[B, j, I]``
            whatever ``batch_first`` says.
        hx : LSTMState or tuple of Tensor, optional
            ``h_0 [L * D, B, R]`` and ``c_0 [L * D, B, H]`` (without B for input without a batch),
            where R is P with a projection and H otherwise; zeros by default.
        lengths : Tensor or sequence of int, optional
            Valid steps of each padded sequence, ``[B]``, from 0 to T. Padding costs no arithmetic.
        last_state_only : bool, default False
            Return ``y`` without a step: whoever needs the last state alone saves its memory. Not
            for packed sequences.

        Returns
        -------
        y : Tensor or PackedSequence
            Output of the last layer in the form of ``x``, ``D * R`` features, zero on padding.
            Jagged output has the offsets of ``x``: the two can be added.
        (h_n, c_n) : LSTMState
            State after the last valid step, shaped like ``hx``; for packed sequences in the
            caller's order.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If an argument has the wrong type, dtype, shape or value; as `torch.nn.LSTM` raises.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths is given for a PackedSequence, which has its own lengths")
            if last_state_only:
                raise ValueError("last_state_only is True for a PackedSequence; pad it instead")
            return self._forward_packed(x, hx)
        if x.is_nested:
            if lengths is not None:
                raise ValueError("lengths is given for a nested tensor, which has its own lengths")
            return self._forward_jagged(x, hx, last_state_only)
        if x.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {x.dim()}D instead")
        if x.dim() == 2:
            return self._forward_unbatched(x, hx, lengths, last_state_only)
        self.check_input(x, None)
        if self.batch_first:
            x = x.transpose(0, 1)
        if hx is not None:
            self._check_state(hx, x.shape[1])
        y, state = self._run(x, hx, lengths, last_state_only)
        return (y.transpose(0, 1) if self.batch_first else y), state

    def initial_state(self, batch_size: int) -> LSTMState:
        """Give the zeros that `forward` begins with where it is given no state.

        Parameters
        ----------
        batch_size : int
            Sequences B.

        Returns
        -------
        LSTMState
            ``[L * D, B, R]`` and ``[L * D, B, H]``, in the weights' dtype and on their device.

        Raises
        ------
        ValueError
            If the batch size is negative.
        """
        if batch_size < 0:
            raise ValueError(f"batch_size is {batch_size}; it should be at least 0")
        weight = self._layer_weights(0).w_hh
        rows, state_size, hidden_size = self._state_sizes()
        return LSTMState(
            weight.new_zeros(rows, batch_size, state_size),
            weight.new_zeros(rows, batch_size, hidden_size),
        )

    def _forward_unbatched(
        self,
        x: Tensor,
        hx: State | None,
        lengths: Tensor | Sequence[int] | None,
        last_state_only: bool,
    ) -> tuple[Tensor, LSTMState]:
        if lengths is not None:
            raise ValueError("lengths is given for a 2-D input, one sequence; cut x instead")
        if hx is not None:
            if hx[0].dim() != 2 or hx[1].dim() != 2:
                raise RuntimeError(
                    "For unbatched 2-D input, hx[0] and hx[1] should also be 2-D but got "
                    f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
                )
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            self._check_state(hx, 1)
        x = x.unsqueeze(1)
        self.check_input(x, None)
        y, state = self._run(x, hx, None, last_state_only)
        return y.squeeze(1), state.sequences(0)

    def _forward_packed(
        self, packed: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, LSTMState]:
        self.check_input(packed.data, packed.batch_sizes)
        x, lengths = pad_packed_sequence(packed)  # both in the caller's order
        if hx is not None:
            self._check_state(hx, x.shape[1])
        y, state = self._run(x, hx, lengths)
        if packed.sorted_indices is not None:
            y = y.index_select(1, packed.sorted_indices)
            lengths = lengths.index_select(0, packed.sorted_indices.cpu())
        data = pack_padded_sequence(y, lengths).data
        return (
            PackedSequence(
                data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
            ),
            state,
        )

    def _forward_jagged(
        self, x: Tensor, hx: State | None, last_state_only: bool
    ) -> tuple[Tensor, LSTMState]:
        padded, lengths, places = jagged.to_padded(x)
        self.check_input(padded, None)
        if hx is not None:
            self._check_state(hx, padded.shape[1])
        y, state = self._run(padded, hx, lengths, last_state_only)
        if last_state_only:
            return jagged.without_steps(y, x), state
        return jagged.from_padded(y, places, x), state

    def _run(
        self,
        x: Tensor,
        hx: State | None,
        lengths: Tensor | Sequence[int] | None,
        last_state_only: bool = False,
    ) -> tuple[Tensor, LSTMState]:
        layers = [self._layer_weights(layer) for layer in range(self.num_layers)]
        y, state = lstm(
            x,
            layers,
            hx,
            lengths=lengths,
            dropout=self.dropout,
            training=self.training,
            last_state_only=last_state_only,
        )
        return y, LSTMState(*state)

    def _layer_weights(self, layer: int) -> LayerWeights:
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: 2 if self.bidirectional else 1]

        # By attribute, so that parametrized and pruned weights are seen as they are now.
        def side_by_side(name: str) -> Tensor:
            tensors = [getattr(self, name + suffix) for suffix in suffixes]
            return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)

        return LayerWeights(
            side_by_side("weight_ih"),
            side_by_side("weight_hh"),
            side_by_side("bias_ih") + side_by_side("bias_hh") if self.bias else None,
            side_by_side("weight_hr") if self.proj_size else None,
        )

    def _check_state(self, hx: State, batch_size: int) -> None:
        rows, *sizes = self._state_sizes()
        for name, state, size in zip(("hx[0]", "hx[1]"), hx, sizes, strict=True):
            if state.dim() != 3:
                raise RuntimeError(
                    f"For batched 3-D input, hx[0] and hx[1] should also be 3-D but {name} is "
                    f"{state.dim()}-D"
                )
            self.check_hidden_size(
                state, (rows, batch_size, size), "Expected " + name + " size {}, got {}"
            )

    def _state_sizes(self) -> tuple[int, int, int]:
        """Give L * D, R and H."""
        rows = self.num_layers * (2 if self.bidirectional else 1)
        return rows, self.proj_size or self.hidden_size, self.hidden_size
