"""The layer as a module: dtypes, devices, copies, processes, parametrizations."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from .calls import B, H, T, batch
from .feature import Group, Make, compare, flat, gradients, require, same
from .processes import changed_in_child, run_in_child
from .steps import by_steps, check

feature = Group("Modules")


@feature("Autocast to bfloat16: dtypes of `nn.LSTM`, trains")
def autocast(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device)
    stock = nn.LSTM(3, H, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        outputs, stock_outputs = flat(layer(x)), flat(stock(x))
    for name, ours, theirs in zip(("y", "h_n", "c_n"), outputs, stock_outputs, strict=True):
        require(ours.dtype == theirs.dtype, f"{name} is {ours.dtype}, of nn.LSTM {theirs.dtype}")
    want = by_steps(layer, x)
    compare("output", outputs, want, tolerance=5e-2)
    leaves = [x, *layer.parameters()]
    found = gradients([outputs[0]], leaves)
    require(all(g.dtype == torch.float32 for g in found), "gradients are not float32")
    for got, true in zip(found, gradients([want[0]], leaves), strict=True):
        error = float((got - true).norm() / true.norm())
        require(error < 5e-2, f"gradients are off by {error:.2g} of their size")


def sixteen_bits(make: Make, device: torch.device, dtype: torch.dtype, bound: float) -> None:
    layer, x = make(3, H, dtype=dtype), batch(device).detach().to(dtype).requires_grad_()
    outputs, want = flat(layer(x)), by_steps(layer, x)
    require(all(o.dtype == dtype for o in outputs), f"outputs are not {dtype}")
    compare("output", outputs, want, tolerance=bound)
    leaves = [x, *layer.parameters()]
    for got, true in zip(gradients(outputs, leaves), gradients(want, leaves), strict=True):
        error = float((got.double() - true.double()).norm() / true.double().norm())
        require(error < bound, f"gradients are off by {error:.2g} of their size")


@feature("float16")
def half(make: Make, device: torch.device) -> None:
    sixteen_bits(make, device, torch.float16, 1e-2)


@feature("bfloat16")
def bfloat16(make: Make, device: torch.device) -> None:
    sixteen_bits(make, device, torch.bfloat16, 5e-2)


@feature("float64")
def float64(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, dtype=torch.float64), batch(device).detach().double().requires_grad_()
    want = by_steps(layer, x)
    outputs = flat(layer(x))
    compare("output", outputs, want, tolerance=1e-10)
    leaves = [x, *layer.parameters()]
    compare("gradient", gradients(outputs, leaves), gradients(want, leaves), tolerance=1e-9)


@feature("Meta device, and `to_empty` from it")
def meta(make: Make, device: torch.device) -> None:
    layer = make(3, H, num_layers=2)
    empty = copy.deepcopy(layer).to("meta")
    x = batch(device).detach()
    for got, want in zip(flat(empty(x.to("meta"))), flat(layer(x)), strict=True):
        require(got.is_meta and got.shape == want.shape, "shapes on meta are others")
    filled = empty.to_empty(device=device)
    filled.load_state_dict(layer.state_dict())
    compare("output", flat(filled(x)), by_steps(layer, x))


@feature("`deepcopy`, `pickle`, `torch.save`")
def copies(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2), batch(device)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    twins = (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    )
    want = by_steps(layer, x)
    with torch.no_grad():  # a copy that shares weights would follow
        layer.weight_hh_l0.zero_()
    for twin in twins:
        compare("output", flat(twin(x)), want)


@feature("Several threads at once")
def threads(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device, 20, 8)
    leaves = [x, *layer.parameters()]

    def work(_: int) -> list[Tensor]:
        outputs = flat(layer(x))
        return [*outputs, *gradients(outputs, leaves)]

    want = work(0)
    compare("output", want[:3], by_steps(layer, x))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(12)):
            compare("result", found, want, tolerance=1e-5)


@feature("A forked process")
def fork(make: Make, device: torch.device) -> None:
    layer, x = make(3, 64), batch(device, 30, 16)
    flat(layer(x))  # the parent's threads are there, and are gone in the child
    compare("result", run_in_child("fork", layer, x.detach()), results(layer, x), tolerance=1e-3)


@feature("A spawned process")
def spawn(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device)
    compare("result", run_in_child("spawn", layer, x.detach()), results(layer, x), tolerance=1e-3)


def results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = by_steps(layer, x)
    leaves = list(layer.parameters())
    return [*outputs, *torch.autograd.grad(outputs[0].square().sum(), leaves)]


@feature("`share_memory`: a child's change is seen")
def share_memory(make: Make, device: torch.device) -> None:
    layer, x = make(3, H).share_memory(), batch(device)
    require(all(p.is_shared() for p in layer.parameters()), "parameters are not shared")
    doubled = [2 * p.detach() for p in layer.parameters()]
    changed_in_child(layer)
    same("parameter", [p.detach() for p in layer.parameters()], doubled)
    compare("output", flat(layer(x)), by_steps(layer, x))


@feature("Weight norm")
def weight_norm(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2), batch(device)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
    check(layer, x, flat(layer(x)), by_steps(layer, x))


@feature("Spectral norm")
def spectral_norm(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2), batch(device)
    parametrizations.spectral_norm(layer, "weight_hh_l1")
    layer.eval()  # in training each look at the weight is another power iteration
    check(layer, x, flat(layer(x)), by_steps(layer, x))
    largest = float(torch.linalg.matrix_norm(layer.weight_hh_l1, 2))
    require(abs(largest - 1) < 0.1, f"the largest singular value is {largest:.2g}")


@feature("Pruning")
def pruning(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2), batch(device)
    prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5)
    layer(x)[0].sum().backward()
    grad = layer.weight_hh_l0_orig.grad
    require(not grad[layer.weight_hh_l0_mask == 0].any(), "pruned weights get gradients")
    outputs = flat(layer(x))  # computes the masked weight, which the steps read
    check(layer, x, outputs, by_steps(layer, x), retain_graph=True)
    prune.remove(layer, "weight_hh_l0")
    require(int((layer.weight_hh_l0 == 0).sum()) >= 2 * H * H, "pruned weights came back")
    compare("output", flat(layer(x)), by_steps(layer, x))


class Doubled(nn.Module):
    """A parametrization that gives twice what is stored."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@feature("Parametrizations (`torch.nn.utils.parametrize`)")
def parametrized(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True), batch(device)
    parametrize.register_parametrization(layer, "weight_ih_l0_reverse", Doubled())
    check(layer, x, flat(layer(x)), by_steps(layer, x))
    with parametrize.cached():
        compare("output", flat(layer(x)), by_steps(layer, x))


@feature("Dropout between layers")
def dropout(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2, dropout=0.5), batch(device)
    torch.manual_seed(1)
    first = layer(x)[0]
    torch.manual_seed(1)
    same("output", [layer(x)[0]], [first])
    require(not torch.equal(layer(x)[0], first), "dropout does nothing")
    layer.eval()
    check(layer, x, flat(layer(x)), by_steps(layer, x))
    # With p = 1 the second layer sees zeros, and nothing but its state and bias are left.
    layer.train().dropout = 1.0
    upper = make(H, H)
    upper.load_state_dict(
        {n.replace("l1", "l0"): p for n, p in layer.state_dict().items() if "l1" in n}
    )
    compare("output", [layer(x)[0]], by_steps(upper, x.new_zeros(T, B, H))[:1])
