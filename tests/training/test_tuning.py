import importlib.util
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from fastrnn.data import StripArrays, StripDigits, StripSubset
from fastrnn.data.augment import StripAugmentation
from fastrnn.models import StripClassifier, load_bundle
from fastrnn.training import Callback, CheckpointError, TrainingConfig, evaluate
from fastrnn.training.samplers import GridSampler, OptunaSampler
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


def memory_out(settings) -> StripClassifier:
    if settings["hidden_size"] == 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return build(settings)


def test_a_trial_that_takes_too_much_memory_fails_alone(tmp_path, strips):
    space = SearchSpace({"hidden_size": [2, 3]})
    result = Tuner(memory_out, CONFIG, space, tmp_path, progress=False).run(*strips)
    assert [trial.outcome for trial in result.trials] == ["failed", "complete"]
    assert result.trials[0].reason == "CUDA out of memory"


def test_a_damaged_checkpoint_fails_its_trial_alone(tmp_path, strips):
    space = {"hidden_size": [2, 3]}
    assert tuner(tmp_path, space, callbacks=(StopAfter(2),)).run(*strips).interrupted
    checkpoint = tmp_path / "trials" / "0000" / "training" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    result = tuner(tmp_path, space).run(*strips)
    assert [trial.outcome for trial in result.trials] == ["failed", "complete"]
    assert "checkpoint.pt can't be read" in result.trials[0].reason


class Interrupt(Callback):
    def on_step(self, info) -> bool:
        raise KeyboardInterrupt


class DiskFull(Callback):
    def on_step(self, info) -> bool:
        raise OSError("no space left")


@pytest.mark.parametrize(
    ("callback", "error"), [(Interrupt(), KeyboardInterrupt), (DiskFull(), OSError)]
)
def test_what_is_not_of_a_trial_stops_them_all(tmp_path, strips, callback, error):
    with pytest.raises(error):
        tuner(tmp_path, callbacks=(callback,)).run(*strips)
    assert not list(tmp_path.glob("trials/*/trial.json"))


def test_strips_that_no_trial_could_learn_from_fail_none(tmp_path, strips):
    labels = [f"other {k}" for k in range(10)]
    other = StripSubset(strips[1], range(30), strips[1].targets, labels=labels)
    with pytest.raises(ValueError, match="validation has labels"):
        tuner(tmp_path).run(strips[0], other)
    assert len(tuner(tmp_path, {"hidden_size": [2]}).run(*strips).trials) == 1


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


class Note(Callback):
    """Writes down who makes how many trials."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"made by {os.getpid()}"

    def on_start(self, epochs: int) -> None:
        with self.path.open("a") as file:
            file.write("trial\n")


GRID = {"prune": False}
OPTUNA = {"prune": False, "search": "optuna", "trials": 4}
SEARCHES = [GRID, pytest.param(OPTUNA, marks=needs_optuna)]


def work(folder: Path, options: dict, ready=None) -> None:
    torch.set_num_threads(1)
    strips = StripDigits("train", size=60), StripDigits("test", size=30)
    one = tuner(folder, callbacks=(Note(folder.parent),), **options)
    if ready is not None:
        ready.wait(120)
    one.run(*strips)


@pytest.mark.parametrize("options", SEARCHES, ids=["grid", "optuna"])
def test_a_killed_tuning_goes_on_to_the_same_result(tmp_path, strips, options):
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=work, args=(tmp_path / "killed", options))
    process.start()
    begun = tmp_path / "killed" / "trials" / "0001" / "training" / "metrics.jsonl"
    while process.is_alive() and not begun.exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    result = tuner(tmp_path / "killed", **options).run(*strips)
    whole = tuner(tmp_path / "whole", **options).run(*strips)
    assert [(t.settings, t.accuracy) for t in result.trials] == [
        (t.settings, t.accuracy) for t in whole.trials
    ]
    assert same(result.model, whole.model)


@pytest.mark.parametrize("options", SEARCHES, ids=["grid", "optuna"])
def test_two_processes_at_a_time_make_each_trial_once(tmp_path, strips, options):
    spawn = multiprocessing.get_context("spawn")
    folder, ready = tmp_path / "tuning", spawn.Barrier(2)
    processes = [spawn.Process(target=work, args=(folder, options, ready)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    made = [path.read_text().count("trial") for path in tmp_path.glob("made by *")]
    assert len(made) == 2
    assert sum(made) == 4
    result = tuner(folder, **options).run(*strips)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3]
    assert same(result.model, TrialFolder(folder / "trials", result.best.number).model)
    assert not list(folder.glob(".*"))


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
    with pytest.raises(CheckpointError, match="kind is 'cnn' now and None"):
        tuner(tmp_path, {"hidden_size": [2]}, about={"kind": "cnn"}).run(*strips)
    dark = StripArrays(
        [strip.numpy() // 2 for strip, _ in strips[0]], strips[0].targets, strips[0].labels
    )
    with pytest.raises(CheckpointError, match="another training: train's pixels differ"):
        tuner(tmp_path, {"hidden_size": [2]}).run(dark, strips[1])


def test_augmentations_go_by_names_whose_meaning_must_stay(tmp_path, strips):
    space = {"augment": ["none", "much"]}
    names = {"none": None, "much": StripAugmentation(noise=40)}
    result = tuner(tmp_path, space, augmentations=names).run(*strips)
    assert result.trials[0].loss != result.trials[1].loss
    names["much"] = StripAugmentation(noise=50)
    with pytest.raises(CheckpointError, match=r"augmentations.much.noise is 50 now and 40"):
        tuner(tmp_path, space, augmentations=names).run(*strips)


def test_a_model_of_something_else_is_left_alone(tmp_path, strips):
    build({}).save(tmp_path / "model")
    with pytest.raises(ValueError, match="already holds a model of something else"):
        tuner(tmp_path).run(*strips)
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        tuner(tmp_path)


def test_a_damaged_description_of_a_tuning_is_named(tmp_path, strips):
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tuning.json can't be read"):
        tuner(tmp_path).run(*strips)


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


@needs_optuna
def test_optuna_chooses_among_values_of_several_parts(tmp_path):
    space = SearchSpace({"a": [(1, 2), (3,), 4], "b": [True, False]})
    words = {"trials": 8, "prune": False, "seed": 0}
    (tmp_path / "trials").mkdir()
    sampler = OptunaSampler(space, tmp_path / "trials", **words)
    tried = [sampler.settings(folder) for folder in sampler.folders()]
    assert {repr(settings["a"]) for settings in tried} <= {"(1, 2)", "(3,)", "4"}
    assert len({repr(settings) for settings in tried}) > 3
    again = OptunaSampler(space, tmp_path / "trials", **words)
    assert [again.settings(TrialFolder(tmp_path, n)) for n in range(8)] == tried


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "random"}, "search is 'random', it should be one of grid, optuna"),
        ({"trials": 3}, "trials is 3 with search='grid'"),
        ({"search": "optuna"}, "trials is None with search='optuna'"),
        ({"search": "optuna", "trials": 0}, "trials is 0, it should be at least 1"),
        ({"space": {"seed": [1, 2]}}, "the search space has seed"),
        ({"space": {"learning_rate": Range(1, 2)}}, "a grid needs a list of values"),
        ({"space": {"learning_rate": ["fast"]}}, "learning_rate is 'fast', it should be a number"),
        ({"space": {"augment": ["heavy"]}}, "augment is 'heavy', it should be one of none, light"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tuner(tmp_path, **options)
