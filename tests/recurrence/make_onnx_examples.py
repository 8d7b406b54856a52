"""Writes ``onnx_examples.json``: ``python make_onnx_examples.py``, where the package onnx is.

The published examples of ONNX's operator LSTM come from ``onnx.backend.test.case.node.lstm``, with
the outputs they are published with. These are checked here against onnx's own evaluator, which then
gives all three outputs of each. Weights of the published examples are all the same number, so that
gates in the wrong order would go unseen; therefore the evaluator is also asked for an example with
random weights, biases and states. Peepholes are left out: `fastrnn` has none, as torch has none.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.node import lstm
from onnx.reference import ReferenceEvaluator

OUTPUTS = ("Y", "Y_h", "Y_c")
FILE = Path(__file__).with_name("onnx_examples.json")


def published() -> dict[str, tuple[Any, Any, Any]]:
    """Node, inputs and outputs of each example, as the package hands them to its tests."""
    found = {}

    def note(node: Any, inputs: Any, outputs: Any, name: str) -> None:
        found[name.removeprefix("test_lstm_")] = (node, inputs, outputs)

    lstm.expect = note
    for method in vars(lstm.LSTM):
        if method.startswith("export_"):
            getattr(lstm.LSTM, method)()
    return {name: example for name, example in found.items() if "peepholes" not in name}


def evaluated(node: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All three outputs, by onnx's evaluator."""
    whole = onnx.NodeProto()
    whole.CopyFrom(node)
    del whole.output[:]
    whole.output.extend(OUTPUTS)
    results = ReferenceEvaluator(whole).run(None, inputs)
    return dict(zip(OUTPUTS, results, strict=True))


def stored(node: Any, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {
        "attributes": {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in attributes.items()
        },
        "inputs": {name: numbers(value) for name, value in inputs.items()},
        "outputs": {name: numbers(value) for name, value in evaluated(node, inputs).items()},
    }


def numbers(array: np.ndarray) -> Any:
    """Nested lists of a float32 array, with nine digits, which give it back exactly."""
    assert array.dtype == np.float32
    return json.loads(
        json.dumps(array.tolist()), parse_float=lambda text: float(f"{float(text):.9g}")
    )


def random_example() -> dict[str, Any]:
    """Two directions of different numbers everywhere."""
    shapes = {
        "X": (4, 2, 3),
        "W": (2, 20, 3),
        "R": (2, 20, 5),
        "B": (2, 40),
        "initial_h": (2, 2, 5),
        "initial_c": (2, 2, 5),
    }
    rng = np.random.default_rng(0)
    # Sixteenths, which are short to write.
    inputs = {
        name: (rng.integers(-24, 25, shape) / 16).astype(np.float32)
        for name, shape in shapes.items()
    }
    names = ["X", "W", "R", "B", "", "initial_h", "initial_c"]
    node = onnx.helper.make_node(
        "LSTM", names, list(OUTPUTS), hidden_size=5, direction="bidirectional"
    )
    return stored(node, inputs)


def main() -> None:
    examples = {}
    for name, (node, given, expected) in published().items():
        inputs = dict(zip(node.input, given, strict=True))
        everything = evaluated(node, inputs)
        kept = [output for output in node.output if output]
        for output, value in zip(kept, expected, strict=True):
            np.testing.assert_array_equal(value, everything[output])
        examples[name] = stored(node, inputs)
    examples["random"] = random_example()
    note = f"Made by {Path(__file__).name} with onnx {onnx.__version__}."
    lines = [f" {json.dumps(name)}: {json.dumps(examples[name])}" for name in examples]
    FILE.write_text(
        f'{{"note": {json.dumps(note)}, "examples": {{\n' + ",\n".join(lines) + "\n}}\n"
    )


if __name__ == "__main__":
    main()
