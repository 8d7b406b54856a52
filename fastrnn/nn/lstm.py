"""A drop-in for `torch.nn.LSTM` that runs on the package's fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastrnn.functional import lstm
from fastrnn.nn import jagged
from fastrnn.nn.parameters import LSTMParameters
from fastrnn.nn.state import LSTMState
from fastrnn.recurrence.problem import check_reset

State = LSTMState | tuple[Tensor, Tensor]


class LSTM(LSTMParameters):
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
    layer_norm : bool, default False
        Normalise the input's share of the gates, the state's share of them, and the cell state
        where it enters the output (Ba et al., 2016). Parameters ``norm_ih_l0``, ``norm_hh_l0``,
        ``norm_cell_l0`` (gains) and ``norm_cell_bias_l0``.
    recurrent_dropout : float, default 0.0
        Probability of zeroing an element of the state where it enters ``weight_hh``, in training
        mode; one draw for all steps of a sequence (Gal & Ghahramani, 2016).
    zoneout : float or tuple of float, default 0.0
        Probability with which a unit keeps its state in a step, in training mode; otherwise its
        state is the expectation of that (Krueger et al., 2017). A pair is that of the hidden
        state and that of the cell state.
    coupled_gates : bool, default False
        Forget what the input gate lets in, ``f = 1 - i``: three gates, i, g, o, in the weights,
        and three quarters of the products (Greff et al., 2017).
    forget_bias : float, optional
        What the forget gates' two biases add up to at first.
    init : {"uniform", "orthogonal", "chrono"}, default "uniform"
        How weights begin; uniform is that of `torch.nn.LSTM`. Orthogonal applies to each gate's
        block of ``weight_hh``; chrono sets biases for memories of ``chrono_range`` (Tallec &
        Ollivier, 2018).
    chrono_range : tuple of int, optional
        Shortest and longest range of steps to remember, from 2; for ``init="chrono"`` alone.
    checkpoint_every : int, optional
        Train in little memory: keep each layer's states at every K = ``checkpoint_every`` steps
        only. The backward pass runs K steps at a time forward again, so training costs one more
        forward pass, and one direction runs after the other. Results are the same; nothing changes
        without gradients, or in sequences of at most K steps. Default: keep all steps. The
        attribute may be changed at any time.

    Notes
    -----
    How to choose ``checkpoint_every``: of each sequence of T steps a layer keeps ``2 * T / K * H``
    numbers, and what backward needs of K steps, ``5 * K * H`` and input and output again, is there
    while it is in a segment. The sum is least for K near ``sqrt(T)``, and small next to input and
    output up to several times that; each segment is a call, so at least some hundred steps pay.
    With ``last_state_only`` the output takes no memory either.

    Layer normalisation and zoneout are computed step by step in plain torch (backend ``eager``),
    and so is ``proj_size`` with ``recurrent_dropout``. On a GPU that holds for ``reset`` and
    ``recurrent_dropout`` too. Everything else runs on fused kernels. Those of the CPU take the
    product of ``weight_hh`` and ``weight_hr``, so a projection saves parameters but no time there.

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

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
        last_state_only: bool = False,
    ) -> tuple[Any, LSTMState]:
        """Run all layers.

        Parameters
        ----------
        input : Tensor or PackedSequence
            ``[T, B, I]`` (``[B, T, I]`` if ``batch_first``), ``[T, I]`` without a batch, packed
            sequences, or a nested tensor of layout `torch.jagged`, which is ``[B, j, I]``
            whatever ``batch_first`` says.
        hx : LSTMState or tuple of Tensor, optional
            ``h_0 [L * D, B, R]`` and ``c_0 [L * D, B, H]`` (without B for input without a batch),
            where R is P with a projection and H otherwise; zeros by default.
        lengths : Tensor or sequence of int, optional
            Valid steps of each padded sequence, ``[B]``, from 0 to T. Padding costs no arithmetic.
        reset : Tensor, optional
            Steps before which the state becomes zero, bool, ``[T, B]`` (``[B, T]`` if
            ``batch_first``; ``[T]`` without a batch): where episodes begin. Both directions are
            cut there, as if the parts were sequences of their own. Not for packed sequences and
            nested tensors.
        last_state_only : bool, default False
            Return ``y`` without a step: whoever needs the last state alone saves its memory. Not
            for packed sequences.

        Returns
        -------
        y : Tensor or PackedSequence
            Output of the last layer in the form of ``input``, ``D * R`` features, zero on padding.
            Jagged output has the offsets of ``input``: the two can be added.
        (h_n, c_n) : LSTMState
            State after the last valid step, shaped like ``hx``; for packed sequences in the
            caller's order.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            If an argument has the wrong type, dtype, shape or value; as `torch.nn.LSTM` raises.
        """
        if isinstance(input, Proxy):  # one node in torch.fx's graph, as for torch's own layers
            path = input.tracer.path_of_module(self)
            options = {"lengths": lengths, "reset": reset, "last_state_only": last_state_only}
            return input.tracer.create_proxy("call_module", path, (input, hx), options)
        x = input
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths is given for a PackedSequence, which has its own lengths")
            if last_state_only:
                raise ValueError("last_state_only is True for a PackedSequence; pad it instead")
            if reset is not None:
                raise ValueError("reset is given for a PackedSequence; pad it instead")
            return self._forward_packed(x, hx)
        if x.is_nested:
            if lengths is not None:
                raise ValueError("lengths is given for a nested tensor, which has its own lengths")
            if reset is not None:
                raise ValueError("reset is given for a nested tensor; pad it instead")
            return self._forward_jagged(x, hx, last_state_only)
        if x.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {x.dim()}D instead")
        if x.dim() == 2:
            return self._forward_unbatched(x, hx, lengths, reset, last_state_only)
        self.check_input(x, None)
        if reset is not None:
            check_reset(reset, tuple(x.shape[:2]))
        if self.batch_first:
            x = x.transpose(0, 1)
            reset = None if reset is None else reset.transpose(0, 1)
        if hx is not None:
            self._check_state(hx, x.shape[1])
        y, state = self._run(x, hx, lengths, reset, last_state_only)
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
        reset: Tensor | None,
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
        if reset is not None:
            check_reset(reset, (x.shape[0],))
            reset = reset.unsqueeze(1)
        x = x.unsqueeze(1)
        self.check_input(x, None)
        y, state = self._run(x, hx, None, reset, last_state_only)
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
        y, state = self._run(padded, hx, lengths, None, last_state_only)
        if last_state_only:
            return jagged.without_steps(y, x), state
        return jagged.from_padded(y, places, x), state

    def _run(
        self,
        x: Tensor,
        hx: State | None,
        lengths: Tensor | Sequence[int] | None,
        reset: Tensor | None = None,
        last_state_only: bool = False,
    ) -> tuple[Tensor, LSTMState]:
        layers = [self._layer_weights(layer) for layer in range(self.num_layers)]
        y, state = lstm(
            x,
            layers,
            hx,
            lengths=lengths,
            reset=reset,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            zoneout=self.zoneout,
            training=self.training,
            last_state_only=last_state_only,
            checkpoint_every=self.checkpoint_every,
        )
        return y, LSTMState(*state)

    def get_expected_cell_size(
        self, input: Tensor, batch_sizes: Tensor | None
    ) -> tuple[int, int, int]:
        """Give the shape of ``c_0`` for an input, as `torch.nn.LSTM` does."""
        rows, batch_size, _ = self.get_expected_hidden_size(input, batch_sizes)
        return rows, batch_size, self.hidden_size

    def check_forward_args(self, input: Tensor, hidden: State, batch_sizes: Tensor | None) -> None:  # type: ignore[override]
        """Raise where input and state do not fit, as `torch.nn.LSTM` does."""
        self.check_input(input, batch_sizes)
        self._check_state(hidden, self.get_expected_hidden_size(input, batch_sizes)[1])

    def permute_hidden(  # type: ignore[override]
        self, hx: State, permutation: Tensor | None
    ) -> LSTMState:
        """Give the state of the sequences in another order, as `torch.nn.LSTM` does."""
        state = LSTMState(*hx)
        return state if permutation is None else state.reorder(permutation)

    def _check_state(self, hx: State, batch_size: int) -> None:
        if len(hx) != 2:
            raise RuntimeError(f"hx has {len(hx)} tensors; it should have two, h_0 and c_0")
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
