import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastrnn.data import StripArrays, StripSubset
from fastrnn.training import (
    Callback,
    CheckpointError,
    ConfidenceThreshold,
    NonFiniteLossError,
    SelfTrainer,
    SelfTrainingConfig,
    SelfTrainingResult,
    TrainingConfig,
    evaluate,
)

TRAINING = TrainingConfig(epochs=25, learning_rate=0.02, max_padded_steps=400)
QUICK = SelfTrainingConfig(
    training=TrainingConfig(epochs=2, learning_rate=0.01, max_padded_steps=400),
    threshold=0.5,
    max_iter=3,
    patience=None,
)
HEIGHT = 20


@dataclasses.dataclass(frozen=True)
class Problem:
    """Strips of two classes, few of them labelled, and others to validate and to test on."""

    dataset: StripSubset
    truth: np.ndarray
    validation: StripArrays
    test: StripArrays

    @property
    def unlabelled(self) -> np.ndarray:
        return np.flatnonzero(self.dataset.targets < 0)


@pytest.fixture
def problem(clusters) -> Problem:
    def strips(count: int, seed: int) -> StripArrays:
        return clusters(count, height=HEIGHT, spread=35, seed=seed)

    everything = strips(168, 0)
    targets = everything.targets.copy()
    targets[8:] = -1
    hidden = StripSubset(everything, range(168), targets=targets)
    return Problem(hidden, everything.targets, strips(60, 1), strips(400, 2))


@pytest.fixture
def model(row_means) -> nn.Module:
    return row_means(height=HEIGHT)


def self_train(
    model: nn.Module, config: SelfTrainingConfig, problem: Problem, **options: Any
) -> SelfTrainingResult:
    resume = options.pop("resume", False)
    trainer = SelfTrainer(model, config, progress=False, **options)
    return trainer.fit(
        problem.dataset, problem.validation, true_targets=problem.truth, resume=resume
    )


def assert_same_result(first: SelfTrainingResult, second: SelfTrainingResult) -> None:
    def timeless(result: SelfTrainingResult) -> list[dict[str, Any]]:
        return [{**dataclasses.asdict(r), "seconds": None} for r in result.rounds]

    assert timeless(first) == timeless(second)
    assert first.best_round == second.best_round
    assert first.termination_condition_ == second.termination_condition_
    np.testing.assert_array_equal(first.transduction_, second.transduction_)
    np.testing.assert_array_equal(first.labeled_iter_, second.labeled_iter_)


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


class Fixed:
    """A labeller that gives what it is told, round by round."""

    def __init__(self, *rounds: dict[int, int]) -> None:
        self.rounds = list(rounds)

    def __call__(self, probabilities, previous):
        labels = torch.full_like(previous, -1)
        for position, label in self.rounds.pop(0).items():
            labels[position] = label
        return labels


def test_it_gets_better_than_the_supervised_model(problem, model, row_means) -> None:
    config = SelfTrainingConfig(training=TRAINING, max_iter=4)
    supervised = row_means(height=HEIGHT)
    self_train(supervised, dataclasses.replace(config, max_iter=0), problem)
    result = self_train(model, config, problem)
    assert result.best_round > 0
    before, after = result.rounds[0], result.rounds[result.best_round]
    assert after.held_out_accuracy >= before.held_out_accuracy
    assert (
        evaluate(model, problem.test).accuracy > evaluate(supervised, problem.test).accuracy + 0.02
    )


def test_the_model_has_the_weights_of_the_best_round(problem, model) -> None:
    result = self_train(model, SelfTrainingConfig(training=TRAINING, patience=None), problem)
    ranked = [(r.held_out_accuracy, -r.held_out_loss) for r in result.rounds]
    assert result.best_round == ranked.index(max(ranked))
    evaluation = evaluate(model, problem.validation, max_padded_steps=400)
    best = result.rounds[result.best_round]
    assert (evaluation.accuracy, evaluation.loss) == (best.held_out_accuracy, best.held_out_loss)


