import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastrnn.data import StripArrays
from fastrnn.data.augment import StripAugmentation
from fastrnn.models import StripClassifier
from fastrnn.models.windows import WindowPlan
from fastrnn.training import (
    Callback,
    CheckpointError,
    NonFiniteLossError,
    Trainer,
    TrainingConfig,
    TrainingResult,
    evaluate,
)
from fastrnn.training.checkpoint import load_checkpoint

HEIGHT = 6
CONFIG = TrainingConfig(epochs=3, learning_rate=0.05, max_padded_steps=80, weight_decay=0.1)


class StopAt(Callback):
    """Asks for a stop after a number of steps, or before the end of a validation."""

    def __init__(self, step: int | None = None, *, in_validation: bool = False) -> None:
        self.step, self.in_validation, self.trainer = step, in_validation, None

    def on_step(self, info):
        if self.step is not None:
            self.step -= 1
        return self.step == 0

    def on_validation(self, done, strips):
        if self.in_validation and done < strips:
            self.trainer.request_stop()


def fit(model: nn.Module, config: TrainingConfig, data, **options: Any) -> TrainingResult:
    """Train quietly; options for the trainer and for fit."""
    resume = options.pop("resume", False)
    callbacks = options.get("callbacks", [])
    trainer = Trainer(model, config, progress=False, **options)
    for callback in callbacks:
        callback.trainer = trainer
    return trainer.fit(*data, resume=resume)


def timeless(result: TrainingResult) -> list[dict[str, Any]]:
    """The history without what depends on the clock."""
    records = [dataclasses.asdict(record) for record in result.history]
    return [{k: v for k, v in record.items() if "second" not in k} for record in records]


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.fixture
def data(clusters) -> tuple[StripArrays, StripArrays]:
    return clusters(40, classes=3), clusters(30, classes=3, seed=1, spread=60)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9},
        {"schedule": "plateau", "plateau_patience": 0, "epochs": 5, "learning_rate": 0.2},
        {"patience": 1, "monitor": "loss", "epochs": 6},
        {"label_smoothing": 0.1, "clip_norm": None, "checkpoint_every_seconds": 0.0},
        {"schedule": "onecycle", "class_weights": (1.0, 2.0, 3.0), "amp": "float16"},
        {"augment": StripAugmentation(stretch=0.3, noise=9, mixup=0.5), "balanced_sampling": True},
    ],
)
@pytest.mark.parametrize("step", [1, 4, 7, 12, None])
def test_a_resumed_training_is_the_same_bit_for_bit(
    data, row_means, tmp_path: Path, changes: dict[str, Any], step: int | None
) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    stop = StopAt(step, in_validation=step is None)
    straight, resumed = row_means(3), row_means(3)
    expected = fit(straight, config, data)
    first = fit(resumed, config, data, out_dir=tmp_path, callbacks=[stop])
    assert first.stopped_by == "interrupt"
    assert len(first.history) == (step or 0) // 5  # an epoch has five steps
    fresh = row_means(3, seed=123)  # the checkpoint has all the weights
    second = fit(fresh, config, data, out_dir=tmp_path, resume=True)
    assert_same_weights(straight, fresh)
    assert timeless(second) == timeless(expected)
    assert (second.stopped_by, second.best_epoch) == (expected.stopped_by, expected.best_epoch)


def test_it_may_be_interrupted_after_every_step(data, row_means, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, ema_decay=0.9)
    straight, resumed = row_means(3), row_means(3)
    expected = fit(straight, config, data)
    stops = 0
    while True:
        options = {"out_dir": tmp_path, "callbacks": [StopAt(1)], "resume": True}
        result = fit(resumed, config, data, **options)
        if result.stopped_by == "epochs":
            break
        stops += 1
    assert stops >= 9
    assert_same_weights(straight, resumed)
    assert timeless(result) == timeless(expected)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_a_recurrent_classifier_is_resumed_bit_for_bit(data, tmp_path: Path) -> None:
    def classifier() -> StripClassifier:
        torch.manual_seed(0)
        return StripClassifier(1, HEIGHT, 3, hidden_size=5, num_layers=2, dropout=0.3)

    config = dataclasses.replace(CONFIG, ema_decay=0.9)
    straight, resumed = classifier(), classifier()
    expected = fit(straight, config, data)
    fit(resumed, config, data, out_dir=tmp_path, callbacks=[StopAt(7)])
    result = fit(resumed, config, data, out_dir=tmp_path, resume=True)
    assert_same_weights(straight, resumed)
    assert timeless(result) == timeless(expected)


