"""The tensors of a case: made on the CPU, where the reference runs, and copied to the device."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs

from .grid import GIVEN, WANTED, Case
from .numerics import DTYPES


def build(case: Case) -> tuple[LayerArgs, OutputGrads]:
    """Random inputs, and gradients of the outputs, on the CPU."""
    rng = torch.Generator().manual_seed(case.seed)
    t, b, i, h = case.seq_len, case.batch_size, case.input_size, case.hidden_size
    d, r = case.num_directions, case.proj_size or case.hidden_size
    dtype = DTYPES[case.precision]

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=rng) * scale
        if not case.contiguous:  # same values, other strides
            values = values.transpose(0, -1).contiguous().transpose(0, -1)
        return values.to(dtype)

    inputs = {
        "x": random(t, b, i, scale=case.scale),
        "w_ih": random(d, 4 * h, i, scale=i**-0.5),
        "w_hh": random(d, 4 * h, r, scale=r**-0.5),
        "bias": random(d, 4 * h, scale=0.5) if case.bias else None,
        "w_hr": random(d, r, h, scale=h**-0.5) if case.proj_size else None,
        "h_0": random(d, b, r, scale=0.5) if case.states else None,
        "c_0": random(d, b, h) if case.states else None,
    }
    for name in WANTED[case.wanted]:
        if (tensor := inputs[name]) is not None:
            tensor.requires_grad_()
    grads = {"y": random(t, b, d * r), "h_n": random(d, b, r), "c_n": random(d, b, h)}
    given = {name: grads[name] if name in GIVEN[case.given] else None for name in grads}
    args = LayerArgs(**inputs, lengths=_lengths(case, rng))  # type: ignore[arg-type]
    return args, OutputGrads(**given)


def _lengths(case: Case, rng: torch.Generator) -> Tensor | None:
    if case.lengths == "none":
        return None
    if case.lengths == "equal":
        return torch.full((case.batch_size,), (case.seq_len + 1) // 2)
    if case.lengths == "nothing":
        return torch.zeros(case.batch_size, dtype=torch.int64)
    drawn = torch.randint(1, case.seq_len + 1, (case.batch_size,), generator=rng)
    if case.lengths == "zeros":
        drawn[::2] = 0
    if case.lengths == "few":
        drawn[case.batch_size // 8 :] = 0
    return drawn


def on_device(
    case: Case, args: LayerArgs, grads: OutputGrads, device: torch.device
) -> tuple[LayerArgs, OutputGrads]:
    """Copies on the device, of the same strides; the lengths only where the case says so."""
    moved = args.map(lambda t: t.detach().to(device, copy=True).requires_grad_(t.requires_grad))
    if not case.lengths_on_device:
        moved = moved._replace(lengths=args.lengths)
    return moved, OutputGrads(*(None if g is None else g.to(device) for g in grads))


def results_of(backend: str | None, args: LayerArgs, grads: OutputGrads) -> list[Tensor]:
    """Outputs, and the gradients of all inputs that require them."""
    outputs = lstm_layer(args, backend)
    wanted = [t for t in args.differentiable if t is not None and t.requires_grad]
    found: tuple[Tensor, ...] = ()
    if wanted:
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        found = torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs])
    return [t.detach() for t in (*outputs, *found)]


def names_of(args: LayerArgs) -> list[str]:
    """Names of `results_of`, in its order."""
    pairs = zip(args._fields, args.differentiable, strict=False)
    grads = [f"grad {name}" for name, t in pairs if t is not None and t.requires_grad]
    return ["y", "h_n", "c_n", *grads]
