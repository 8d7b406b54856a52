"""Differentiation: more than one backward pass."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from .calls import B, H, T, batch
from .feature import Group, Make, compare, flat, gradients, require, same
from .steps import by_steps, check

feature = Group("Differentiation")


def second_order(outputs: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    first = gradients([o.square() for o in outputs], leaves, create_graph=True)
    return gradients([g.square() for g in first], leaves)


@feature("Gradients of gradients")
def double_backward(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True), batch(device, 4)
    leaves = [x, *layer.parameters()]
    got = second_order(flat(layer(x)), leaves)
    compare("gradient", got, second_order(by_steps(layer, x), leaves), tolerance=1e-3)


@feature("Forward-mode differentiation (`jvp`)")
def forward_mode(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device, 4).detach()
    direction = torch.randn_like(x)
    _, got = jvp(lambda x: tuple(flat(layer(x))), (x,), (direction,))
    _, want = jvp(lambda x: tuple(by_steps(layer, x)), (x,), (direction,))
    compare("tangent", got, want, tolerance=1e-3)


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


def loss(layer: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    y, (h_n, c_n) = functional_call(layer, weights, (x,))
    return y.square().sum() + h_n.sum() + c_n.sin().sum()


def true_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    y, h_n, c_n = by_steps(layer, x)
    true_loss = y.square().sum() + h_n.sum() + c_n.sin().sum()
    return list(torch.autograd.grad(true_loss, list(layer.parameters())))


@feature("`torch.func.grad` with `functional_call`")
def func_grad(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device).detach()
    found = grad(lambda w: loss(layer, w, x))(weights_of(layer))
    compare("gradient", found.values(), true_gradients(layer, x), tolerance=1e-3)


@feature("`torch.func.vmap`")
def func_vmap(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), torch.randn(3, T, B, 3, device=device)
    got = vmap(lambda x: tuple(flat(layer(x))))(x)
    compare("output", got, map(torch.stack, zip(*(by_steps(layer, b) for b in x), strict=True)))


@feature("`torch.func.jacrev`")
def func_jacrev(make: Make, device: torch.device) -> None:
    layer, x = make(2, 2), torch.randn(3, 1, 2, device=device)
    got = jacrev(lambda x: layer(x)[0])(x)
    want = torch.autograd.functional.jacobian(lambda x: by_steps(layer, x)[0].float(), x)
    compare("jacobian", [got], [want], tolerance=1e-3)


@feature("Gradients per sample (`vmap` of `grad`)")
def per_sample(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device).detach()

    def one(weights: dict[str, Tensor], sequence: Tensor) -> Tensor:
        return loss(layer, weights, sequence.unsqueeze(1))

    found = vmap(grad(one), in_dims=(None, 1))(weights_of(layer), x)
    for b in range(B):
        want = true_gradients(layer, x[:, b : b + 1])
        compare("gradient", [g[b] for g in found.values()], want, tolerance=1e-3)


@feature("Ensembles (`stack_module_state`)")
def ensemble(make: Make, device: torch.device) -> None:
    layers, x = [make(3, H) for _ in range(3)], batch(device).detach()
    weights, buffers = stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")

    def run(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(skeleton, (weights, buffers), (x,))[0]

    got = vmap(run)(weights, buffers)
    compare("output", got, [by_steps(layer, x)[0] for layer in layers])


def with_checkpoint(make: Make, device: torch.device, use_reentrant: bool) -> None:
    layer, x = make(3, H), batch(device)
    y = checkpoint(lambda x: layer(x)[0], x, use_reentrant=use_reentrant)
    # The reentrant kind knows `backward` only.
    y.square().sum().backward()
    leaves = [x, *layer.parameters()]
    want = torch.autograd.grad(by_steps(layer, x)[0].square().sum(), leaves)
    compare("gradient", [leaf.grad for leaf in leaves], want, tolerance=1e-3)


@feature("Checkpointing")
def checkpointing(make: Make, device: torch.device) -> None:
    with_checkpoint(make, device, use_reentrant=False)


@feature("Checkpointing, reentrant")
def reentrant(make: Make, device: torch.device) -> None:
    with_checkpoint(make, device, use_reentrant=True)


@feature("Backward again (`retain_graph=True`)")
def retain_graph(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device)
    leaves = [x, *layer.parameters()]
    outputs = flat(layer(x))
    first = gradients(outputs, leaves, retain_graph=True)
    same("gradient", gradients(outputs, leaves), first)
    compare("gradient", first, gradients(by_steps(layer, x), leaves), tolerance=1e-3)


@feature("Anomaly detection")
def anomaly(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device)
    with torch.autograd.detect_anomaly():
        check(layer, x, flat(layer(x)), by_steps(layer, x))
        poisoned = x.detach().clone().requires_grad_()
        y = layer(poisoned)[0] * torch.nan
        try:
            y.sum().backward()
        except RuntimeError as error:
            require("nan" in str(error), "the error of a NaN does not tell of it")
        else:
            require(False, "NaN went through")


@feature("Backward in evaluation mode")
def in_evaluation(make: Make, device: torch.device) -> None:
    layer, x = make(3, H).eval(), batch(device)
    check(layer, x, flat(layer(x)), by_steps(layer, x))


@feature("Frozen weights, frozen inputs")
def frozen(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, num_layers=2), batch(device)
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_ih_l1.requires_grad_(False)
    check(layer, x, flat(layer(x)), by_steps(layer, x))
    check(layer, x.detach(), flat(layer(x.detach())), by_steps(layer, x.detach()))
    layer.requires_grad_(False)
    check(layer, x, flat(layer(x)), by_steps(layer, x))


@feature("Inference mode")
def inference_mode(make: Make, device: torch.device) -> None:
    layer, x = make(3, H).eval(), batch(device).detach()
    with torch.inference_mode():
        outputs: list[Any] = flat(layer(x))
    require(all(o.is_inference() for o in outputs), "outputs are not inference tensors")
    compare("output", outputs, by_steps(layer, x))


@feature("Deterministic algorithms: the same bits on every run")
def deterministic(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True), batch(device, 20, 16)
    leaves = [x, *layer.parameters()]
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(3):
            outputs = flat(layer(x))
            runs.append([*outputs, *gradients(outputs, leaves)])
    finally:
        torch.use_deterministic_algorithms(before)
    for again in runs[1:]:
        same("result", again, runs[0])
    compare("output", runs[0][:3], by_steps(layer, x))