def test_the_number_of_workers_changes_nothing_and_may_be_another_after_a_resume(
    data, row_means, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, epochs=2, augment=StripAugmentation(noise=9, mixup=0.5))
    beside = dataclasses.replace(config, num_workers=1)
    straight, resumed = row_means(3), row_means(3)
    fit(straight, config, data)
    fit(resumed, beside, data, out_dir=tmp_path, callbacks=[StopAt(3)])
    assert multiprocessing.active_children() == []
    fit(resumed, config, data, out_dir=tmp_path, resume=True)
    assert_same_weights(straight, resumed)


def test_each_epoch_has_its_own_batches(data, row_means) -> None:
    epochs: list[list[list[int]]] = []

    class Watch(Callback):
        def on_start(self, count):
            epochs.append([])

        def on_epoch(self, record):
            epochs.append([])

    model = row_means(3)

    def remember(module, inputs) -> None:
        if module.training:
            epochs[-1].append(inputs[1].tolist())

    model.register_forward_pre_hook(remember)
    fit(model, CONFIG, data, callbacks=[Watch()])
    first, second, third, _ = epochs
    assert len(first) == 5
    assert first != second != third != first
    assert sum(map(sum, first)) == sum(map(sum, second)) == sum(data[0].lengths)


def test_the_journal_has_one_line_an_epoch_after_a_crash(data, row_means, tmp_path: Path) -> None:
    class Crash(Callback):
        def on_step(self, info):
            if info.epoch == 3:
                raise OSError("the power went off")

    with pytest.raises(OSError, match="power"):
        fit(row_means(3), CONFIG, data, out_dir=tmp_path, callbacks=[Crash()])
    journal = tmp_path / "metrics.jsonl"
    # As if the crash had come between the journal's line and the checkpoint, in mid-line.
    with journal.open("a") as file:
        file.write('{"epoch": 3, "lo')
    result = fit(row_means(3), CONFIG, data, out_dir=tmp_path, resume=True)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert lines == [dataclasses.asdict(record) for record in result.history]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_a_finished_training_stays_finished(data, row_means, tmp_path: Path) -> None:
    model, again = row_means(3), row_means(3, seed=1)
    expected = fit(model, CONFIG, data, out_dir=tmp_path)
    result = fit(again, CONFIG, data, out_dir=tmp_path, resume=True)
    assert result == expected
    assert_same_weights(model, again)


def test_resume_without_a_checkpoint_starts_anew(data, row_means, tmp_path: Path) -> None:
    straight, resumed = row_means(3), row_means(3)
    fit(straight, CONFIG, data)
    fit(resumed, CONFIG, data, out_dir=tmp_path, resume=True)
    assert_same_weights(straight, resumed)


