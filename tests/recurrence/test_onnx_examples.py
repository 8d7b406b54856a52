"""The published examples of ONNX's operator LSTM: numbers that come from another project.

`make_onnx_examples.py` took them from the package onnx (Apache-2.0), which is not needed here. The
example with peepholes is left out, because `fastrnn` has none.

What differs: ONNX's gates are in the order i, o, f, c, ours i, f, g, o. Its y is ``[T, D, B, H]``,
or ``[B, T, D, H]`` with ``layout`` 1, where its states are ``[B, D, H]``. And its ``reverse`` is
one direction that runs backwards, which is the second one of ours.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.reference import lstm_reference

EXAMPLES = json.loads(Path(__file__).with_name("onnx_examples.json").read_text())["examples"]

Layer = Callable[[LayerArgs], tuple[Tensor, Tensor, Tensor]]
LAYERS: dict[str, Layer] = {
    "reference": lstm_reference,
    "cpu": lambda args: lstm_layer(args, "cpu"),
    "eager": lambda args: lstm_layer(args, "eager"),
}


def in_our_order(weight: Tensor) -> Tensor:
    """``[D, 4H, ...]`` with the gates i, o, f, c as i, f, c, o."""
    i, o, f, c = weight.chunk(4, dim=1)
    return torch.cat([i, f, c, o], dim=1)


def as_our_call(example: dict[str, Any]) -> LayerArgs:
    given = {name: torch.tensor(value) for name, value in example["inputs"].items()}
    bias = None
    if "B" in given:
        bias = sum(in_our_order(half) for half in given["B"].chunk(2, dim=1))
    x = given["X"]
    args = LayerArgs(
        x.transpose(0, 1) if example["attributes"].get("layout") else x,
        in_our_order(given["W"]),
        in_our_order(given["R"]),
        bias,
        h_0=given.get("initial_h"),
        c_0=given.get("initial_c"),
    )
    if example["attributes"].get("direction") != "reverse":
        return args
    x, *weights = args
    return LayerArgs(x, *(None if w is None else torch.cat([w, w]) for w in weights))


def in_their_form(example: dict[str, Any], results: tuple[Tensor, ...]) -> dict[str, Tensor]:
    y, h_n, c_n = results
    seq_len, batch_size, _ = y.shape
    y = y.view(seq_len, batch_size, h_n.shape[0], -1).transpose(1, 2)
    if example["attributes"].get("direction") == "reverse":
        y, h_n, c_n = y[:, 1:], h_n[1:], c_n[1:]
    if example["attributes"].get("layout"):
        y, h_n, c_n = y.permute(2, 0, 1, 3), h_n.transpose(0, 1), c_n.transpose(0, 1)
    return {"Y": y, "Y_h": h_n, "Y_c": c_n}


def test_all_published_examples_without_peepholes_are_there() -> None:
    published = {"defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional"}
    assert set(EXAMPLES) == {*published, "random"}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_results_are_those_of_onnx(name: str, layer: str) -> None:
    example = EXAMPLES[name]
    found = in_their_form(example, LAYERS[layer](as_our_call(example)))
    for output, value in example["outputs"].items():
        want = torch.tensor(value)
        torch.testing.assert_close(found[output], want, rtol=0, atol=1e-5)
