"""Tuning: many short trainings, each with other settings, and the best model of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from fastrnn.data import StripDataset
from fastrnn.data.checks import counted
from fastrnn.models.bundle import BundledModel
from fastrnn.training.callbacks import Callback
from fastrnn.training.checkpoint import check_same, prepare_folder, write_atomically
from fastrnn.training.checks import config_differences, data_differences, fingerprint
from fastrnn.training.config import TrainingConfig
from fastrnn.training.history import EpochRecord
from fastrnn.training.samplers import GridSampler, OptunaSampler
from fastrnn.training.search_space import SearchSpace, Settings
from fastrnn.training.trainer import Trainer
from fastrnn.training.training_run import CHECKPOINT_NAME, NonFiniteLossError
from fastrnn.training.trials import MODEL_FOLDER, Outcome, Trial, TrialFolder, all_finished

TRIALS_FOLDER = "trials"
TUNING_FILE = "tuning.json"

Build = Callable[[Settings], BundledModel]


@dataclass(frozen=True)
class TuningResult:
    """What a tuning found.

    Attributes
    ----------
    trials
        All that came to their end, by number, those of other processes included.
    best
        The one of the highest validation accuracy (between equal ones the lower loss), None if
        none was completed.
    model
        The bundle of its model, None without one.
    interrupted
        Whether Ctrl-C ended it; the same call goes on.
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    model: Path | None
    interrupted: bool


class Tuner:
    """Trains a model with many settings and keeps the best.

    Parameters
    ----------
    build
        Makes a new model from the settings that are not a `TrainingConfig`'s; called after
        `torch.manual_seed`.
    config
        How each is trained, but for what the space says.
    space
        What to try: names of `TrainingConfig`'s fields and of whatever `build` takes.
    out_dir
        Folder of the tuning. Several processes may work in one at the same time: each trial is
        done by one of them. A trial whose process was stopped or killed is gone on with by the
        next that comes by.
    search
        ``"grid"``: every combination. ``"optuna"``: `trials` of them, chosen by what the former
        ones gave; needs Optuna.
    trials
        How many, with Optuna.
    prune
        Whether trials that fall behind the others are given up early.
    progress
        Say on standard error what comes of each trial.
    callbacks
        Called during each training.

    Raises
    ------
    ValueError
        If the space does not fit the search.
    ModuleNotFoundError
        If Optuna is wanted and not installed.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> train, validation = StripDigits("train", size=40), StripDigits("test", size=20)
    >>> def build(settings):
    ...     return StripClassifier(1, 28, 10, labels=train.labels, **settings)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     space = SearchSpace({"hidden_size": [4, 8], "learning_rate": [1e-2]})
    ...     tuner = Tuner(build, TrainingConfig(epochs=1), space, folder, progress=False)
    ...     result = tuner.run(train, validation)
    >>> len(result.trials), result.interrupted
    (2, False)
    """

    def __init__(
        self,
        build: Build,
        config: TrainingConfig,
        space: SearchSpace,
        out_dir: str | os.PathLike[str],
        *,
        search: Literal["grid", "optuna"] = "grid",
        trials: int | None = None,
        prune: bool = True,
        progress: bool = True,
        callbacks: tuple[Callback, ...] = (),
    ) -> None:
        if search not in ("grid", "optuna"):
            raise ValueError(f"search is {search!r}, it should be one of grid, optuna")
        if (trials is None) != (search == "grid"):
            raise ValueError(
                f"trials is {trials} with search={search!r}; it should be given for optuna alone"
            )
        if trials is not None and trials < 1:
            raise ValueError(f"trials is {trials}, it should be at least 1")
        self.build, self.config, self.space = build, config, space
        self.out_dir = prepare_folder(out_dir)
        self.search, self.trials, self.prune = search, trials, prune
        self.progress, self.callbacks = progress, callbacks
        self._training_fields = {field.name for field in fields(TrainingConfig)}
        self._check_space()

    def run(self, train: StripDataset, validation: StripDataset) -> TuningResult:
        """Make all trials that are not done yet.

        Parameters
        ----------
        train, validation
            Labelled strips, to learn from and to judge by.

        Returns
        -------
        TuningResult

        Raises
        ------
        CheckpointError
            If `out_dir` holds a tuning of something else; a ValueError.
        """
        self._check_same_tuning(train, validation)
        root = self.out_dir / TRIALS_FOLDER
        sampler = self._sampler(root)
        interrupted = False
        for folder in sampler.folders():
            with folder.claimed() as mine:
                if not mine:
                    continue
                trial = folder.finished() or self._try(sampler, folder, train, validation)
                if trial is None:
                    interrupted = True
                    break
                sampler.tell(trial)
        return self._result(root, interrupted)

    def _try(
        self,
        sampler: GridSampler | OptunaSampler,
        folder: TrialFolder,
        train: StripDataset,
        validation: StripDataset,
    ) -> Trial | None:
        """Train one model; None if it was interrupted."""
        settings = sampler.settings(folder)
        torch.manual_seed(self.config.seed)
        try:
            config, model = self._configured(settings)
        except (TypeError, ValueError) as error:
            return self._finish(folder, settings, "failed", 0, reason=str(error))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        judge = _Judge(sampler, folder)
        trainer = Trainer(
            model,
            config,
            out_dir=folder.training,
            progress=False,
            callbacks=[judge, *self.callbacks],
        )
        try:
            result = trainer.fit(
                train, validation, resume=(folder.training / CHECKPOINT_NAME).exists()
            )
        except NonFiniteLossError as error:
            return self._finish(folder, settings, "failed", parameters, reason=str(error))
        if result.stopped_by == "interrupt" and not judge.pruned:
            return None
        model.save(folder.model)
        outcome: Outcome = "pruned" if judge.pruned else "complete"
        return self._finish(folder, settings, outcome, parameters, history=result.history)

    def _configured(self, settings: Settings) -> tuple[TrainingConfig, BundledModel]:
        training: dict[str, Any] = {
            name: value for name, value in settings.items() if name in self._training_fields
        }
        rest = {name: value for name, value in settings.items() if name not in training}
        config = replace(self.config, **training)
        if config.patience is None:  # a trial counts by its best epoch: that one's weights are kept
            config = replace(config, patience=config.epochs)
        return config, self.build(rest)

    def _finish(
        self,
        folder: TrialFolder,
        settings: Settings,
        outcome: Outcome,
        parameters: int,
        *,
        history: tuple[EpochRecord, ...] = (),
        reason: str = "",
    ) -> Trial:
        best = max(history, key=_merit, default=None)
        trial = Trial(
            number=folder.number,
            settings=settings,
            outcome=outcome,
            accuracy=None if best is None else best.validation_accuracy,
            loss=None if best is None else best.validation_loss,
            epochs=len(history),
            seconds=round(sum(record.seconds for record in history), 2),
            parameters=parameters,
            reason=reason,
        )
        folder.finish(trial)
        if self.progress:
            print(trial_line(trial), file=sys.stderr, flush=True)
        return trial

    def _result(self, root: Path, interrupted: bool) -> TuningResult:
        trials = tuple(all_finished(root))
        complete = [trial for trial in trials if trial.outcome == "complete"]
        best = max(complete, key=lambda t: (t.accuracy or 0, -(t.loss or 0)), default=None)
        model = None
        if best is not None:
            model = self.out_dir / MODEL_FOLDER
            _replace_folder(TrialFolder(root, best.number).model, model)
        return TuningResult(trials, best, model, interrupted)

    def _sampler(self, root: Path) -> GridSampler | OptunaSampler:
        root.mkdir(exist_ok=True)
        if self.trials is None:
            return GridSampler(self.space, root, prune=self.prune)
        seed = self.config.seed
        return OptunaSampler(self.space, root, trials=self.trials, prune=self.prune, seed=seed)

    def _check_space(self) -> None:
        if self.search == "grid":
            next(self.space.grid())
        if "seed" in self.space:
            raise ValueError("the search space has seed; the same seed makes trials comparable")

    def _check_same_tuning(self, train: StripDataset, validation: StripDataset) -> None:
        """Write down what this tuning is, or compare with what is written."""
        free = {"checkpoint_every_seconds"}
        now: dict[str, Any] = {
            "search": self.search,
            "space": self.space.as_json(),
            "config": json.loads(json.dumps(asdict(self.config))),
            "data": {"train": fingerprint(train), "validation": fingerprint(validation)},
        }
        path = self.out_dir / TUNING_FILE
        if not path.exists():
            text = json.dumps(now, indent=2, ensure_ascii=False) + "\n"
            write_atomically(path, lambda file: file.write(text.encode()))
            return
        saved = json.loads(path.read_text(encoding="utf-8"))
        differences = config_differences(saved["config"], now["config"], free)
        for key in ("search", "space"):
            if saved[key] != now[key]:
                differences.append(f"{key} is {now[key]} now and {saved[key]} in the folder")
        for name, data in now["data"].items():
            differences += data_differences(name, saved["data"][name], data)
        check_same(path, differences)