def test_harmful_pseudo_labels_leave_the_supervised_model(problem, model, row_means) -> None:
    def wrong(probabilities, previous):
        return 1 - torch.from_numpy(problem.truth[problem.unlabelled])

    supervised = row_means(height=HEIGHT)
    config = SelfTrainingConfig(training=TRAINING, max_iter=0)
    self_train(supervised, config, problem)
    config = SelfTrainingConfig(training=TRAINING, max_iter=1, labelled_share=0.0)
    result = self_train(model, config, problem, labeller=wrong)
    assert result.rounds[1].precision == 0
    assert result.rounds[1].held_out_accuracy < result.rounds[0].held_out_accuracy
    assert result.best_round == 0
    assert_same_weights(model, supervised)
    assert (result.transduction_[problem.unlabelled] == -1).all()
    assert (result.labeled_iter_ == np.where(problem.dataset.targets < 0, -1, 0)).all()


def test_reports_and_results_agree_on_the_pseudo_labels(problem, model) -> None:
    config = SelfTrainingConfig(training=TRAINING, max_iter=3, patience=None)
    result = self_train(model, config, problem)
    best = result.rounds[result.best_round]
    labels = result.transduction_[problem.unlabelled]
    chosen = labels >= 0
    assert best.selected == chosen.sum() > 0
    assert best.coverage == chosen.mean()
    truth = problem.truth[problem.unlabelled]
    assert best.precision == (labels == truth)[chosen].mean()
    assert best.class_counts == {f"class {k}": int((labels == k).sum()) for k in range(2)}
    since = result.labeled_iter_[problem.unlabelled]
    assert ((since > 0) == chosen).all()
    assert since.max() <= result.best_round
    assert (result.labeled_iter_[:8] == 0).all()
    assert (result.transduction_[:8] == problem.truth[:8]).all()
    assert result.classes_ == ("class 0", "class 1")
    assert result.held_out.size == 0


def test_labels_may_be_changed_and_withdrawn_and_say_since_when(problem, model) -> None:
    rounds = Fixed({0: 1, 1: 0, 2: 1}, {0: 1, 1: 1, 3: 0}, {0: 1, 1: 1, 3: 0, 2: 1})
    result = self_train(model, QUICK, problem, labeller=rounds)
    counts = [(r.added, r.changed, r.withdrawn) for r in result.rounds]
    assert counts == [(0, 0, 0), (3, 0, 0), (1, 1, 1), (1, 0, 0)]
    since = [[-1, -1, -1, -1], [1, 1, 1, -1], [1, 2, -1, 2], [1, 2, 3, 2]][result.best_round]
    assert result.labeled_iter_[problem.unlabelled][:4].tolist() == since


def test_it_trains_on_the_pseudo_labels_and_repeats_the_true_ones(
    problem, model, monkeypatch
) -> None:
    from fastrnn.training import self_training_run

    seen = []
    original = self_training_run.TrainingRun

    def watched(model, config, train, *rest, **options):
        seen.append((train.indices.tolist(), train.targets.tolist()))
        return original(model, config, train, *rest, **options)

    monkeypatch.setattr(self_training_run, "TrainingRun", watched)
    config = dataclasses.replace(QUICK, max_iter=1, labelled_share=0.5)
    rounds = Fixed({k: k % 2 for k in range(20)})
    self_train(model, config, problem, labeller=rounds)
    labelled = list(range(8))
    true = problem.truth[:8].tolist()
    assert seen[0] == (labelled, true)
    pseudo = problem.unlabelled[:20].tolist()
    assert seen[1] == (3 * labelled + pseudo, 3 * true + [k % 2 for k in range(20)])


def test_it_ends_when_no_strip_is_confident_enough(problem, model) -> None:
    config = dataclasses.replace(QUICK, threshold=0.999999)
    result = self_train(model, config, problem)
    assert result.termination_condition_ == "no_change"
    assert len(result.rounds) == 1


