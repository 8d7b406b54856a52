"""``fastrnn tune``: many short trainings, and the best model of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastrnn.cli import options as opt
from fastrnn.cli.devices import Device, chosen_device
from fastrnn.cli.errors import FAILURE, INTERRUPTED, CommandError
from fastrnn.cli.model_options import Model
from fastrnn.cli.models import ModelName, build_model
from fastrnn.cli.reading import Reading
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.cli.runs import augmentation, describe_strips, next_steps, output_folder
from fastrnn.cli.sources import in_memory, only_labelled, open_source, split_off
from fastrnn.cli.tune_space import about_trials, default_space, search_space
from fastrnn.cli.workers import StopWithParent, Worker, is_worker, workers
from fastrnn.data import StripDataset, require_classes
from fastrnn.data.augment import PRESETS
from fastrnn.models import EncoderClassifier
from fastrnn.training import TrainingConfig
from fastrnn.training.checkpoint import write_atomically
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.search_space import Settings
from fastrnn.training.trials import Trial
from fastrnn.training.tuning import Build, Tuner, TuningResult
from fastrnn.tuning_plots import draw_trials

_SEARCH = "Search"
_DEFAULT_TRIALS = 20
_MOST_ROWS = 20


class SearchName(StrEnum):
    """How settings are chosen."""

    GRID = "grid"
    OPTUNA = "optuna"


def tune(
    context: typer.Context,
    source: opt.Source,
    reading_options: ReadingOptions,
    output: opt.Output = Path("runs/tune"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="What to try: name=value,value,... or name=low..high (Optuna only); a value of "
            "several parts in parentheses: 'conv_channels=(8,16),(16,32)'. Any setting of the "
            "model or the training; model=lstm,cnn-lstm tries models, augment=none,light,strong "
            "random changes of the strips. May be repeated.",
            show_default=" ".join(default_space(ModelName.LSTM)) + ", others with --model",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    search: Annotated[
        SearchName,
        typer.Option(help="Every combination, or Optuna's choice.", rich_help_panel=_SEARCH),
    ] = SearchName.GRID,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of trials, with Optuna.",
            show_default=str(_DEFAULT_TRIALS),
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune/--no-prune",
            help="Give up trials that fall behind the others.",
            rich_help_panel=_SEARCH,
        ),
    ] = True,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that work on it side by side, each with its share of the cores.",
            rich_help_panel=_SEARCH,
        ),
    ] = 1,
    model: Model = ModelName.LSTM,
    seed: opt.Seed = 0,
    train_size: opt.TrainSize = None,
    validation_share: opt.ValidationShare = 0.2,
    group_regex: opt.GroupRegex = None,
    epochs: opt.Epochs = 10,
    batch_columns: opt.BatchColumns = DEFAULT_MAX_PADDED_STEPS,
    device: Device = "auto",
) -> None:
    """Find good settings: train many models for a short time each.

    The same command goes on after Ctrl-C or a crash; started again in a
    second terminal, it helps. The best model is saved as a bundle; the table of all
    trials is trials.csv, their picture trials.png.

    [bold]Examples[/bold]

    fastrnn tune strips/ --output runs/tune
    fastrnn tune labels.csv --set hidden_size=32,64 --set dropout=0.1,0.3 --jobs 2
    fastrnn tune labels.csv --search optuna --trials 30 --set learning_rate=1e-3..3e-2 --set model=lstm,cnn-lstm
    """  # noqa: E501
    place = chosen_device(device)
    config = TrainingConfig(epochs=epochs, max_padded_steps=batch_columns, seed=seed)
    space = search_space(settings or default_space(model), model, config)
    if trials is not None and search is SearchName.GRID:
        raise CommandError("--trials is for --search optuna; a grid tries every combination")
    if validation_share == 0:
        raise CommandError("--validation-share is 0, but trials are judged on that share")
    opened, reading = open_source(source, Reading(reading_options, seed=seed), size=train_size)
    labelled, _ = only_labelled(opened)
    require_classes(labelled)
    strips, judges = split_off(in_memory(labelled), validation_share, seed, group_regex)
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    tuner = Tuner(
        _builder(model, strips, reading, seed, place),
        config,
        space,
        output_folder(output),
        about=about_trials(space, model, reading.reader),
        augmentations={name: augmentation(name, 0, strips) for name in PRESETS},
        search=search.value,
        trials=(trials or _DEFAULT_TRIALS) if search is SearchName.OPTUNA else None,
        prune=prune,
        callbacks=(StopWithParent(),) if is_worker() else (),
    )
    if is_worker():
        tuner.run(strips, judges)
        return
    typer.echo(f"Tuning on {describe_strips(strips)}", err=True)
    result = _run(tuner, strips, judges, jobs, context.obj)
    _conclude(result, output, source, reading)


def _builder(
    model: ModelName, strips: StripDataset, reading: Reading, seed: int, place: torch.device
) -> Build:
    def build(chosen: Settings) -> EncoderClassifier:
        rest: dict[str, Any] = dict(chosen)
        name = str(rest.pop("model", model.value))
        try:
            built = build_model(name, strips, seed, reader=reading.reader, **rest)
            return built.to(place)
        except CommandError as error:  # of this trial, not of the command
            raise ValueError(str(error)) from error

    return build


def _run(
    tuner: Tuner, strips: StripDataset, judges: StripDataset, jobs: int, words: Sequence[str]
) -> TuningResult:
    """Make all trials, by so many processes."""
    with workers(jobs - 1, words) as started:
        result = tuner.run(strips, judges)
        if not started or result.interrupted:
            return result
        try:
            _wait(started)
        except KeyboardInterrupt:
            return replace(result, interrupted=True)
    return tuner.run(strips, judges)  # what they found, and what those that failed left


def _wait(started: Sequence[Worker]) -> None:
    codes = [code for worker in started if (code := worker.wait())]
    if codes:
        typer.secho(
            f"{len(codes)} of the {len(started)} processes that --jobs started failed (exit code "
            f"{', '.join(map(str, codes))}); this one does what they left",
            fg="yellow",
            err=True,
        )


def _conclude(result: TuningResult, output: Path, source: str, reading: Reading) -> None:
    if result.trials:
        _show(result)
        table = output / "trials.csv"
        text = _as_csv(result.trials)
        write_atomically(table, lambda file: file.write(text.encode()))
        written = [table]
        if any(trial.accuracy is not None for trial in result.trials):
            written.append(draw_trials(output / "trials.png", result.trials))
        typer.echo(f"Written: {', '.join(map(str, written))}")
    if result.interrupted:
        typer.secho("\nInterrupted. To go on, run the same tune command.", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED)
    if result.best is None:
        raise CommandError(_no_best(result.trials), FAILURE)
    typer.echo(f"Best model (trial {result.best.number}) saved in {result.model}")
    next_steps(output, source, reading)


def _no_best(trials: Sequence[Trial]) -> str:
    failed = [trial for trial in trials if trial.outcome == "failed"]
    if not failed:
        return "no trial is complete yet; other processes are at work on them"
    return f"no trial was completed; trial {failed[0].number} failed: {failed[0].reason}"


def _show(result: TuningResult) -> None:
    ranked = sorted(result.trials, key=lambda trial: -(trial.accuracy or -1))
    names = list(dict.fromkeys(name for trial in ranked for name in trial.settings))
    title = f"Trials, best first ({len(ranked)})"
    table = Table("trial", *names, "accuracy", "parameters", "epochs", "time", title=title)
    for trial in ranked[:_MOST_ROWS]:
        chosen = [escape(_short(trial.settings.get(name, ""))) for name in names]
        accuracy = "failed" if trial.accuracy is None else f"{trial.accuracy:.1%}"
        early = "*" if trial.outcome == "pruned" else ""
        figures = [f"{trial.parameters:,}", f"{trial.epochs}{early}", f"{trial.seconds:.0f} s"]
        table.add_row(str(trial.number), *chosen, accuracy, *figures)
    console = Console()
    console.print(table)
    if len(ranked) > _MOST_ROWS:
        console.print(f"and {len(ranked) - _MOST_ROWS} more")
    if any(trial.outcome == "pruned" for trial in ranked):
        console.print("* given up early", highlight=False)


def _as_csv(trials: tuple[Trial, ...]) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    figures = ("outcome", "accuracy", "loss", "parameters", "epochs", "seconds", "reason")
    rows.writerow(["trial", *names, *figures])
    for trial in trials:
        chosen = [trial.settings.get(name, "") for name in names]
        rows.writerow([trial.number, *chosen, *(getattr(trial, figure) for figure in figures)])
    return text.getvalue()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
