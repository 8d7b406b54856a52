"""The examples run, and learn what they are meant to."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fastrnn.data import StripDigits, export_strips

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_and_in_the_list():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"few_labels", "lstm_with_lengths", "train_on_a_folder"}
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"{name}.py" in listed for name in names)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_train_on_a_folder(tmp_path, capsys):
    export_strips(StripDigits("train", size=60), tmp_path / "strips")
    accuracy = load("train_on_a_folder").main(tmp_path / "strips", epochs=2)
    out = capsys.readouterr().out
    assert "StripFolder(60 strips" in out
    assert f"{accuracy:.1%} of 12 validation strips right" in out
    assert "0/000003.png: " in out


def test_lstm_with_lengths(capsys):
    assert load("lstm_with_lengths").main(steps=80) > 0.8
    difference = float(capsys.readouterr().out.rpartition(" ")[2])
    assert difference < 1e-3


def test_few_labels(capsys):
    before, after = load("few_labels").main(strips=150, epochs=2, rounds=1)
    assert 0 <= before <= after <= 1
    assert "of 500 new strips right" in capsys.readouterr().out
