"""Ways to call a layer: lengths, packed and nested sequences, states."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .feature import Group, Make, compare, flat, gradients, require, same
from .steps import by_steps, check

feature = Group("Calls")
T, B, I, H = 6, 4, 3, 8  # noqa: E741 - the sizes' usual names


def batch(device: torch.device, steps: int = T, size: int = B) -> Tensor:
    return torch.randn(steps, size, I, device=device, requires_grad=True)


@feature("Batches, states, one sequence alone, `batch_first`")
def plain(make: Make, device: torch.device) -> None:
    options = {"num_layers": 2, "bidirectional": True}
    layer, x = make(I, H, **options), batch(device)
    hx = (torch.randn(4, B, H, device=device), torch.randn(4, B, H, device=device))
    want = by_steps(layer, x, hx)
    check(layer, x, flat(layer(x, hx)), want)
    alone = flat(layer(x[:, 1], (hx[0][:, 1], hx[1][:, 1])))
    compare("output alone", alone, [t[:, 1] for t in want])
    turned = make(I, H, batch_first=True, **options)
    turned.load_state_dict(layer.state_dict())
    y, state = turned(x.transpose(0, 1), hx)
    compare("batch first", [y.transpose(0, 1), *state], want)


@feature("Projections (`proj_size`)")
def projections(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, proj_size=2), batch(device)
    h, c = x.new_zeros(B, 2), x.new_zeros(B, H)
    outputs = []
    for x_t in x:
        z = x_t @ layer.weight_ih_l0.t() + h @ layer.weight_hh_l0.t()
        i, f, g, o = (z + layer.bias_ih_l0 + layer.bias_hh_l0).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = (o.sigmoid() * c.tanh()) @ layer.weight_hr_l0.t()
        outputs.append(h)
    check(layer, x, flat(layer(x)), [torch.stack(outputs), h[None], c[None]])


@feature("Lengths with a padded tensor (`lengths=`)")
def lengths(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True), batch(device)
    valid = [6, 1, 4, 3]
    check(layer, x, flat(layer(x, lengths=valid)), by_steps(layer, x, lengths=valid))


@feature("Sequences of length zero")
def zero_lengths(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, bidirectional=True), batch(device)
    hx = (torch.randn(2, B, H, device=device), torch.randn(2, B, H, device=device))
    valid = [0, 6, 0, 3]
    got = flat(layer(x, hx, lengths=torch.tensor(valid, device=device)))
    check(layer, x, got, by_steps(layer, x, hx, lengths=valid))


@feature("`PackedSequence`, sorted or not")
def packed(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2, bidirectional=True), batch(device)
    for valid, in_order in (([6, 4, 3, 1], True), ([3, 6, 1, 4], False)):
        sequences = pack_padded_sequence(x, torch.tensor(valid), enforce_sorted=in_order)
        y, state = layer(sequences)
        padded, _ = pad_packed_sequence(y, total_length=T)
        check(layer, x, [padded, *state], by_steps(layer, x, lengths=valid))


@feature("Jagged nested tensors, in and out")
def nested(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, bidirectional=True), batch(device)
    valid = [6, 1, 4, 3]
    given = torch.nested.nested_tensor(
        [x[:n, b].detach() for b, n in enumerate(valid)], layout=torch.jagged
    )
    y, (h_n, c_n) = layer(given)
    require(y.is_nested and y.layout == torch.jagged, "y is not a jagged nested tensor")
    want_y, want_h, want_c = by_steps(layer, x, lengths=valid)
    compare("sequence", y.unbind(), [want_y[:n, b] for b, n in enumerate(valid)])
    compare("state", [h_n, c_n], [want_h, want_c])
    leaves = list(layer.parameters())
    found = torch.autograd.grad(y.values().square().sum(), leaves)
    compare("gradient", found, torch.autograd.grad(want_y.square().sum(), leaves), tolerance=1e-3)


@feature("Last state alone (`last_state_only=`)")
def last_state_only(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2), batch(device)
    y, state = layer(x, last_state_only=True)
    require(y.shape[0] == 0, f"y has {y.shape[0]} steps, not none")
    check(layer, x, list(state), by_steps(layer, x)[1:])


@feature("Starting anew inside a sequence (`reset=`)")
def reset(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, bidirectional=True), batch(device, 7, 2)
    cut = torch.zeros(7, 2, dtype=torch.bool, device=device)
    cut[3, 0] = cut[1, 1] = cut[5, 1] = True
    y, (h_n, c_n) = layer(x, reset=cut)
    for b, bounds in enumerate(([0, 3, 7], [0, 1, 5, 7])):
        parts = [
            by_steps(layer, x[start:end, b : b + 1]) for start, end in itertools.pairwise(bounds)
        ]
        compare("output", [y[:, b : b + 1]], [torch.cat([part[0] for part in parts])])
        for name, state, place in (("h_n", h_n, 1), ("c_n", c_n, 2)):
            # Each direction ends in its own last piece.
            want = torch.stack([parts[-1][place][0], parts[0][place][1]])
            compare(name, [state[:, b : b + 1]], [want])
    (grad,) = torch.autograd.grad(y[3, 0, :H].sum(), x)
    require(not grad[:3].any(), "gradients cross a reset")


@feature("Typed state (`LSTMState`)")
def typed_state(make: Make, device: torch.device) -> None:
    layer, x = make(I, H), batch(device)
    _, state = layer(x)
    h_n, c_n = state
    loose = state.detach()
    require(not any(t.requires_grad for t in loose), "detached states ask for gradients")
    same("detached state", loose, (h_n, c_n))
    order = torch.tensor([2, 0, 3, 1], device=device)
    same("reordered state", state.reorder(order), (h_n[:, order], c_n[:, order]))
    gone = torch.tensor([True, False, False, True], device=device)
    kept = ~gone[:, None]
    same("reset state", state.reset(gone), (h_n * kept, c_n * kept))
    compare("output", flat(layer(x, state)), by_steps(layer, x, (h_n, c_n)))


@feature("Batches without a sequence")
def empty_batch(make: Make, device: torch.device) -> None:
    layer, x = make(I, H, num_layers=2), batch(device, size=0)
    outputs = flat(layer(x))
    require([list(o.shape) for o in outputs] == [[T, 0, H], [2, 0, H], [2, 0, H]], "shapes")
    found = gradients(outputs, list(layer.parameters()))
    require(not any(g.any() for g in found), "gradients are not zero")


@feature("Checkpoints of `torch.nn.LSTM`, both ways")
def checkpoints(make: Make, device: torch.device) -> None:
    options = {"num_layers": 2, "bidirectional": True}
    stock = nn.LSTM(I, H, device=device, **options)
    layer, x = make(I, H, **options), batch(device)
    layer.load_state_dict(stock.state_dict())
    stock.load_state_dict(layer.state_dict())
    compare("output", flat(layer(x)), flat(stock(x)))