def test_it_ends_when_no_strip_gets_a_new_label(problem, model) -> None:
    rounds = Fixed({0: 1, 1: 0}, {0: 1})
    result = self_train(model, QUICK, problem, labeller=rounds)
    assert result.termination_condition_ == "no_change"
    assert len(result.rounds) == 2


def test_it_ends_when_all_are_labelled(problem, model) -> None:
    everything = dict.fromkeys(range(len(problem.unlabelled)), 1)
    result = self_train(model, QUICK, problem, labeller=Fixed(everything, everything))
    assert result.termination_condition_ == "all_labeled"
    assert len(result.rounds) == 2


def test_it_ends_after_so_many_rounds(problem, model) -> None:
    config = dataclasses.replace(QUICK, criterion="k_best", k_best=7, max_iter=2)
    result = self_train(model, config, problem)
    assert result.termination_condition_ == "max_iter"
    assert [report.selected for report in result.rounds] == [0, 7, 14]


def test_the_last_round_may_label_all(problem, model) -> None:
    config = dataclasses.replace(QUICK, criterion="k_best", k_best=10**6, max_iter=1)
    assert self_train(model, config, problem).termination_condition_ == "all_labeled"


def test_it_ends_when_the_held_out_result_gets_no_better(problem, model) -> None:
    still = TrainingConfig(epochs=1, learning_rate=1e-30, max_padded_steps=400, weight_decay=0)
    config = dataclasses.replace(QUICK, fine_tuning=still, max_iter=None, patience=2)
    rounds = Fixed(*(dict.fromkeys(range(n), 1) for n in range(1, 10)))
    result = self_train(model, config, problem, labeller=rounds)
    assert result.termination_condition_ == "no_improvement"
    assert (len(result.rounds), result.best_round) == (3, 0)


def test_without_validation_labelled_strips_are_held_out(problem, model, clusters) -> None:
    targets = problem.truth.copy()
    targets[40:] = -1
    dataset = StripSubset(problem.dataset, range(168), targets=targets)
    config = dataclasses.replace(QUICK, held_out_fraction=0.25, max_iter=1)
    result = SelfTrainer(model, config, progress=False).fit(dataset)
    assert len(result.held_out) == 10
    assert sorted(targets[result.held_out]) == [0] * 5 + [1] * 5
    best = result.rounds[result.best_round]
    held_out = StripSubset(dataset, result.held_out)
    assert evaluate(model, held_out, max_padded_steps=400).loss == best.held_out_loss


def test_the_same_seed_gives_the_same_result(problem, row_means) -> None:
    first, second = row_means(height=HEIGHT), row_means(height=HEIGHT)
    assert_same_result(self_train(first, QUICK, problem), self_train(second, QUICK, problem))
    assert_same_weights(first, second)


class StopInRound(Callback):
    """Asks for a stop in a step of a round."""

    def __init__(self, number: int, step: int = 1) -> None:
        self.number, self.step, self.starts = number, step, -1

    def on_start(self, epochs):
        self.starts += 1
        self.steps = 0

    def on_step(self, info):
        self.steps += 1
        return self.starts == self.number and self.steps == self.step


def test_an_interrupt_returns_the_best_round_so_far(problem, model) -> None:
    result = self_train(model, QUICK, problem, callbacks=[StopInRound(2)])
    assert result.termination_condition_ == "interrupt"
    assert len(result.rounds) == 2
    best = result.rounds[result.best_round]
    evaluation = evaluate(model, problem.validation, max_padded_steps=400)
    assert evaluation.loss == best.held_out_loss


def test_an_interrupt_in_round_0_leaves_no_best_round(problem, model) -> None:
    result = self_train(model, QUICK, problem, callbacks=[StopInRound(0)])
    assert (result.termination_condition_, result.best_round) == ("interrupt", None)
    assert result.rounds == ()


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_obeyed_between_two_trainings_too(problem, model) -> None:
    def labeller(probabilities, previous):
        signal.raise_signal(signal.SIGINT)
        return ConfidenceThreshold(0.5)(probabilities, previous)

    result = self_train(model, QUICK, problem, labeller=labeller)
    assert result.termination_condition_ == "interrupt"
    assert len(result.rounds) == 1


