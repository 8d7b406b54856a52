import importlib.util
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from fastrnn.data import StripDigits
from fastrnn.models import StripClassifier, load_bundle
from fastrnn.training import Callback, CheckpointError, TrainingConfig, evaluate
from fastrnn.training.samplers import GridSampler
from fastrnn.training.search_space import Range, SearchSpace
from fastrnn.training.trials import TrialFolder
from fastrnn.training.tuning import Tuner

CONFIG = TrainingConfig(epochs=2, max_padded_steps=4096)
SPACE = {"hidden_size": [2, 6], "learning_rate": [1e-2, 3e-2]}

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="Optuna is not installed"
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def strips():
    return StripDigits("train", size=60), StripDigits("test", size=30)


def build(settings) -> StripClassifier:
    return StripClassifier(1, 28, 10, **settings)


def tuner(folder: Path, space=SPACE, config=CONFIG, **options) -> Tuner:
    return Tuner(build, config, SearchSpace(space), folder, progress=False, **options)


def weights(bundle: Path) -> dict[str, torch.Tensor]:
    return load_bundle(bundle).state_dict()


def same(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_combination_is_tried_and_the_best_kept(tmp_path, strips):
    result = tuner(tmp_path, prune=False).run(*strips)
    assert [trial.settings for trial in result.trials] == list(SearchSpace(SPACE).grid())
    assert {trial.outcome for trial in result.trials} == {"complete"}
    assert result.best.accuracy == max(trial.accuracy for trial in result.trials)
    best = load_bundle(result.model)
    assert best.config.hidden_size == result.best.settings["hidden_size"]
    assert evaluate(best, strips[1]).accuracy == result.best.accuracy


def test_settings_that_make_no_model_are_reported_and_the_rest_goes_on(tmp_path, strips):
    result = tuner(tmp_path, {"hidden_size": [-1, 3], "learning_rate": [1e-2]}).run(*strips)
    assert [trial.outcome for trial in result.trials] == ["failed", "complete"]
    assert "hidden_size must be from 1" in result.trials[0].reason
    assert result.best.number == 1


def test_a_loss_that_is_not_finite_fails_its_trial_alone(tmp_path, strips):
    space = {"learning_rate": [1e30, 1e-2], "clip_norm": [1e9]}
    result = tuner(tmp_path, space).run(*strips)
    assert [trial.outcome for trial in result.trials] == ["failed", "complete"]
    assert "became" in result.trials[0].reason


class StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, info) -> bool:
        self.left -= 1
        return self.left == 0


def test_an_interrupted_tuning_goes_on_to_the_same_result(tmp_path, strips):
    whole = tuner(tmp_path / "whole", prune=False).run(*strips)
    first = tuner(tmp_path / "parts", prune=False, callbacks=(StopAfter(6),)).run(*strips)
    assert first.interrupted
    assert len(first.trials) < len(whole.trials)
    second = tuner(tmp_path / "parts", prune=False).run(*strips)
    assert not second.interrupted
    for ours, theirs in zip(second.trials, whole.trials, strict=True):
        assert (ours.settings, ours.accuracy, ours.loss) == (
            theirs.settings,
            theirs.accuracy,
            theirs.loss,
        )
    assert same(second.model, whole.model)


def work(folder: Path) -> None:
    torch.set_num_threads(1)
    tuner(folder, prune=False).run(StripDigits("train", size=60), StripDigits("test", size=30))


def test_a_killed_tuning_goes_on_to_the_same_result(tmp_path, strips):
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=work, args=(tmp_path / "killed",))
    process.start()
    begun = tmp_path / "killed" / "trials" / "0001" / "training" / "metrics.jsonl"
    while process.is_alive() and not begun.exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    result = tuner(tmp_path / "killed", prune=False).run(*strips)
    whole = tuner(tmp_path / "whole", prune=False).run(*strips)
    assert [t.accuracy for t in result.trials] == [t.accuracy for t in whole.trials]
    assert same(result.model, whole.model)


def test_a_trial_that_another_process_has_is_passed_over(tmp_path, strips):
    with TrialFolder(tmp_path / "trials", 1).claimed() as mine:
        assert mine
        assert [t.number for t in tuner(tmp_path).run(*strips).trials] == [0, 2, 3]
    assert [t.number for t in tuner(tmp_path).run(*strips).trials] == [0, 1, 2, 3]


def test_another_tuning_in_the_folder_is_refused(tmp_path, strips):
    tuner(tmp_path, {"hidden_size": [2]}).run(*strips)
    with pytest.raises(CheckpointError, match=r"space is .* now and"):
        tuner(tmp_path).run(*strips)
    other = TrainingConfig(epochs=3, max_padded_steps=4096)
    with pytest.raises(CheckpointError, match="epochs is 3 now and 2"):
        tuner(tmp_path, {"hidden_size": [2]}, config=other).run(*strips)


def record(folder: TrialFolder, accuracies: list[float]) -> None:
    folder.training.mkdir(parents=True)
    lines = [json.dumps({"validation_accuracy": accuracy}) for accuracy in accuracies]
    (folder.training / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_the_median_of_the_others_decides_who_is_given_up(tmp_path):
    for number, last in enumerate([0.5, 0.6, 0.7, 0.8]):
        record(TrialFolder(tmp_path, number), [0.1, 0.2, last])
    sampler = GridSampler(SearchSpace({"a": [1, 2, 3, 4, 5]}), tmp_path, prune=True)
    mine = TrialFolder(tmp_path, 4)
    assert sampler.should_prune(mine, 3, 0.64)
    assert not sampler.should_prune(mine, 3, 0.66)
    assert not sampler.should_prune(mine, 2, 0.0)  # too early
    assert not sampler.should_prune(mine, 4, 0.0)  # nobody to compare with
    calm = GridSampler(SearchSpace({"a": [1]}), tmp_path, prune=False)
    assert not calm.should_prune(mine, 3, 0.0)


@needs_optuna
def test_optuna_makes_so_many_trials_and_goes_on(tmp_path, strips):
    space = {"hidden_size": Range(2, 6), "learning_rate": Range(1e-3, 1e-1, log=True)}
    first = tuner(tmp_path, space, search="optuna", trials=2).run(*strips)
    assert len(first.trials) == 2
    second = tuner(tmp_path, space, search="optuna", trials=4).run(*strips)
    assert len(second.trials) == 4
    assert second.trials[:2] == first.trials
    for trial in second.trials:
        assert 2 <= trial.settings["hidden_size"] <= 6
        assert 1e-3 <= trial.settings["learning_rate"] <= 1e-1


@needs_optuna
def test_optuna_goes_on_with_an_interrupted_trial(tmp_path, strips):
    options = {"search": "optuna", "trials": 2, "prune": False}
    space = {"hidden_size": Range(2, 6)}
    first = tuner(tmp_path, space, callbacks=(StopAfter(2),), **options).run(*strips)
    assert first.interrupted
    assert not first.trials
    second = tuner(tmp_path, space, **options).run(*strips)
    assert [trial.number for trial in second.trials] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "random"}, "search is 'random', it should be one of grid, optuna"),
        ({"trials": 3}, "trials is 3 with search='grid'"),
        ({"search": "optuna"}, "trials is None with search='optuna'"),
        ({"search": "optuna", "trials": 0}, "trials is 0, it should be at least 1"),
        ({"space": {"seed": [1, 2]}}, "the search space has seed"),
        ({"space": {"learning_rate": Range(1, 2)}}, "a grid needs a list of values"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tuner(tmp_path, **options)
