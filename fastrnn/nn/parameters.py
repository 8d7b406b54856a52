"""The parameters of an LSTM: those of `torch.nn.LSTM`, and those of its options."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrnn.functional import (
    LayerWeights,
    check_checkpoint_every,
    check_probability,
    check_zoneout,
)
from fastrnn.nn.initialisation import check_init, initialise, suffixes

# In the order of `LayerArgs.norm`.
_NORMS = ("norm_ih", "norm_hh", "norm_cell", "norm_cell_bias")


class LSTMParameters(nn.RNNBase):
    """What `fastrnn.LSTM` is made of, without what it does; the arguments are documented there."""

    # Of the class as well, for what was a `torch.nn.LSTM` before.
    layer_norm = False
    # Whole numbers where off: torch's compiler makes a symbol of a float, and traces twice.
    recurrent_dropout: float = 0
    zoneout: tuple[float, float] = (0, 0)
    coupled_gates = False
    forget_bias: float | None = None
    init = "uniform"
    chrono_range: tuple[int, int] | None = None
    checkpoint_every: int | None = None

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
        *,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        coupled_gates: bool = False,
        forget_bias: float | None = None,
        init: str = "uniform",
        chrono_range: tuple[int, int] | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        for name, value in (("layer_norm", layer_norm), ("coupled_gates", coupled_gates)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; it should be True or False")
        pair = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
        check_probability("recurrent_dropout", recurrent_dropout)
        check_zoneout(pair)
        check_checkpoint_every(checkpoint_every)
        check_init(init, chrono_range, forget_bias, bias)
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
        self.layer_norm = layer_norm
        self.recurrent_dropout = recurrent_dropout or 0
        self.zoneout = (pair[0] or 0, pair[1] or 0)
        self.coupled_gates = coupled_gates
        self.forget_bias = forget_bias
        self.init = init
        self.chrono_range = chrono_range
        self.checkpoint_every = checkpoint_every
        if coupled_gates:
            self._couple_gates()
        if layer_norm:
            self._add_norms()
        if coupled_gates:  # new parameters; the others stay as they are drawn without options
            self.reset_parameters()
        else:
            initialise(self)

    def reset_parameters(self) -> None:
        """Draw the weights anew, as the constructor did."""
        super().reset_parameters()
        initialise(self)

    def flatten_parameters(self) -> None:
        """Lay the weights out as cuDNN wants them, where it can run the layer."""
        if not self.coupled_gates:
            super().flatten_parameters()

    def extra_repr(self) -> str:
        """Show what differs from the defaults."""
        options = (
            "layer_norm", "recurrent_dropout", "zoneout", "coupled_gates", "forget_bias", "init",
            "chrono_range", "checkpoint_every",
        )  # fmt: skip
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name in options
            if getattr(self, name) != getattr(LSTMParameters, name)
        ]
        return ", ".join([super().extra_repr(), *changed])

    def _couple_gates(self) -> None:
        """Leave three gates' rows of the parameters that have four."""
        rows = 3 * self.hidden_size
        for name, parameter in list(self.named_parameters(recurse=False)):
            if not name.startswith("weight_hr"):
                fewer = parameter.new_empty(rows, *parameter.shape[1:])
                setattr(self, name, nn.Parameter(fewer))
        self._init_flat_weights()

    def _add_norms(self) -> None:
        gates = (3 if self.coupled_gates else 4) * self.hidden_size
        for suffix in suffixes(self.num_layers, self.bidirectional):
            like: Tensor = getattr(self, f"weight_ih{suffix}")
            for name in _NORMS:
                size = self.hidden_size if "cell" in name else gates
                setattr(self, name + suffix, nn.Parameter(like.new_empty(size)))

    def _layer_weights(self, layer: int) -> LayerWeights:
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: 2 if self.bidirectional else 1]

        # By attribute, so that parametrized and pruned weights are seen as they are now.
        def of_each(name: str) -> list[Tensor]:
            return [getattr(self, name + suffix) for suffix in suffixes]

        def side_by_side(tensors: list[Tensor]) -> Tensor:
            return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)

        bias = None
        if self.bias:
            pairs = zip(of_each("bias_ih"), of_each("bias_hh"), strict=True)
            bias = side_by_side([_sum_of_biases(*pair) for pair in pairs])
        return LayerWeights(
            side_by_side(of_each("weight_ih")),
            side_by_side(of_each("weight_hh")),
            bias,
            side_by_side(of_each("weight_hr")) if self.proj_size else None,
            torch.cat([side_by_side(of_each(name)) for name in _NORMS], -1)
            if self.layer_norm
            else None,
        )

    def _state_sizes(self) -> tuple[int, int, int]:
        """Give L * D, R and H."""
        rows = self.num_layers * (2 if self.bidirectional else 1)
        return rows, self.proj_size or self.hidden_size, self.hidden_size


def _sum_of_biases(bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Add a pair of biases so that each gets a gradient in memory of its own.

    Otherwise whoever changes gradients in place, as backward does to add to them and
    `torch.nn.utils.clip_grad_norm_` to scale them, would change both twice. So they are added
    before they are put side by side, as two views of one gradient would share its memory; and
    torch's compiler, which shares the memory of what it knows to be equal, gets two signs that
    it does not see through.
    """
    return bias_ih - (-bias_hh) if torch.compiler.is_compiling() else bias_ih + bias_hh
