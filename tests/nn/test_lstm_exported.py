"""`torch.export`, AOTInductor and `torch.jit.trace` of the layer: programs without its Python."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from fastrnn import LSTMState

from .stock import Padded, assert_same_run, inputs_for, padded_pair

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"),
]

ONE: dict[str, Any] = {}
BOTH = {"num_layers": 2, "bidirectional": True}
ALL = [ONE, {"num_layers": 2}, {"bidirectional": True}, {**BOTH, "batch_first": True}]
OTHER_SIZES = [(9, 7), (1, 4), (6, 1), (1, 1)]


def exported(layer: Padded, *, with_lengths: bool) -> ExportedProgram:
    """A program for any T and B."""
    steps, batch = Dim("steps"), Dim("batch")
    x_shape = {0: batch, 1: steps} if layer.lstm.batch_first else {0: steps, 1: batch}
    inputs = inputs_for(layer.lstm, 6, 4, with_lengths=with_lengths)
    shapes = (x_shape, {0: batch} if with_lengths else None)
    return torch.export.export(layer, inputs, dynamic_shapes=shapes)


def check(program: Any, layers: tuple[nn.Module, Padded], *, with_lengths: bool) -> None:
    stock, ours = layers
    for size in OTHER_SIZES:
        x, lengths = inputs_for(ours.lstm, *size, with_lengths=with_lengths)
        got = program(x, lengths)
        assert type(got[1]) is LSTMState
        assert_same_run(got, stock(x, lengths))


@pytest.mark.parametrize("options", ALL, ids=str)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_an_exported_program_serves_every_length_and_batch_after_a_file(
    options: dict[str, Any], with_lengths: bool
) -> None:
    layers = padded_pair(**options)
    file = io.BytesIO()
    torch.export.save(exported(layers[1], with_lengths=with_lengths), file)
    file.seek(0)
    check(torch.export.load(file).module(), layers, with_lengths=with_lengths)


def test_an_exported_program_is_one_operator_per_layer() -> None:
    program = exported(padded_pair(**BOTH)[1], with_lengths=True)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count("fastrnn.lstm_forward.default") == 2


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
@pytest.mark.parametrize(("options", "with_lengths"), [(ONE, False), (BOTH, True)], ids=str)
def test_aot_inductor_serves_every_length_and_batch(
    options: dict[str, Any], with_lengths: bool, tmp_path: Path
) -> None:
    layers = padded_pair(**options)
    with torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            exported(layers[1], with_lengths=with_lengths), package_path=str(tmp_path / "lstm.pt2")
        )
        check(torch._inductor.aoti_load_package(path), layers, with_lengths=with_lengths)


# Torch's own: it scripts the derivatives of forward mode.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("trained", [False, True])
def test_an_exported_program_has_derivatives_in_forward_mode(trained: bool) -> None:
    """Also where no weight asks for gradients: a tangent that got lost would be a wrong zero."""
    _, ours = padded_pair(**ONE)
    x, _ = inputs_for(ours.lstm, 6, 4, with_lengths=False)
    program = exported(ours, with_lengths=False).module().requires_grad_(trained)
    found, expected = (
        torch.func.jvp(lambda x, run=run: run(x, None)[0], (x,), (torch.ones_like(x),))[1]
        for run in (program, ours)
    )
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0


# Torch warns of every number that Python sees in a trace.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", ALL, ids=str)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_trace_passes_torchs_check_and_serves_every_length_and_batch_after_a_file(
    options: dict[str, Any], with_lengths: bool
) -> None:
    stock, ours = padded_pair(**options)
    inputs = inputs_for(ours.lstm, 6, 4, with_lengths=with_lengths)
    inputs = inputs if with_lengths else inputs[:1]
    traced = torch.jit.trace(ours, inputs, check_trace=True)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in OTHER_SIZES:
        x, lengths = inputs_for(ours.lstm, *size, with_lengths=with_lengths)
        got = loaded(x, lengths) if with_lengths else loaded(x)
        assert_same_run(got, stock(x, lengths))
