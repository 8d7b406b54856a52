"""The CPU kernels against `torch.nn.LSTM`: first that they are right, then how fast they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn
from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.verification import verify

from . import results_file
from .cases import LAYER_CASES, LayerCase
from .peers.check import what_is_wrong
from .peers.registry import PEERS
from .peers.work import make_work, short
from .timing import side_by_side


def check_first(case: LayerCase) -> None:
    """Fail unless outputs and gradients are right on 33 steps of the same batch."""
    short = replace(case, seq_len=33)
    x, lengths = short.inputs()
    directions, hidden = 2 if case.bidirectional else 1, case.hidden_size
    rng = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) / hidden**0.5

    weights = (
        random(directions, 4 * hidden, case.input_size),
        random(directions, 4 * hidden, hidden),
        random(directions, 4 * hidden),
    )
    args = LayerArgs(x, *weights, lengths=lengths).map(
        lambda t: t.requires_grad_() if t.is_floating_point() else t
    )
    states = (directions, short.batch_size, hidden)
    grads = OutputGrads(
        random(short.seq_len, short.batch_size, directions * hidden),
        random(*states),
        random(*states),
    )
    bad = [str(check) for check in verify("cpu", args, grads) if not check.ok]
    assert not bad, f"{case.name} is wrong, so its speed means nothing: {'; '.join(bad)}"


def workloads(case: LayerCase, training: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Torch's and our way of doing the same work with the same weights."""
    x, lengths = case.inputs()
    stock = torch.nn.LSTM(case.input_size, case.hidden_size, bidirectional=case.bidirectional)
    ours = fastrnn.LSTM(case.input_size, case.hidden_size, bidirectional=case.bidirectional)
    ours.load_state_dict(stock.state_dict())
    stock_x: Tensor | PackedSequence = x
    if lengths is not None:
        stock_x = pack_padded_sequence(x, lengths, enforce_sorted=False)

    def run_stock() -> Tensor:
        y, _ = stock(stock_x)
        return y.data if isinstance(y, PackedSequence) else y

    def run_ours() -> Tensor:
        return ours(x, lengths=lengths)[0]

    def inference(run: Callable[[], Tensor]) -> Callable[[], Any]:
        def call() -> None:
            with torch.inference_mode():
                run()

        return call

    def train(run: Callable[[], Tensor]) -> Callable[[], Any]:
        grad = torch.ones_like(run())

        def call() -> None:
            run().backward(grad)

        return call

    wrap = train if training else inference
    return wrap(run_stock), wrap(run_ours)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "forward+backward"])
@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_layer(case: LayerCase, training: bool, benchmark: Any) -> None:
    with fastrnn.use_backend("cpu"):
        check_first(case)
        stock, ours = workloads(case, training)
        comparison = side_by_side(stock, ours)
        benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    mode = "forward+backward" if training else "inference"
    # Multiply-adds count twice; backward is two products more, one of them without the input.
    products = case.input_size + case.hidden_size
    if training:
        products = 2 * products + case.hidden_size
    flops = 2 * 4 * case.hidden_size * products * case.valid_steps()
    cell = {
        "case": case.name,
        "mode": mode,
        "torch_ms": comparison.baseline_ms.as_dict(),
        "fastrnn_ms": comparison.ours_ms.as_dict(),
        "ratio": comparison.ratio.as_dict(),
        "rounds": comparison.rounds,
        "gflops": round(flops / comparison.ours_ms.p50 / 1e6, 1),
        "environment": results_file.environment(),
    }
    results_file.store({f"{case.name}; {mode}": cell})
    benchmark.extra_info.update(ratio=cell["ratio"])
    print(f"{case.name}; {mode}: {comparison.ratio.p50:.2f} times torch's speed")


@pytest.mark.parametrize("case", LAYER_CASES[1:3], ids=lambda case: case.name)
@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_inference_beside_another_library(peer: str, case: LayerCase, benchmark: Any) -> None:
    """A first impression where it is installed; `benchmarks.peers` measures all, and stores it."""
    pytest.importorskip(peer)

    def ready(name: str, case: LayerCase) -> Any:
        module = import_module(f"benchmarks.peers.libraries.{PEERS[name].file}")
        module.set_threads(torch.get_num_threads())
        layer = getattr(module, PEERS[name].layer)(make_work(case, training=False))
        layer.prepare()
        return layer

    for name in ("fastrnn", peer):
        layer = ready(name, short(case))
        wrong = what_is_wrong(short(case), False, layer.results(layer.run()))
        assert not wrong, f"{name} is wrong, so its speed means nothing: {wrong}"
    ours, theirs = (ready(name, case).run for name in ("fastrnn", peer))
    comparison = side_by_side(theirs, ours, seconds=3.0)
    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(ratio=comparison.ratio.as_dict())
    print(f"{case.name}; inference: {comparison.ratio.p50:.2f} times the speed of {peer}")