def test_a_plateau_training_may_be_extended(data, row_means, tmp_path: Path) -> None:
    short = dataclasses.replace(CONFIG, schedule="plateau", epochs=2)
    long = dataclasses.replace(short, epochs=4)
    straight, extended = row_means(3), row_means(3)
    fit(straight, long, data)
    fit(extended, short, data, out_dir=tmp_path)
    assert len(fit(extended, long, data, out_dir=tmp_path, resume=True).history) == 4
    assert_same_weights(straight, extended)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate is 0\.5 now and 0\.05 in the checkpoint"),
        ({"epochs": 9}, "epochs is 9 now and 3 in the checkpoint .*cosine schedule spans"),
        ({"seed": 1, "clip_norm": None}, "clip_norm is None now .*; seed is 1 now"),
    ],
)
def test_other_settings_are_named_at_a_resume(
    data, row_means, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    fit(row_means(3), CONFIG, data, out_dir=tmp_path)
    model = row_means(3, seed=1)
    before = model.output.weight.clone()
    with pytest.raises(CheckpointError, match=message):
        fit(model, dataclasses.replace(CONFIG, **changes), data, out_dir=tmp_path, resume=True)
    assert torch.equal(model.output.weight, before)


def test_another_model_is_named_at_a_resume(data, row_means, tmp_path: Path) -> None:
    class Wider(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = row_means(3)

        def forward(self, strips, lengths=None):
            return self.rows(strips, lengths)

    fit(row_means(3), CONFIG, data, out_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"of another model: the model has no hidden\.bias"):
        fit(Wider(), CONFIG, data, out_dir=tmp_path, resume=True)
    model = row_means(3)
    model.hidden, model.output = nn.Linear(6, 4), nn.Linear(4, 3)
    with pytest.raises(CheckpointError, match=r"hidden\.bias has shape \(4,\) in the model and"):
        fit(model, CONFIG, data, out_dir=tmp_path, resume=True)


def test_other_settings_of_the_model_are_named_at_a_resume(data, tmp_path: Path) -> None:
    def classifier(**settings):
        return StripClassifier(1, HEIGHT, 3, labels=data[0].labels, hidden_size=4, **settings)

    fit(classifier(dropout=0.1), CONFIG, data, out_dir=tmp_path)
    message = r"model\.pooling is 'max' now and 'attention' in the checkpoint"
    with pytest.raises(CheckpointError, match=message):
        fit(classifier(dropout=0.1, pooling="max"), CONFIG, data, out_dir=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"model\.dropout is 0\.9 now and 0\.1"):
        fit(classifier(dropout=0.9), CONFIG, data, out_dir=tmp_path, resume=True)


def test_a_model_of_windows_learns_from_windows(data, row_means) -> None:
    class Windowed(nn.Module):
        windows = WindowPlan(size=4, stride=2)

        def __init__(self) -> None:
            super().__init__()
            self.rows, self.widths = row_means(3), []

        def forward(self, strips, lengths=None):
            if self.training:
                self.widths += lengths.tolist()
            return self.rows(strips, lengths)

    model = Windowed()
    fit(model, dataclasses.replace(CONFIG, epochs=1), data)
    windows = sum(1 + max(0, -(-(int(columns) - 4) // 2)) for columns in data[0].lengths)
    assert max(data[0].lengths) > 4
    assert max(model.widths) == 4
    assert len(model.widths) == windows


def test_a_former_training_is_not_overwritten(data, row_means, tmp_path: Path) -> None:
    fit(row_means(3), CONFIG, data, out_dir=tmp_path)
    with pytest.raises(ValueError, match=r"already holds a training \(checkpoint\.pt\)"):
        fit(row_means(3), CONFIG, data, out_dir=tmp_path)


def test_early_stopping_gives_the_best_weights_back(data, row_means) -> None:
    # A rate far too high makes the results jump.
    config = dataclasses.replace(CONFIG, learning_rate=2.0, epochs=50, patience=3)
    model = row_means(3)
    result = fit(model, config, data)
    assert result.stopped_by == "patience"
    assert len(result.history) == result.best_epoch + 3 < 50
    best = result.history[result.best_epoch - 1]
    assert best.validation_accuracy == max(r.validation_accuracy for r in result.history)
    assert result.history[-1].validation_loss != best.validation_loss
    assert evaluate(model, data[1], max_padded_steps=80).loss == best.validation_loss


def test_the_monitor_decides_what_is_best(data, row_means) -> None:
    for monitor, key in (("loss", "validation_loss"), ("accuracy", "validation_accuracy")):
        config = dataclasses.replace(CONFIG, learning_rate=1.0, epochs=12, monitor=monitor)
        result = fit(row_means(3), config, data)
        values = [getattr(record, key) for record in result.history]
        best = min(values) if monitor == "loss" else max(values)
        assert values[result.best_epoch - 1] == best


def test_averaged_weights_are_what_is_evaluated_and_returned(
    data, row_means, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, ema_decay=0.95)
    raw, averaged = row_means(3), row_means(3)
    fit(raw, CONFIG, data)
    result = fit(averaged, config, data, out_dir=tmp_path)
    assert not torch.equal(raw.output.weight, averaged.output.weight)
    last = result.history[-1]
    assert evaluate(averaged, data[1], max_padded_steps=80).loss == last.validation_loss
    # The training itself went on with the raw weights, so that it can be resumed.
    saved = load_checkpoint(tmp_path / "checkpoint.pt", "fastrnn training 2")["run"]
    assert torch.equal(saved["model"]["output.weight"], raw.output.weight)


def test_weight_decay_leaves_vectors_alone(data, row_means) -> None:
    def biases(decay: float) -> list[float]:
        model = row_means(3)
        nn.init.zeros_(model.output.weight)  # no gradient reaches the first layer
        model.output.weight.requires_grad_(False)
        with torch.no_grad():
            model.hidden.bias.fill_(1.0)
        fit(model, dataclasses.replace(CONFIG, weight_decay=decay), data)
        return [
            float(model.hidden.bias.detach().mean()),
            float(model.hidden.weight.norm().detach()),
        ]

    (bias, norm), (bias_decayed, norm_decayed) = biases(0.0), biases(2.0)
    assert bias == bias_decayed == 1.0
    assert norm_decayed < norm


def test_gradients_are_clipped(data, row_means, monkeypatch) -> None:
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, closure=None):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(row_means(3), dataclasses.replace(CONFIG, clip_norm=0.01), data)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


class Breaks(nn.Module):
    """Gives NaN from a number of training steps on."""

    def __init__(self, model: nn.Module, after: int) -> None:
        super().__init__()
        self.model, self.after = model, after

    def forward(self, strips, lengths=None):
        if self.training:
            self.after -= 1
        logits = self.model(strips, lengths)
        return logits * float("nan") if self.after < 0 and self.training else logits


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_kept(
    data, row_means, tmp_path: Path
) -> None:
    model = Breaks(row_means(3), after=7)
    with pytest.raises(NonFiniteLossError, match=r"loss became nan in epoch 2, step 3 of .*0.05"):
        fit(model, CONFIG, data, out_dir=tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoint.pt", "fastrnn training 2")["run"]
    assert saved["epoch"] == 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["model"][name])
        assert value.isfinite().all()


def test_a_gradient_that_is_not_finite_changes_no_weights(data, row_means) -> None:
    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = row_means(3)

        def forward(self, strips, lengths=None):
            return Infinite.apply(self.model(strips, lengths))

    model = Model()
    with pytest.raises(NonFiniteLossError, match=r"gradient's norm became .* epoch 1, step 1"):
        fit(model, CONFIG, data)
    assert_same_weights(model.model, row_means(3))


def test_a_checkpoint_is_written_within_an_epoch(data, row_means, tmp_path: Path) -> None:
    class Watch(Callback):
        def on_step(self, info):
            if info.step == 3:
                saved = load_checkpoint(tmp_path / "checkpoint.pt", "fastrnn training 2")["run"]
                seen.append((saved["epoch"], saved["step"]))

    seen: list[tuple[int, int]] = []
    config = dataclasses.replace(CONFIG, checkpoint_every_seconds=0.0)
    fit(row_means(3), config, data, out_dir=tmp_path, callbacks=[Watch()])
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_folder_that_can_not_be_written_is_refused(data, row_means, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"out_dir .* can't be written"):
        fit(row_means(3), CONFIG, data, out_dir=tmp_path / "file")


def test_resume_needs_a_folder(data, row_means) -> None:
    with pytest.raises(ValueError, match="resume is True, but out_dir is None"):
        fit(row_means(3), CONFIG, data, resume=True)