class _Judge(Callback):
    """Asks after each epoch whether a trial is given up."""

    def __init__(self, sampler: GridSampler | OptunaSampler, folder: TrialFolder) -> None:
        self._sampler, self._folder = sampler, folder
        self._best = 0.0
        self.pruned = False

    def on_epoch(self, record: EpochRecord) -> bool:
        """Compare the best accuracy so far with the other trials'."""
        reached = [r["validation_accuracy"] for r in self._folder.epochs()[: record.epoch]]
        self._best = max(record.validation_accuracy or 0.0, *reached, self._best)
        self.pruned = self._sampler.should_prune(self._folder, record.epoch, self._best)
        return self.pruned


def trial_line(trial: Trial) -> str:
    """Return a trial in one line.

    Examples
    --------
    >>> trial_line(Trial(3, {"hidden_size": 64}, "complete", 0.95, 0.2, 10, 12.34, 5000))
    'trial 3: hidden_size=64: accuracy 95.0%, 10 epochs, 12.3 s'
    """
    settings = ", ".join(f"{name}={_short(value)}" for name, value in trial.settings.items())
    if trial.outcome == "failed":
        return f"trial {trial.number}: {settings}: failed: {trial.reason}"
    early = " (given up)" if trial.outcome == "pruned" else ""
    return (
        f"trial {trial.number}: {settings}: accuracy {trial.accuracy:.1%}, "
        f"{counted(trial.epochs, 'epoch')}{early}, {trial.seconds:.1f} s"
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _merit(record: EpochRecord) -> tuple[float, float]:
    return record.validation_accuracy or 0.0, -(record.validation_loss or 0.0)


def _replace_folder(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.copytree(source, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
