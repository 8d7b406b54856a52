"""``fastrnn self-train``: a classifier from few labelled and many unlabelled strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fastrnn.cli import options as opt
from fastrnn.cli.builtin_sources import is_built_in
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.errors import CommandError
from fastrnn.cli.model_options import ModelOptions
from fastrnn.cli.models import build_model, default_learning_rate
from fastrnn.cli.reading import Reading
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.runs import (
    clear_output,
    describe_strips,
    next_steps,
    output_folder,
    prepare_output,
    save_model,
    stop_interrupted,
)
from fastrnn.cli.sources import (
    in_memory,
    joined,
    only_labelled,
    open_source,
    open_unlabelled,
    split_off,
)
from fastrnn.data import UNLABELLED, StripDataset, StripSubset, label_split, require_classes
from fastrnn.models import EncoderClassifier
from fastrnn.models.bundle import CONFIG_FILE, WEIGHTS_FILE
from fastrnn.training import (
    Callback,
    RoundReport,
    SelfTrainer,
    SelfTrainingConfig,
    SelfTrainingResult,
    TrainingConfig,
    evaluate,
)

IntArray: TypeAlias = NDArray[np.int64]

SUPERVISED_FOLDER = "supervised"
SELF_TRAINING_TRACES = (
    "self_training.pt",
    "rounds.jsonl",
    "round-*/*.*",
    f"{SUPERVISED_FOLDER}/{CONFIG_FILE}",
    f"{SUPERVISED_FOLDER}/{WEIGHTS_FILE}",
)


def self_train(
    source: opt.Source,
    reading_options: ReadingOptions,
    model_options: ModelOptions,
    output: opt.Output = Path("runs/self-train"),
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Keep so many labels and hide the others, to see what self-training gains: a "
            "number such as 600, or a share such as 0.1.",
            show_default="all labels",
        ),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            help="More strips, without labels: a folder of files, a CSV file or shards. May be "
            "given several times.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Labelled strips to measure on before and after: a source as the first one.",
            show_default="the test part of a built-in source",
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(help="Believe a prediction if its probability is above this."),
    ] = 0.9,
    max_iter: Annotated[int, typer.Option(min=0, help="Rounds of self-training, at most.")] = 5,
    round_patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many rounds without a better result.")
    ] = 2,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
    train_size: opt.TrainSize = None,
    validation: opt.Validation = None,
    validation_share: opt.HeldOutShare = 0.2,
    group_regex: opt.GroupRegex = None,
    epochs: opt.Epochs = 40,
    round_epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the strips in each further round, when there are more of them.",
            show_default="a quarter of --epochs",
            rich_help_panel="Training",
        ),
    ] = None,
    learning_rate: opt.LearningRate = None,
    weight_decay: opt.WeightDecay = 0.01,
    batch_columns: opt.BatchColumns = 6000,
    device: Device = "auto",
) -> None:
    """Train a classifier on few labelled and many unlabelled strips.

    First the model learns from the labelled strips. Then it labels those of
    the others that it is sure of, learns from both, and so on, as long as it
    gets better on labelled strips that are held out.

    A CSV file's rows without a label count as unlabelled.

    [bold]Examples[/bold]

    fastrnn self-train labels.csv
    fastrnn self-train labelled/ --unlabelled more-scans/ --threshold 0.95
    fastrnn self-train strip-mnist --train-size 6000 --labelled 600
    """
    place = chosen_device(device)
    if learning_rate is None:
        learning_rate = default_learning_rate(model_options.model)
    training = TrainingConfig(
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        max_padded_steps=batch_columns,
        seed=seed,
    )
    config = SelfTrainingConfig(
        training=training,
        fine_tuning=replace(training, epochs=round_epochs) if round_epochs else None,
        threshold=threshold,
        max_iter=max_iter,
        patience=round_patience,
        held_out_fraction=validation_share,
    )
    prepare_output(output, SELF_TRAINING_TRACES, resume=resume, overwrite=overwrite)
    if group_regex is not None and validation is not None:
        raise CommandError("--group-regex says what is held out, but --validation does so too")
    architecture = model_options.architecture()
    known, reading = open_source(source, Reading(reading_options, seed=seed), size=train_size)
    if labelled is not None:
        _share(labelled, int((known.targets != UNLABELLED).sum()))
    output_folder(output)
    judges = _labelled_part(validation, reading, known.labels)
    if group_regex is not None:
        known, part = split_off(known, validation_share, seed, group_regex)
        judges = in_memory(only_labelled(part)[0])
    more = [open_unlabelled(path, reading, known.labels) for path in unlabelled or []]
    strips, truth = hide_labels(in_memory(joined([known, *more])), labelled, seed)
    require_classes(strips)
    exam = _labelled_part(test or (source if is_built_in(source) else None), reading, strips.labels)

    model = build_model(model_options.model, strips, seed, reader=reading.reader, **architecture)
    model.to(place)
    labels = int((strips.targets != UNLABELLED).sum())
    if labels == len(strips):
        raise CommandError(
            f"all {labels:,} strips of {source} have a label: give others by --unlabelled, or hide "
            "some labels by --labelled"
        )
    if overwrite:
        clear_output(output, SELF_TRAINING_TRACES)
    typer.echo(
        f"Training on {describe_strips(strips)}: {labels:,} labelled, {len(strips) - labels:,} not",
        err=True,
    )
    result = run_self_training(model, config, strips, judges, truth, output)
    if result.termination_condition_ == "interrupt":
        stop_interrupted("self-train", output)
    Console().print(rounds_table(result.rounds, result.best_round))
    typer.echo(f"Ended by: {_ENDINGS[result.termination_condition_]}")
    if exam is not None:
        supervised = EncoderClassifier.load(output / SUPERVISED_FOLDER, map_location=place)
        before, after = evaluate(supervised, exam).accuracy, evaluate(model, exam).accuracy
        typer.echo(
            f"Accuracy on {len(exam):,} test strips: {before:.2%} with the labels alone, "
            f"{after:.2%} after self-training"
        )
    next_steps(output, test or source, reading)


def run_self_training(
    model: EncoderClassifier,
    config: SelfTrainingConfig,
    strips: StripDataset,
    judges: StripDataset | None,
    truth: IntArray | None,
    output: Path,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> SelfTrainingResult:
    """Self-train, keep the supervised model of round 0 as well, and save both.

    What the output folder holds of the same training already is gone on with.
    """
    supervised = replace(config, max_iter=0)
    begun = (output / SUPERVISED_FOLDER / CONFIG_FILE).exists()
    stages = [config] if begun else [supervised, config]
    for stage in stages:
        trainer = SelfTrainer(model, stage, out_dir=output, progress=progress, callbacks=callbacks)
        result = trainer.fit(strips, judges, true_targets=truth, resume=True)
        save_model(model, output)
        if result.termination_condition_ == "interrupt":
            break
        if stage is supervised:
            model.save(output / SUPERVISED_FOLDER)
    return result


def hide_labels(
    strips: StripDataset, labelled: str | None, seed: int
) -> tuple[StripDataset, IntArray | None]:
    """Keep some labels and hide the others, which are returned as the truth to compare with.

    Parameters
    ----------
    strips
        The strips, some of them perhaps unlabelled already.
    labelled
        A count such as "600" or a share such as "0.1" of the labels; None for all of them.
    seed
        Chooses them, each class in proportion.
    """
    if labelled is None:
        return strips, None
    known = int((strips.targets != UNLABELLED).sum())
    share = _share(labelled, known)
    _, hidden = label_split(strips.targets, share, seed)
    targets = strips.targets.copy()
    targets[hidden] = UNLABELLED
    return StripSubset(strips, np.arange(len(strips)), targets=targets), strips.targets


def rounds_table(rounds: Sequence[RoundReport], best: int | None) -> Table:
    """Lay out the rounds of a self-training; ``best`` is marked."""
    with_truth = any(report.precision is not None for report in rounds)
    table = Table("round", "pseudo-labels", "coverage", title="Self-training")
    if with_truth:
        table.add_column("right")
    table.add_column("held-out")
    table.add_column("seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for report in rounds:
        cells = [
            "labels alone" if report.round == 0 else f"{report.round}",
            f"{report.selected:,}" if report.round else "",
            f"{report.coverage:.1%}" if report.round else "",
        ]
        if with_truth:
            cells.append("" if report.precision is None else f"{report.precision:.1%}")
        star = " *" if report.round == best else "  "
        cells += [f"{report.held_out_accuracy:.1%}{star}", f"{report.seconds:.0f}"]
        table.add_row(*cells)
    table.caption = "* the model that is kept"
    return table


_ENDINGS = {
    "no_change": "no further strip was believed",
    "max_iter": "--max-iter",
    "all_labeled": "every strip has a label",
    "no_improvement": "no better result on the held-out strips for --round-patience rounds",
}


def _share(labelled: str, known: int) -> float:
    try:
        number = float(labelled)
    except ValueError:
        number = 0.0
    if not number > 0 or (number >= 1 and not number.is_integer()):
        raise CommandError(
            f"--labelled is {labelled!r}, but should be a number of strips such as 600, or a share "
            "such as 0.1"
        )
    if number > known:
        raise CommandError(f"--labelled is {labelled}, but only {known:,} strips have a label")
    return number / known if number >= 1 else number


def _labelled_part(
    source: str | None, reading: Reading, labels: Sequence[str]
) -> StripDataset | None:
    if source is None:
        return None
    strips, _ = open_source(source, reading, split="test", labels=labels)
    return in_memory(only_labelled(strips)[0])
