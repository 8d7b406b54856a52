import inspect

import pytest

from fastrnn.cli.app import app
from fastrnn.cli.wording import OPTIONS, as_typed


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        (
            "has floating-point pixels; give value_range=(low, high), the values",
            "has floating-point pixels; give --value-range LOW HIGH, the values",
        ),
        (
            'the depth map of a.png does not exist; missing="zeros" allows that',
            "the depth map of a.png does not exist; --allow-missing-depth allows that",
        ),
        (
            "patience needs a validation set, validation is None",
            "--patience needs validation strips: give --validation, or a --validation-share "
            "above 0",
        ),
        ("max_padded_steps is 0, it should be", "--batch-columns is 0, it should be"),
        ("epochs is 0, it should be at least 1", "--epochs is 0, it should be at least 1"),
        (
            "c.pt is of another training: learning_rate is 1 now and 2 in the checkpoint; epochs "
            "is 3 now",
            "c.pt is of another training: --learning-rate is 1 now and 2 in the checkpoint; "
            "--epochs is 3 now",
        ),
        (
            "attention_heads is for pooling='attention' only, got 2 with pooling='max'",
            "--heads is for --pooling attention only, got 2 with --pooling max",
        ),
        (
            "a.npz: strips have 1 channel, but 3 were asked for; open it with channels=1",
            "a.npz: strips have 1 channel, but 3 were asked for",
        ),
    ],
)
def test_arguments_become_options(text, typed):
    assert as_typed(text) == typed


@pytest.mark.parametrize(
    "text",
    [
        "the seed is lost, and so is the height",
        "runs/learning_rate is a file, but must be a folder",
        "label 'learning_rate' is not among 'a', 'b'",
        "--set hidden_size: it is given twice",
        "conv_channels must be a sequence of integers, got 0",
        "--max-width says nothing here",
    ],
)
def test_other_words_stay(text):
    assert as_typed(text) == text


def test_every_option_that_is_named_exists():
    known = set()
    for command in app.registered_commands:
        for name, parameter in inspect.signature(command.callback).parameters.items():
            known.add("--" + name.replace("_", "-"))
            known.update(str(parameter.annotation).replace("'", " ").replace("/", " ").split())
    assert set(OPTIONS.values()) <= known
