"""``fastrnn demo``: the whole way, from few labels to predictions, in a few minutes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fastrnn.cli import options as opt
from fastrnn.cli.bundles import MODEL_FOLDER
from fastrnn.cli.errors import INTERRUPTED, CommandError
from fastrnn.cli.predict import predict
from fastrnn.cli.runs import clear_output, output_folder, prepare_output
from fastrnn.cli.self_train import (
    SELF_TRAINING_TRACES,
    SUPERVISED_FOLDER,
    rounds_table,
    run_self_training,
)
from fastrnn.cli.sources import in_memory
from fastrnn.data import (
    UNLABELLED,
    StripDataset,
    StripDigits,
    StripSubset,
    label_split,
    stratified_split,
    write_png,
)
from fastrnn.models import StripClassifier
from fastrnn.plots import StripPicture, draw_strips
from fastrnn.training import (
    Callback,
    EpochRecord,
    Evaluation,
    SelfTrainingConfig,
    StepInfo,
    TrainingConfig,
    evaluate,
)

_DIGITS = 1297  # handwritten digits in the training part of StripDigits
_LABELLED = 0.1
_HELD_OUT = 0.2  # of the labelled digits
_JUDGE_STRIPS = 5  # strips of each digit held out, as there are so few
_SHOWN = 8  # test strips in the picture
_TEST_STRIPS = 2000  # of 500 digits, each in four strips


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the model, pictures and strips.")
    ] = Path("demo-output"),
    seed: opt.Seed = 0,
    train_size: Annotated[
        int,
        typer.Option(
            min=100, max=_DIGITS, help="Training strips; of one in ten the label is known."
        ),
    ] = _DIGITS,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the labelled strips at first.")
    ] = 40,
    round_epochs: Annotated[
        int, typer.Option(min=1, help="Passes over all strips in each further round.")
    ] = 8,
    max_iter: Annotated[int, typer.Option(min=0, help="Rounds of self-training, at most.")] = 6,
) -> None:
    """Watch a classifier learn from few labels (about two minutes).

    Makes long strips of handwritten digits, shows the labels of one in ten to
    a classifier, lets it label the others by itself, and leaves the model, a
    picture of what it sees and some strips to try.
    """
    console = Console()
    clock = time.perf_counter()
    _claim(output)
    strips, judges, truth = few_labels(train_size, seed)
    exam = in_memory(StripDigits("test", size=_TEST_STRIPS))
    clear_output(output, SELF_TRAINING_TRACES)
    labelled = int((strips.targets >= 0).sum())
    console.print("[bold]Which digit is hidden in a long strip?[/bold]")
    console.print(
        f"Each of {len(strips):,} strips, {strips.height} rows by {strips.lengths.min()} to "
        f"{strips.lengths.max()} columns, holds a handwritten digit among pieces of others. Only "
        f"one digit in ten has a label: a bidirectional LSTM learns from {labelled:,} labelled "
        f"strips, and those of {len(judges) // _JUDGE_STRIPS:,} more digits are held out to judge "
        f"it. Then it labels those of the other {len(strips) - labelled:,} strips that it is sure "
        "of, learns from them too, and so on.\n",
        highlight=False,
    )
    training = TrainingConfig(epochs=epochs, learning_rate=5e-3, max_padded_steps=6000, seed=seed)
    config = SelfTrainingConfig(
        training=training,
        fine_tuning=replace(training, epochs=round_epochs),
        max_iter=max_iter,
        patience=None,
    )
    torch.manual_seed(seed)
    model = StripClassifier(strips.channels, strips.height, len(strips.labels))
    rounds = _RoundsOnScreen(console)
    result = run_self_training(
        model, config, strips, judges, truth, output, progress=False, callbacks=[rounds]
    )
    if result.termination_condition_ == "interrupt":
        typer.secho("\nInterrupted. The next demo starts anew.", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED)
    console.print(rounds_table(result.rounds, result.best_round))

    supervised = StripClassifier.load(output / SUPERVISED_FOLDER)
    before, after = evaluate(supervised, exam), evaluate(model, exam)
    console.print(_results(before, after, labelled, len(strips) - labelled, len(exam)))
    picture = draw_strips(
        output / "strips.png",
        look_at(model, exam, range(_SHOWN)),
        title="Test strips: where the classifier looks (orange), and what it sees",
    )
    files = _write_strips(exam, output / "strips")
    _show_predict(console, output, files[0])
    console.print(
        f"\nDone in {time.perf_counter() - clock:.0f} s. Look at [bold]{picture}[/bold], and try:\n"
        f"  fastrnn predict {output} {output / 'strips'}\n"
        f"  fastrnn evaluate {output} strip-digits\n"
        "  fastrnn self-train --help     with your own strips: a folder of images per class\n"
        "  fastrnn doctor                what runs on this machine",
        highlight=False,
        soft_wrap=True,
    )


class _RoundsOnScreen(Callback):
    """Shows a line that changes during a round, and leaves one line a round."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._round = -1
        self._accuracy: float | None = None

    def on_start(self, epochs: int) -> None:
        self._round += 1
        self._clock = time.perf_counter()
        self._status.start()

    def on_step(self, info: StepInfo) -> None:
        self._status.update(
            f"{self._name}: epoch {info.epoch} of {info.epochs}, "
            f"{info.accuracy:.0%} of the training strips right"
        )

    def on_epoch(self, record: EpochRecord) -> None:
        self._accuracy = record.validation_accuracy

    def on_end(self) -> None:
        self._status.stop()
        if self._accuracy is not None:
            seconds = time.perf_counter() - self._clock
            self._console.print(
                f"{self._name}: {self._accuracy:.1%} of the held-out strips right, {seconds:.0f} s",
                highlight=False,
            )

    @property
    def _name(self) -> str:
        return f"Round {self._round}" if self._round else "Labels alone"