@pytest.mark.parametrize("stop", [(0, 1), (1, 1), (2, 3), (3, 2)])
def test_a_resumed_self_training_is_the_same_bit_for_bit(
    problem, row_means, tmp_path: Path, stop: tuple[int, int]
) -> None:
    straight, resumed = row_means(height=HEIGHT), row_means(height=HEIGHT, seed=0)
    expected = self_train(straight, QUICK, problem)
    callbacks = [StopInRound(*stop)]
    first = self_train(resumed, QUICK, problem, out_dir=tmp_path, callbacks=callbacks)
    assert first.termination_condition_ == "interrupt"
    assert len(first.rounds) == stop[0]
    second = self_train(resumed, QUICK, problem, out_dir=tmp_path, resume=True)
    assert_same_result(second, expected)
    assert_same_weights(straight, resumed)
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert lines == [dataclasses.asdict(report) for report in second.rounds]


def test_a_finished_self_training_may_get_more_rounds(problem, row_means, tmp_path: Path) -> None:
    short = dataclasses.replace(QUICK, max_iter=1)
    straight, extended = row_means(height=HEIGHT), row_means(height=HEIGHT)
    expected = self_train(straight, QUICK, problem)
    self_train(extended, short, problem, out_dir=tmp_path)
    result = self_train(extended, QUICK, problem, out_dir=tmp_path, resume=True)
    assert_same_result(result, expected)
    assert_same_weights(straight, extended)


def test_what_differs_is_named_at_a_resume(problem, model, tmp_path: Path) -> None:
    self_train(model, QUICK, problem, out_dir=tmp_path)
    other = dataclasses.replace(
        QUICK, threshold=0.8, training=dataclasses.replace(QUICK.training, seed=9)
    )
    message = r"training\.seed is 9 now and 0 .*; threshold is 0\.8 now and 0\.5 in the checkpoint"
    with pytest.raises(CheckpointError, match=message):
        self_train(model, other, problem, out_dir=tmp_path, resume=True)
    fewer = dataclasses.replace(
        problem, dataset=StripSubset(problem.dataset, range(100)), truth=problem.truth[:100]
    )
    with pytest.raises(CheckpointError, match=r"dataset's number of strips differ \(100 now, 168"):
        self_train(model, QUICK, fewer, out_dir=tmp_path, resume=True)


def test_a_former_training_is_not_overwritten(problem, model, tmp_path: Path) -> None:
    self_train(model, QUICK, problem, out_dir=tmp_path)
    with pytest.raises(ValueError, match=r"already holds a training \(self_training\.pt\)"):
        self_train(model, QUICK, problem, out_dir=tmp_path)


def test_after_an_error_the_model_has_the_best_weights_so_far(problem, model) -> None:
    class Break(Callback):
        rounds = 0

        def on_start(self, epochs):
            self.rounds += 1
            if self.rounds == 2:
                raise NonFiniteLossError("as if")

    class Supervised(Callback):
        def on_epoch(self, record):
            self.weights = {k: v.clone() for k, v in model.state_dict().items()}

    callbacks = [Break(), supervised := Supervised()]
    with pytest.raises(NonFiniteLossError):
        self_train(model, QUICK, problem, callbacks=callbacks)
    for name, value in model.state_dict().items():
        assert torch.equal(value, supervised.weights[name])


def test_progress_is_told_on_standard_error(problem, model, capsys) -> None:
    config = dataclasses.replace(QUICK, max_iter=1)
    trainer = SelfTrainer(model, config)
    trainer.fit(problem.dataset, problem.validation, true_targets=problem.truth)
    out, err = capsys.readouterr()
    assert out == ""
    starts = [line.split(":")[0] for line in err.splitlines()]
    assert starts == [
        "round 0, epoch 1/2",
        "round 0, epoch 2/2",
        "round 0",
        "round 1, epoch 1/1",
        "round 1",
    ]
    assert "precision" in err.splitlines()[-1]
