import csv
import json

import pytest

from fastrnn.cli.errors import BAD_INPUT, FAILURE
from fastrnn.models import load_bundle

SMALL = ("--epochs", 1, "--set", "hidden_size=2,3", "--set", "learning_rate=0.01")


def test_the_best_model_the_table_and_the_picture_are_written(run, strips_folder, tmp_path):
    outcome = run("tune", strips_folder, *SMALL, "--set", "pooling=max,mean+max", "-o", "out")
    assert outcome.code == 0
    assert "Best model" in outcome.out
    with (tmp_path / "out" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["outcome"] for row in rows} == {"complete"}
    best = max(rows, key=lambda row: (float(row["accuracy"]), -float(row["loss"])))
    model = load_bundle(tmp_path / "out" / "model")
    assert (str(model.config.hidden_size), model.config.pooling) == (
        best["hidden_size"],
        best["pooling"],
    )
    assert (tmp_path / "out" / "trials.png").stat().st_size > 5000
    # What it names can be used at once.
    assert run("evaluate", "out", strips_folder, "-o", "judged").code == 0


def test_models_are_compared(run, strips_folder, tmp_path):
    words = ("--epochs", 1, "--set", "model=lstm,cnn", "--set", "dropout=0.1")
    assert run("tune", strips_folder, *words, "-o", "out").code == 0
    trials = sorted((tmp_path / "out" / "trials").glob("*/trial.json"))
    tried = [json.loads(path.read_text())["settings"]["model"] for path in trials]
    assert tried == ["lstm", "cnn"]


def test_the_same_command_again_trains_nothing_anew(run, strips_folder):
    first = run("tune", strips_folder, *SMALL, "-o", "out")
    again = run("tune", strips_folder, *SMALL, "-o", "out")
    assert "trial 0" in first.err
    assert again.code == 0
    assert "trial 0" not in again.err
    assert "Best model" in again.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "hiden_size=3"), "--set hiden_size: neither the training nor the model has"),
        (("--set", "hidden_size=3", "--set", "hidden-size=4"), "--set hidden_size is given twice"),
        (("--set", "model=lstm,gru"), "--set model should be some of lstm, cnn-lstm, cnn"),
        (("--set", "hidden_size"), "should be name=value"),
        (("--set", "learning_rate=1e-3..1e-2"), "a grid needs a list of values"),
        (("--validation-share", 0), "--validation-share is 0"),
    ],
)
def test_wrong_words(run, strips_folder, words, message):
    outcome = run("tune", strips_folder, "--epochs", 1, *words, "-o", "out")
    assert outcome.code == BAD_INPUT
    assert message in " ".join(outcome.err.split())


def test_no_trial_succeeds(run, strips_folder):
    outcome = run("tune", strips_folder, "--set", "hidden_size=-1", "-o", "out")
    assert outcome.code == FAILURE
    assert "no trial was completed" in outcome.err
    assert "hidden_size must be from 1" in outcome.err