def few_labels(train_size: int, seed: int) -> tuple[StripDataset, StripDataset, NDArray[np.int64]]:
    """Make the training strips, most of them unlabelled, the held-out ones, and the truth.

    A digit is either labelled, held out or unlabelled; no digit is in two of these parts.
    """
    digits = StripDigits("train", size=train_size)
    labelled, _ = label_split(digits.targets, _LABELLED, seed)
    chosen, _ = stratified_split(digits.targets[labelled], _HELD_OUT, seed)
    held_out = labelled[chosen]
    kept = np.setdiff1d(np.arange(train_size), held_out)
    truth = digits.targets[kept]
    targets = np.where(np.isin(kept, labelled), truth, UNLABELLED)
    # Strip i + 1297 shows the digit of strip i elsewhere, among other pieces.
    again = (held_out + _DIGITS * np.arange(_JUDGE_STRIPS)[:, None]).ravel()
    judges = StripSubset(StripDigits("train", size=_DIGITS * _JUDGE_STRIPS), again)
    return in_memory(StripSubset(digits, kept, targets=targets)), in_memory(judges), truth


def look_at(model: StripClassifier, strips: StripDataset, indices: range) -> list[StripPicture]:
    """Classify some labelled strips and show where the attention was."""
    pictures: list[StripPicture] = []
    for index in indices:
        strip, target = strips[index]
        with torch.inference_mode():
            logits, attention = model.eval()(strip[None], return_attention=True)
        confidence, predicted = logits[0].softmax(0).max(0)
        right = int(predicted) == target
        truth = "" if right else f", but it is {strips.labels[target]}"
        pictures.append(
            StripPicture(
                strip.numpy(),
                f"{strips.labels[int(predicted)]} ({float(confidence):.0%} sure){truth}",
                attention=attention[0].numpy(),
                right=right,
            )
        )
    return pictures


def _results(
    before: Evaluation, after: Evaluation, labelled: int, unlabelled: int, strips: int
) -> Table:
    table = Table(
        "learned from", "accuracy", "macro F1", "errors", title=f"On {strips:,} new strips"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [
        (f"{labelled:,} labelled strips", before),
        (f"the same and {unlabelled:,} unlabelled ones", after),
    ]
    for name, figures in rows:
        errors = int(figures.confusion.sum() - figures.confusion.trace())
        table.add_row(name, f"{figures.accuracy:.1%}", f"{figures.macro_f1:.3f}", f"{errors:,}")
    return table


def _claim(output: Path) -> None:
    """Mark the folder as the demo's, which the next demo may empty; refuse anybody else's."""
    mark = output / ".fastrnn-demo"
    traces = (*SELF_TRAINING_TRACES, "checkpoint.pt", MODEL_FOLDER)
    if not mark.exists() and any(True for trace in traces for _ in output.glob(trace)):
        raise CommandError(
            f"--output {output} holds a training that is not a former demo's: choose another folder"
        )
    prepare_output(output, SELF_TRAINING_TRACES, resume=False, overwrite=True)
    output_folder(output)
    mark.touch()


def _write_strips(strips: StripDataset, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files: list[Path] = []
    for index in range(_SHOWN):
        strip, target = strips[index]
        files.append(folder / f"{index}-is-{strips.labels[target]}.png")
        write_png(strip, files[-1])
    return files


def _show_predict(console: Console, output: Path, strip: Path) -> None:
    console.print(f"\n$ fastrnn predict {output} {strip}", highlight=False, soft_wrap=True)
    predict(output / MODEL_FOLDER, [strip], format_=None)
