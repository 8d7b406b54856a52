"""``fastrnn train``: a classifier from labelled strips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from fastrnn.cli import options as opt
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.errors import CommandError
from fastrnn.cli.model_options import ModelOptions
from fastrnn.cli.models import build_model, default_learning_rate
from fastrnn.cli.reading import Reading
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.runs import (
    augmentation,
    clear_output,
    describe_strips,
    next_steps,
    output_folder,
    prepare_output,
    save_model,
    stop_interrupted,
)
from fastrnn.cli.sources import in_memory, only_labelled, open_source, split_off
from fastrnn.data import StripDataset, require_classes
from fastrnn.data.checks import counted
from fastrnn.reports import REPORT_FILES, write_run_report
from fastrnn.training import Trainer, TrainingConfig, TrainingResult
from fastrnn.training.checks import check_training
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.tensorboard import TensorBoardCallback

_TRACES = ("checkpoint.pt", "metrics.jsonl")
_BESIDE = (*REPORT_FILES, "tensorboard/*/events.out.tfevents.*")


def train(
    source: opt.Source,
    reading_options: ReadingOptions,
    model_options: ModelOptions,
    output: opt.Output = Path("runs/train"),
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
    train_size: opt.TrainSize = None,
    validation: opt.Validation = None,
    validation_share: opt.ValidationShare = 0.1,
    group_regex: opt.GroupRegex = None,
    epochs: opt.Epochs = 20,
    learning_rate: opt.LearningRate = None,
    schedule: opt.Schedule = opt.ScheduleOption.COSINE,
    patience: opt.Patience = None,
    weight_decay: opt.WeightDecay = 0.01,
    label_smoothing: opt.LabelSmoothing = 0.0,
    ema_decay: opt.EmaDecay = None,
    tensorboard: opt.Tensorboard = False,
    class_weights: opt.ClassWeights = None,
    balanced: opt.Balanced = False,
    augment: opt.Augment = opt.AugmentName.NONE,
    mixup: opt.Mixup = 0.0,
    batch_columns: opt.BatchColumns = DEFAULT_MAX_PADDED_STEPS,
    accumulate: opt.Accumulate = 1,
    amp: opt.Amp = opt.AmpName.OFF,
    workers: opt.Workers = 0,
    device: Device = "auto",
) -> None:
    """Train a classifier on labelled strips.

    Writes the model, a report to open in a browser (report.html), a checkpoint
    and a log (metrics.jsonl, one JSON object per epoch) into the output folder.
    Ctrl-C stops at a safe point; --resume goes on from there.

    [bold]Examples[/bold]

    fastrnn train strips/ --output runs/first
    fastrnn train labels.csv --height 48 --rgb --epochs 40 --patience 5
    fastrnn train strip-mnist --train-size 20000 --augment light
    fastrnn train clips/ --model cnn-lstm --max-frames 32
    fastrnn train scans/ --model fusion --rgb --depth-range 500 4500
    """
    place = chosen_device(device)
    if learning_rate is None:
        learning_rate = default_learning_rate(model_options.model)
    config = TrainingConfig(
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=schedule.value,
        patience=patience,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        ema_decay=ema_decay,
        class_weights=class_weights.value if class_weights else None,
        balanced_sampling=balanced,
        max_padded_steps=batch_columns,
        accumulate=accumulate,
        amp=amp.value,
        num_workers=workers,
        seed=seed,
    )
    callbacks = [TensorBoardCallback(output / "tensorboard")] if tensorboard else []
    prepare_output(output, _TRACES, resume=resume, overwrite=overwrite)
    if group_regex is not None and (validation is not None or validation_share == 0):
        raise CommandError("--group-regex says which strips are split off, but none are")
    architecture = model_options.architecture()
    opened = open_source(source, Reading(reading_options, seed=seed), size=train_size)
    reading = opened.reading
    labelled = _labelled(opened.strips)
    output_folder(output)
    strips, judges = _divided(labelled, validation, validation_share, group_regex, reading)
    config = replace(config, augment=augmentation(augment.value, mixup, strips))
    model = build_model(model_options.model, strips, seed, reader=reading.reader, **architecture)
    model.to(place)
    check_training(model, config, strips, judges)
    if overwrite:
        clear_output(output, (*_TRACES, *_BESIDE))
    typer.echo(f"Training on {describe_strips(strips)}", err=True)
    trainer = Trainer(model, config, out_dir=output, callbacks=callbacks)
    result = trainer.fit(strips, judges, resume=resume)
    folder = save_model(model, output)
    if result.stopped_by == "interrupt":
        stop_interrupted("train", output)
    typer.echo(_summary(result, best_kept=patience is not None))
    typer.echo(f"Model saved in {folder}")
    typer.echo(f"Report: {write_run_report(output, model, result, strips, judges, config)}")
    next_steps(output, source, reading)


def _labelled(strips: StripDataset) -> StripDataset:
    labelled, unlabelled = only_labelled(strips)
    require_classes(labelled)
    if unlabelled is not None:
        typer.echo(
            f"{counted(len(unlabelled), 'strip')} without a label passed over; "
            "fastrnn self-train takes such strips too",
            err=True,
        )
    return labelled


def _divided(
    labelled: StripDataset,
    validation: str | None,
    share: float,
    group_regex: str | None,
    reading: Reading,
) -> tuple[StripDataset, StripDataset | None]:
    if validation is not None:
        judges, _ = open_source(validation, reading, split="test", labels=labelled.labels)
        judges, _ = only_labelled(judges)
        return in_memory(labelled), in_memory(judges)
    if share == 0:
        return in_memory(labelled), None
    return split_off(in_memory(labelled), share, reading.seed, group_regex)


def _summary(result: TrainingResult, *, best_kept: bool) -> str:
    last = result.history[-1]
    if last.validation_accuracy is None:
        return f"Epochs trained: {len(result.history)}; accuracy in training: {last.accuracy:.1%}"
    kept = result.history[result.best_epoch - 1] if best_kept and result.best_epoch else last
    return (
        f"Epochs trained: {len(result.history)}; accuracy on the validation strips: "
        f"{kept.validation_accuracy:.1%} (epoch {kept.epoch})"
    )
