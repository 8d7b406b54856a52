"""Compilers and exporters of torch."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .calls import H, batch
from .feature import Group, Make, compare
from .steps import by_steps, check

feature = Group("Compilers")
SIZES = ((6, 4), (9, 4), (5, 7))
DYNAMIC = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)


class Outputs(nn.Module):
    """A model around a layer, which is what people compile and export."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h_n, c_n) = self.layer(x * 1.0)
        return y * 1.0, h_n, c_n


def compiled(layer: nn.Module, **options: bool) -> Callable[[Tensor], list[Tensor]]:
    torch._dynamo.reset()
    return torch.compile(Outputs(layer), fullgraph=True, **options)


@feature("`torch.compile(fullgraph=True)`, inference")
def inference(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True).eval(), batch(device)
    with torch.no_grad():
        compare("output", compiled(layer)(x), by_steps(layer, x))


@feature("`torch.compile(fullgraph=True)`, training")
def training(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True), batch(device)
    check(layer, x, compiled(layer)(x), by_steps(layer, x))


@feature("`torch.compile`, T and B dynamic: one program for all sizes")
def dynamic(make: Make, device: torch.device) -> None:
    layer = make(3, H)
    run = compiled(layer, dynamic=True)
    # The first size compiles; from then on torch raises where it would have to compile anew.
    for position, (steps, size) in enumerate(SIZES):
        x = batch(device, steps, size)
        with torch.compiler.set_stance("default" if position == 0 else "fail_on_recompile"):
            outputs = run(x)
        check(layer, x, outputs, by_steps(layer, x))


@feature("`torch.export`, T and B dynamic, saved and loaded")
def export(make: Make, device: torch.device) -> None:
    layer, x = make(3, H, bidirectional=True).eval(), batch(device).detach()
    program = torch.export.export(Outputs(layer), (x,), dynamic_shapes=DYNAMIC)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for steps, size in SIZES:
        x = batch(device, steps, size).detach()
        compare("output", loaded(x), by_steps(layer, x))


@feature("AOTInductor, T and B dynamic")
def ahead_of_time(make: Make, device: torch.device) -> None:
    layer, x = make(3, H).eval(), batch(device).detach()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(Outputs(layer), (x,), dynamic_shapes=DYNAMIC)
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(Path(folder) / "layer.pt2")
        )
        loaded = torch._inductor.aoti_load_package(path)
        for steps, size in SIZES:
            x = batch(device, steps, size).detach()
            compare("output", loaded(x), by_steps(layer, x))


@feature("TorchScript (deprecated in torch)")
def script(make: Make, device: torch.device) -> None:
    layer, x = make(3, H), batch(device)
    check(layer, x, torch.jit.script(Outputs(layer))(x), by_steps(layer, x))
