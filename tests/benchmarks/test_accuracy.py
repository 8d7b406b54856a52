"""The table of the field: what is trained is stored once, and shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import speed, table
from benchmarks.accuracy.recipes import RECIPES, Recipe
from benchmarks.accuracy.results import ACCURACY_FILE, row, stored_speed
from benchmarks.accuracy.tasks import TASKS, Task
from benchmarks.claims import claimed
from benchmarks.results_file import load, store
from fastrnn.data import StripDigits
from fastrnn.models import StripClassifier, StripCNN
from fastrnn.training import TrainingConfig

TRAINING = TrainingConfig(epochs=2, max_padded_steps=2048)
LSTM = Recipe("digits", "lstm", StripClassifier, {"hidden_size": 4}, TRAINING, "92 %", 0.98, 2)
CNN = Recipe("digits", "cnn", StripCNN, {"conv_channels": (4, 4)}, TRAINING, seeds=1)


def digits():
    yield StripDigits("train", size=40), StripDigits("test", size=30)
    yield StripDigits("train", size=50), StripDigits("test", size=20)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two small models of digits in two folds; gives the file of results."""
    file = tmp_path / "results" / "accuracy.json"
    for module in (command, table):
        monkeypatch.setattr(module, "RECIPES", (LSTM, CNN))
        monkeypatch.setattr(module, "ACCURACY_FILE", file)
    monkeypatch.setattr(command, "WORK", tmp_path / "work")
    monkeypatch.setattr(command, "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(speed, "BATCHES", 1)
    monkeypatch.setitem(TASKS, "digits", Task("a few digits", digits))
    return file


def test_all_that_is_asked_for_is_stored(results: Path) -> None:
    command.main([])
    cells = load(results)
    assert set(cells) == {
        "digits/lstm/seed 0",
        "digits/lstm/seed 1",
        "digits/lstm/speed",
        "digits/cnn/seed 0",
    }
    run = cells["digits/lstm/seed 0"]
    assert run["test_strips"] == np.sum(run["confusion"]) == 50
    right = 30 * run["fold_accuracies"][0] + 20 * run["fold_accuracies"][1]
    assert run["accuracy"] == pytest.approx(right / 50)
    assert np.shape(run["curve"]) == (2, 4)
    assert run["curve"][-1][3] == pytest.approx(np.mean(run["fold_accuracies"]), abs=1e-4)
    assert cells["digits/lstm/speed"]["ratio"]["p50"] > 0


def test_what_is_stored_is_not_run_again(results: Path, capsys: pytest.CaptureFixture) -> None:
    command.main(["digits/cnn"])
    assert "digits/cnn/seed 0" in capsys.readouterr().out
    command.main(["digits/cnn"])
    assert capsys.readouterr().out == ""
    command.main(["digits/cnn", "--again"])
    assert "digits/cnn/seed 0" in capsys.readouterr().out


def test_what_another_process_is_at_is_left_alone(results: Path, tmp_path: Path) -> None:
    with claimed(tmp_path / "work" / "digits" / "lstm" / "seed 0.claim") as mine:
        assert mine
        command.main(["digits/lstm", "--no-speed"])
    assert set(load(results)) == {"digits/lstm/seed 1"}


def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.main(["digits/lstm", "--seeds", "1", "--no-speed"])
    straight = load(results).pop("digits/lstm/seed 0")
    results.unlink()
    monkeypatch.setattr(command, "WORK", tmp_path / "again")
    command.main(["digits/lstm", "--seeds", "1", "--no-speed", "--minutes", "1e-4"])
    assert load(results) == {}
    command.main(["digits/lstm", "--seeds", "1", "--no-speed"])
    resumed = load(results)["digits/lstm/seed 0"]
    assert resumed["curve"] == straight["curve"]
    assert resumed["confusion"] == straight["confusion"]


def test_the_table_shows_what_is_stored_and_what_is_missing(results: Path) -> None:
    environment = {"cpu": "a machine", "torch": "2"}
    recipe = LSTM.described()
    for seed, (accuracy, threads) in enumerate([(0.97, 2), (0.99, 1)]):
        run = {
            "recipe": recipe,
            "accuracy": accuracy,
            "parameters": 1234,
            "train_seconds": 60.0 * (1 + seed),
            "environment": {**environment, "threads": threads},
        }
        store({f"digits/lstm/seed {seed}": run}, results)
    lines = table.accuracy_table().splitlines()
    assert lines[2].startswith(
        "| a few digits | lstm | 1,234 | 92 % | 98.0% | **98.00%** ± 1.41 (2 seeds) | "
        "2.0 min on 1 thread, 1.0 min on 2 threads |"
    )
    assert "| cnn |" in lines[3]
    assert "not run yet" in lines[3]
    assert row(LSTM, load(results)).mean == pytest.approx(0.98)


def test_a_result_of_another_recipe_does_not_count(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    command.main(["digits/cnn"])
    capsys.readouterr()
    longer = replace(CNN, training=replace(TRAINING, epochs=3))
    assert row(longer, load(results)) is None
    monkeypatch.setattr(command, "RECIPES", (LSTM, longer))
    command.main(["digits/cnn", "--minutes", "1e-4"])  # finds the other recipe's training
    command.main(["digits/cnn"])
    assert "digits/cnn/seed 0" in capsys.readouterr().out
    assert row(longer, load(results)).runs[0]["epochs"] == 3


def test_speed_of_another_model_does_not_count(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.main(["digits/lstm", "--seeds", "1"])
    longer = replace(LSTM, training=replace(TRAINING, epochs=3))
    assert stored_speed(longer, load(results)) == load(results)["digits/lstm/speed"]
    wider = replace(LSTM, settings={"hidden_size": 5})
    assert stored_speed(wider, load(results)) is None
    monkeypatch.setattr(command, "RECIPES", (wider,))
    command.main(["digits/lstm", "--seeds", "1"])
    assert row(wider, load(results)).speed["recipe"]["settings"] == {"hidden_size": 5}


def test_results_that_are_stored_at_a_time_are_all_kept(tmp_path: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor

    file = tmp_path / "results.json"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_store_several, [file] * 4, range(4)))
    assert len(load(file)) == 40


def _store_several(file: Path, process: int) -> None:
    for number in range(10):
        store({f"{process}/{number}": number}, file)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.key)
def test_no_recipe_looks_at_the_test_strips_before_its_end(recipe: Recipe) -> None:
    assert recipe.training.patience is None
    assert recipe.training.schedule != "plateau"
    assert recipe.seeds == 3


def test_models_of_strip_mnist_have_at_most_200_000_parameters() -> None:
    strips = StripDigits("train", size=20)
    for recipe in RECIPES:
        if recipe.task.startswith("strip-mnist"):
            parameters = sum(p.numel() for p in recipe.build(strips).parameters())
            assert parameters <= 200_000, recipe.key


def test_a_task_has_one_panel_of_curves_and_no_place_is_left_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    monkeypatch.setattr(table, "CURVES_FILE", tmp_path / "curves.png")
    table.draw_curves()
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert all(panel.lines for panel in panels)
    stored = {recipe.task for recipe in RECIPES if row(recipe, load(ACCURACY_FILE))}
    titles = [panel.get_title() for panel in panels]
    assert sorted(titles) == sorted(TASKS[task].title for task in stored - {"rgb", "depth"})
