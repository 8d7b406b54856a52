"""Variants of the LSTM: normalisation, regularisation, gates, initialisation."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from .calls import B, H, I, batch
from .feature import Group, Make, compare, flat, require, same
from .steps import Cell, by_steps, check

feature = Group("Variants")


def stir(layer: nn.Module) -> None:
    """Move every parameter off its initial value, so that gains and shifts are seen."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


@feature("Layer normalisation (`layer_norm=True`)")
def layer_norm(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True, layer_norm=True), batch(device)
    for name, start in (("norm_ih", 1), ("norm_hh", 1), ("norm_cell", 1), ("norm_cell_bias", 0)):
        gain = getattr(layer, f"{name}_l0_reverse")
        require(bool((gain == start).all()), f"{name} does not start at {start}")
    stir(layer)
    valid = [6, 2, 0, 5]
    cell = Cell(layer_norm=True)
    check(layer, x, flat(layer(x)), by_steps(layer, x, cell=cell))
    got = flat(layer(x, lengths=valid))
    check(layer, x, got, by_steps(layer, x, lengths=valid, cell=cell))


def seeded(layer: nn.Module, *arguments: Any) -> list[Tensor]:
    torch.manual_seed(1)
    return flat(layer(*arguments))


def check_noise(layer: nn.Module, x: Tensor, in_evaluation: list[Tensor]) -> None:
    """A seed gives the same again, noise is new in each call, and absent in evaluation."""
    same("output of a seed", seeded(layer, x), seeded(layer, x))
    require(not torch.equal(layer(x)[0], layer(x)[0]), "two calls have the same noise")
    layer.eval()
    check(layer, x, flat(layer(x)), in_evaluation)
    layer.train()


@feature("Recurrent dropout, one mask a sequence (`recurrent_dropout=`)")
def recurrent_dropout(make: Make, device: torch.device) -> None:
    p, units = 0.5, 4
    layer, x = make(I, units, recurrent_dropout=p), batch(device)
    check_noise(layer, x, by_steps(layer, x))
    got = seeded(layer, x)
    found = []
    for b in range(B):
        # Of the 16 masks there are, one must explain all steps of a sequence, gradients included.
        matching = []
        for kept in itertools.product((0.0, 1 / (1 - p)), repeat=units):
            cell = Cell(keep=torch.tensor(kept, dtype=torch.float64, device=device))
            want = by_steps(layer, x[:, b : b + 1], cell=cell)
            if torch.allclose(got[0][:, b : b + 1].double(), want[0], rtol=1e-4, atol=1e-5):
                matching.append((kept, want))
        require(len(matching) == 1, f"{len(matching)} masks explain a sequence, not one")
        found.append(matching[0])
    require(len({kept for kept, _ in found}) > 1, "all sequences have the same mask")
    together = [torch.cat(parts, dim=1) for parts in zip(*(w for _, w in found), strict=True)]
    check(layer, x, got, together)


@feature("Zoneout (`zoneout=p` or `(hidden, cell)`)")
def zoneout(make: Make, device: torch.device) -> None:
    x = batch(device)
    for given, shares in ((0.3, (0.3, 0.3)), ((0.2, 0.6), (0.2, 0.6))):
        layer = make(I, H, zoneout=given)
        check_noise(layer, x, by_steps(layer, x, cell=Cell(zoneout=shares)))
    # One step of many sequences: units keep their value or take the new one, at the given rates.
    size = 512
    x = torch.randn(1, size, I, device=device)
    hx = (torch.randn(1, size, H, device=device), torch.randn(1, size, H, device=device))
    _, new_h, new_c = by_steps(layer, x, hx)
    _, h_n, c_n = seeded(layer, x, hx)
    for name, found, new, old, share in (
        ("h", h_n, new_h, hx[0], 0.2),
        ("c", c_n, new_c, hx[1], 0.6),
    ):
        kept = (found - old).abs() < 1e-5
        fresh = (found - new).abs() < 1e-4
        require(bool((kept | fresh).all()), f"{name} has units neither kept nor new")
        rate = float(kept.double().mean())
        require(abs(rate - share) < 0.05, f"{rate:.2f} of {name} were kept, not {share}")


@feature("Coupled gates, f = 1 - i (`coupled_gates=True`)")
def coupled_gates(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True, coupled_gates=True), batch(device)
    require(layer.weight_hh_l0.shape == (3 * H, H), "there are not three gates of weights")
    check(layer, x, flat(layer(x)), by_steps(layer, x, cell=Cell(coupled=True)))


def gate_biases(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Sums of both biases of the input gates and of the forget gates, a row per layer."""
    sums = torch.stack(
        [
            getattr(layer, f"bias_ih_l{row}{suffix}") + getattr(layer, f"bias_hh_l{row}{suffix}")
            for row in range(layer.num_layers)
            for suffix in ("", "_reverse")
        ]
    )
    return sums[:, :H], sums[:, H : 2 * H]


@feature("Forget gates that start open (`forget_bias=`)")
def forget_bias(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True, forget_bias=1.0), batch(device)
    _, forget = gate_biases(layer)
    compare("bias", [forget], [torch.ones_like(forget)])
    check(layer, x, flat(layer(x)), by_steps(layer, x))


@feature('Orthogonal initialisation (`init="orthogonal"`)')
def orthogonal(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True, init="orthogonal"), batch(device)
    for name, weight in layer.named_parameters():
        if name.startswith("weight_hh"):
            gates = weight.view(4, H, H)
            want = torch.eye(H, device=device).expand(4, H, H)
            compare(name, [gates @ gates.transpose(1, 2)], [want])
    check(layer, x, flat(layer(x)), by_steps(layer, x))


@feature('Chrono initialisation (`init="chrono"`)')
def chrono(make: Make, device: torch.device) -> None:
    options = {"num_layers": 2, "bidirectional": True}
    layer, x = make(I, H, init="chrono", chrono_range=(2, 100), **options), batch(device)
    entrance, forget = gate_biases(layer)
    compare("bias", [entrance], [-forget])
    spans = forget.exp() + 1
    require(bool(((spans > 1.99) & (spans < 100.1)).all()), "time spans are not from 2 to 100")
    require(float(spans.std()) > 10, f"time spans spread by {float(spans.std()):.2g} only")
    check(layer, x, flat(layer(x)), by_steps(layer, x))
