"""How an LSTM's weights begin, beyond what `torch.nn.LSTM` does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fastrnn.nn.parameters import LSTMParameters

INITS = ("uniform", "orthogonal", "chrono")


def check_init(
    init: str, chrono_range: tuple[float, float] | None, forget_bias: float | None, bias: bool
) -> None:
    """Check the options of an initialisation against each other.

    Raises
    ------
    ValueError
        If one has a wrong value, or two of them contradict each other.
    """
    if forget_bias is not None and not _is_finite(forget_bias):
        raise ValueError(f"forget_bias is {forget_bias!r}; it should be a number, or None")
    if init not in INITS:
        raise ValueError(f"init is {init!r}; it should be one of {', '.join(map(repr, INITS))}")
    if (init == "chrono") != (chrono_range is not None):
        raise ValueError(
            f"chrono_range is {chrono_range!r} with init={init!r}; it should be given, the "
            "shortest and the longest range of steps to remember, with init='chrono' alone"
        )
    if chrono_range is not None and not _is_a_range(chrono_range):
        raise ValueError(
            f"chrono_range is {chrono_range!r}; it should be two numbers of steps, at least 2, the "
            "smaller one first"
        )
    if forget_bias is not None and init == "chrono":
        raise ValueError("forget_bias is given with init='chrono', which sets the same biases")
    if not bias and (forget_bias is not None or init == "chrono"):
        option = "forget_bias" if init != "chrono" else "init='chrono'"
        raise ValueError(f"{option} is given with bias=False; there should be a bias to set")


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_a_range(pair: object) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    shortest, longest = pair
    return _is_finite(shortest) and _is_finite(longest) and 2 <= shortest <= longest


@torch.no_grad()
def initialise(module: LSTMParameters) -> None:
    """Go on from uniform weights to what a module's options ask for.

    Gains of layer normalisation become 1 and its shifts 0. With ``forget_bias``, the forget gates'
    two biases add up to that (Gers et al., 2000; Jozefowicz et al., 2015). With ``"orthogonal"``,
    each gate's block of ``weight_hh`` is an orthogonal matrix (Saxe et al., 2014). With
    ``"chrono"``, biases make units forget after a number of steps drawn from ``chrono_range``:
    ``log(u - 1)`` at the forget gate and its negative at the input gate (Tallec & Ollivier, 2018,
    equation 16). A coupled forget gate, ``1 - sigmoid(z_i)``, is set by way of the input gate.
    """
    for name, parameter in module.named_parameters(recurse=False):
        if name.startswith("norm_"):
            nn.init.constant_(parameter, 0.0 if "_bias_" in name else 1.0)
    for suffix in suffixes(module.num_layers, module.bidirectional):
        if module.init == "orthogonal":
            for block in _gates(module, f"weight_hh{suffix}").values():
                # Torch factorises nothing in 16 bits.
                block.copy_(nn.init.orthogonal_(block.to(torch.float64)))
        if module.chrono_range is not None:
            shortest, longest = module.chrono_range
            like = getattr(module, f"bias_ih{suffix}")[: module.hidden_size]
            forget = (torch.empty_like(like).uniform_(shortest, longest) - 1).log()
            _set_bias(module, suffix, "f", forget)
            _set_bias(module, suffix, "i", -forget)
        elif module.forget_bias is not None:
            _set_bias(module, suffix, "f", module.forget_bias)


def _gates(module: LSTMParameters, name: str) -> dict[str, Tensor]:
    """Give views of a parameter by gate."""
    letters = "igo" if module.coupled_gates else "ifgo"
    parameter: Tensor = getattr(module, name)
    return dict(zip(letters, parameter.chunk(len(letters)), strict=True))


def _set_bias(module: LSTMParameters, suffix: str, gate: str, value: Tensor | float) -> None:
    """Let the two biases of a gate add up to a value."""
    first, second = (_gates(module, f"bias_{kind}{suffix}") for kind in ("ih", "hh"))
    if gate not in first:
        gate, value = "i", -value
    first[gate].copy_(torch.as_tensor(value))
    second[gate].zero_()


def suffixes(num_layers: int, bidirectional: bool) -> Iterator[str]:
    """Give the ends of the parameters' names, layer by layer and direction by direction."""
    for layer in range(num_layers):
        yield f"_l{layer}"
        if bidirectional:
            yield f"_l{layer}_reverse"
