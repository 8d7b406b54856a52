import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn.cli import workers
from fastrnn.cli.errors import BAD_INPUT, FAILURE
from fastrnn.cli.models import ModelName, known_settings
from fastrnn.cli.tune_space import default_space, search_space
from fastrnn.models import load_bundle
from fastrnn.training import TrainingConfig

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


@pytest.mark.parametrize("model", ModelName)
def test_every_model_has_a_space_of_its_own(model):
    space = search_space(default_space(model), model, TrainingConfig())
    assert set(space) - set(known_settings(model)) == {"learning_rate"}
    assert len(space) == 3


def test_models_are_compared(run, strips_folder, tmp_path):
    words = ("--epochs", 1, "--set", "model=lstm,cnn", "--set", "dropout=0.1")
    assert run("tune", strips_folder, *words, "-o", "out").code == 0
    trials = sorted((tmp_path / "out" / "trials").glob("*/trial.json"))
    tried = [json.loads(path.read_text())["settings"]["model"] for path in trials]
    assert tried == ["lstm", "cnn"]


def test_values_of_several_parts(run, strips_folder, tmp_path):
    words = ("--model", "cnn", "--epochs", 1, "--set", "conv_channels=(2,2,2),(3,3,3)")
    assert run("tune", strips_folder, *words, "-o", "out").code == 0
    best = load_bundle(tmp_path / "out" / "model").config.conv_channels
    assert best in [(2, 2, 2), (3, 3, 3)]
    again = run("tune", strips_folder, *words, "-o", "out")
    assert again.code == 0
    assert "trial 0" not in again.err


def test_augmentations_are_tried_by_their_names(run, strips_folder, tmp_path):
    words = ("--epochs", 1, "--set", "augment=none,strong", "--set", "hidden_size=2")
    assert run("tune", strips_folder, *words, "-o", "out").code == 0
    with (tmp_path / "out" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["augment"], row["outcome"]) for row in rows] == [
        ("none", "complete"),
        ("strong", "complete"),
    ]
    assert rows[0]["loss"] != rows[1]["loss"]


def test_another_model_or_reading_in_the_folder_is_refused(run, strips_folder):
    words = ("tune", strips_folder, "--epochs", 1, "--set", "dropout=0.1", "-o", "out")
    assert run(*words).code == 0
    outcome = run(*words, "--model", "cnn")
    assert outcome.code == BAD_INPUT
    assert "--model is 'cnn' now and 'lstm' in" in outcome.err
    outcome = run(*words, "--value-range", 0, 300)
    assert outcome.code == BAD_INPUT
    assert "reading.value_range is [0.0, 300.0] now and None in" in outcome.err


def test_settings_that_do_not_suit_the_strips_fail_alone(run, strips_folder):
    words = ("--set", "scan=channels", "--set", "width=10,500", "--set", "hidden_size=2")
    outcome = run("tune", strips_folder, "--epochs", 1, *words, "-o", "out")
    assert outcome.code == 0
    assert "strips must have at most 10 columns" in outcome.err
    assert "Best model (trial 1)" in outcome.out


def test_two_processes_share_the_trials(run, strips_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(fastrnn.__file__).parents[1]))
    words = ("--epochs", 1, "--set", "hidden_size=2,3", "--jobs", 2, "-o", "out")
    # The words of this process are those of the tests: the second one must be told its own.
    outcome = run("tune", strips_folder, *words)
    assert outcome.code == 0
    assert "failed" not in outcome.err
    assert (tmp_path / "out" / "trials.csv").read_text().count("complete") == 2


def test_the_same_command_again_trains_nothing_anew(run, strips_folder):
    first = run("tune", strips_folder, *SMALL, "-o", "out")
    again = run("tune", strips_folder, *SMALL, "-o", "out")
    assert "trial 0" in first.err
    assert again.code == 0
    assert "trial 0" not in again.err
    assert "Best model" in again.out


def test_what_a_failed_process_leaves_is_done_by_the_first(run, strips_folder, monkeypatch):
    def fail(words):
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(workers, "_start", fail)
    words = ("--epochs", 1, "--set", "hidden_size=2", "--jobs", 3, "-o", "out")
    outcome = run("tune", strips_folder, *words)
    assert outcome.code == 0
    assert "2 of the 2 processes that --jobs started failed (exit code 3, 3)" in outcome.err
    assert "Best model" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "hiden_size=3"), "--set hiden_size: neither the training nor the model has"),
        (("--set", "hidden_size=3", "--set", "hidden-size=4"), "--set hidden_size is given twice"),
        (("--set", "model=lstm,gru"), "--set model should be some of lstm, cnn-lstm, cnn"),
        (("--set", "hidden_size"), "--set 'hidden_size' should be name=value"),
        (("--set", "hidden_size=0.5,2"), "--set hidden_size must be an integer, got 0.5"),
        (("--set", "learning_rate=fast"), "--set learning_rate is 'fast', it should be a number"),
        (("--set", "augment=heavy"), "--set augment is 'heavy', it should be one of none, light"),
        (
            ("--set", "conv_channels=8,16", "--model", "cnn"),
            "got 8; parentheses make one value of several: --set 'conv_channels=(8,16)'",
        ),
        (("--trials", 5), "--trials is for --search optuna"),
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
    assert "no trial was completed; trial 0 failed: hidden_size must be from 1" in outcome.err
