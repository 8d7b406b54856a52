"""Tuning: many short trainings, each with other settings, and the best model of them."""

from __future__ import annotations

import filecmp
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fastrnn.data import StripDataset, StripDecodeError
from fastrnn.data.augment import PRESETS
from fastrnn.data.checks import counted
from fastrnn.models.bundle import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    BundledModel,
    check_replaceable,
    load_bundle,
)
from fastrnn.training.callbacks import Callback
from fastrnn.training.checkpoint import prepare_folder
from fastrnn.training.checks import check_data
from fastrnn.training.config import TrainingConfig
from fastrnn.training.history import EpochRecord, TrainingResult
from fastrnn.training.locks import locked
from fastrnn.training.samplers import GridSampler, OptunaSampler
from fastrnn.training.search_space import SearchSpace, Settings
from fastrnn.training.trainer import Trainer
from fastrnn.training.training_run import CHECKPOINT_NAME
from fastrnn.training.trial_config import (
    TRAINING_FIELDS,
    Augmentations,
    check_training_types,
    trial_config,
)
from fastrnn.training.trials import MODEL_FOLDER, Outcome, Trial, TrialFolder, all_finished
from fastrnn.training.tuning_identity import check_same_tuning, identity

TRIALS_FOLDER = "trials"
LOCK_FILE = "tuning.lock"

# What a trial may fail for without an end to the others: torch says that memory is out by a
# RuntimeError. Errors of the disk are none of a trial's settings.
_TRIAL_ERRORS = (TypeError, ValueError, RuntimeError, MemoryError)

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
        next that comes by; one that failed stays so.
    about
        What else makes this tuning what it is, in JSON types by name: the kind and the fixed
        settings of the models that `build` makes, say. It is written down, and a tuning of
        something else in the same folder is refused.
    augmentations
        What the names stand for that the space may have for `augment`.
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
        If the space does not fit the search, or something else is in the way in `out_dir`.
    TypeError
        If the space has a value of a wrong type for a setting of the training.
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
        about: Mapping[str, Any] | None = None,
        augmentations: Augmentations = PRESETS,
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
        self.about, self.augmentations = dict(about or {}), augmentations
        self.out_dir = prepare_folder(out_dir)
        check_replaceable(self.out_dir / MODEL_FOLDER)
        self.search, self.trials, self.prune = search, trials, prune
        self.progress, self.callbacks = progress, callbacks
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
        ValueError
            If no model can be trained and judged on the strips.
        StripDecodeError
            If a strip can't be read; a ValueError.
        """
        check_data(train, validation)
        now = identity(
            self.search, self.space, self.config, self._about(), train=train, validation=validation
        )
        with locked(self.out_dir / LOCK_FILE):
            check_same_tuning(self.out_dir, now)
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
        judge = _Judge(sampler, folder)
        parameters = 0
        try:
            model, config = self._made(settings)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            result = self._fit(model, config, folder, judge, train, validation)
        except StripDecodeError:  # of the strips, whatever the settings are
            raise
        except _TRIAL_ERRORS as error:
            reason = str(error) or type(error).__name__
            return self._finish(folder, settings, "failed", parameters, reason=reason)
        if result.stopped_by == "interrupt" and not judge.pruned:
            return None
        model.save(folder.model)
        outcome: Outcome = "pruned" if judge.pruned else "complete"
        return self._finish(folder, settings, outcome, parameters, history=result.history)

    def _made(self, settings: Settings) -> tuple[BundledModel, TrainingConfig]:
        torch.manual_seed(self.config.seed)
        config = trial_config(self.config, settings, self.augmentations)
        rest = {name: value for name, value in settings.items() if name not in TRAINING_FIELDS}
        return self.build(rest), config

    def _fit(
        self,
        model: BundledModel,
        config: TrainingConfig,
        folder: TrialFolder,
        judge: _Judge,
        train: StripDataset,
        validation: StripDataset,
    ) -> TrainingResult:
        callbacks = [judge, *self.callbacks]
        trainer = Trainer(
            model, config, out_dir=folder.training, progress=False, callbacks=callbacks
        )
        resume = (folder.training / CHECKPOINT_NAME).exists()
        return trainer.fit(train, validation, resume=resume)

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
        model = None
        # Whoever writes last has to know what all others found.
        with locked(self.out_dir / LOCK_FILE):
            trials = tuple(all_finished(root))
            complete = [trial for trial in trials if trial.outcome == "complete"]
            best = max(complete, key=lambda t: (t.accuracy or 0, -(t.loss or 0)), default=None)
            if best is not None:
                model = self.out_dir / MODEL_FOLDER
                _keep_model(TrialFolder(root, best.number).model, model)
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
        check_training_types(self.config, self.space, self.augmentations)

    def _about(self) -> dict[str, Any]:
        """Say what else than the space and the configuration makes this tuning."""
        if "augment" not in self.space:
            return self.about
        named = {
            name: augmentation and asdict(augmentation)
            for name, augmentation in self.augmentations.items()
        }
        return self.about | {"augmentations": named}


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


def _keep_model(source: Path, target: Path) -> None:
    """Save a trial's model as the tuning's, if it is not there already."""
    files = (CONFIG_FILE, WEIGHTS_FILE)
    same, _, _ = filecmp.cmpfiles(source, target, files, shallow=False)
    if len(same) < len(files):
        load_bundle(source).save(target)
