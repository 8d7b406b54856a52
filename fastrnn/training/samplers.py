"""How a tuning chooses what to try next, and which trials to give up."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastrnn.training.locks import locked
from fastrnn.training.search_space import Choice, SearchSpace, Settings, Value
from fastrnn.training.trials import Trial, TrialFolder, all_folders

JOURNAL_NAME = "optuna.journal"


class Sampler(Protocol):
    """Chooses trials; several processes may each have one on the same folder."""

    def folders(self) -> Iterator[TrialFolder]:
        """Trials to work on, those that were begun and left first; ends when all is done."""

    def settings(self, folder: TrialFolder) -> Settings:
        """Tell what a trial tries."""

    def should_prune(self, folder: TrialFolder, epoch: int, accuracy: float) -> bool:
        """Whether a trial is so far behind after an epoch (from 1) that it is given up."""

    def tell(self, trial: Trial) -> None:
        """Take note of what came of a trial."""


class GridSampler:
    """Every combination once, pruned by the median of the others.

    A trial is given up if its best accuracy so far is below the median of what the others had
    reached at the same epoch (the median stopping rule [1]_), of at least `startup` trials and
    after `warmup` epochs.

    Parameters
    ----------
    space
        Choices only.
    root
        The folder of the trials.
    prune
        Whether to give trials up.
    startup, warmup
        See above.

    References
    ----------
    .. [1] D. Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017.
    """

    def __init__(
        self, space: SearchSpace, root: Path, *, prune: bool, startup: int = 4, warmup: int = 2
    ) -> None:
        self._all = list(space.grid())
        self._root, self._prune = root, prune
        self._startup, self._warmup = startup, warmup

    def __len__(self) -> int:
        return len(self._all)

    def folders(self) -> Iterator[TrialFolder]:
        """Every trial by number; whoever asks passes over what is finished or taken."""
        for number in range(len(self._all)):
            yield TrialFolder(self._root, number)

    def settings(self, folder: TrialFolder) -> Settings:
        """Give the combination of this number."""
        return self._all[folder.number]

    def should_prune(self, folder: TrialFolder, epoch: int, accuracy: float) -> bool:
        """Compare with the median of the others at the same epoch."""
        if not self._prune or epoch <= self._warmup:
            return False
        others = []
        for other in all_folders(self._root):
            reached = [record["validation_accuracy"] for record in other.epochs()[:epoch]]
            if other.number != folder.number and len(reached) == epoch:
                others.append(max(reached))
        return len(others) >= self._startup and accuracy < statistics.median(others)

    def tell(self, trial: Trial) -> None:
        """Do nothing: a grid does not learn."""


class OptunaSampler:
    """Optuna's tree-structured Parzen estimator and its median pruner.

    The study is kept in a journal file beside the trials, which any number of processes may use.
    What a trial tries depends on the seed, its number and the trials before it: a tuning by one
    process that is killed and gone on with tries the same.

    Parameters
    ----------
    space
        What to choose from.
    root
        The folder of the trials.
    trials
        How many, those of all processes together.
    prune
        Whether to give trials up.
    seed
        Of the choices; with several processes they depend on who is first, too.

    Raises
    ------
    ModuleNotFoundError
        If Optuna is not installed.
    """

    def __init__(
        self, space: SearchSpace, root: Path, *, trials: int, prune: bool, seed: int
    ) -> None:
        optuna = _optuna()
        self._optuna, self._space, self._root, self._trials = optuna, space, root, trials
        self._seed = seed
        journal = root.parent / JOURNAL_NAME
        backend = optuna.storages.journal.JournalFileBackend(
            str(journal), _JournalLock(journal.with_suffix(".lock"))
        )
        pruners = optuna.pruners
        self._study = optuna.create_study(
            study_name="fastrnn",
            storage=optuna.storages.JournalStorage(backend),
            pruner=pruners.MedianPruner(4, 2) if prune else pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )

    def __len__(self) -> int:
        return self._trials

    def folders(self) -> Iterator[TrialFolder]:
        """Trials that were begun and not told of, then new ones up to the number wanted."""
        running = self._optuna.trial.TrialState.RUNNING
        for frozen in self._study.get_trials(deepcopy=False, states=(running,)):
            yield TrialFolder(self._root, frozen.number)
        while (number := self._ask()) is not None:
            yield TrialFolder(self._root, number)

    def settings(self, folder: TrialFolder) -> Settings:
        """Give what the study chose for it."""
        self._seed_for(folder.number)
        trial = self._trial(folder.number)
        return {name: self._suggest(trial, name) for name in self._space}

    def should_prune(self, folder: TrialFolder, epoch: int, accuracy: float) -> bool:
        """Ask Optuna's median pruner."""
        trial = self._trial(folder.number)
        trial.report(accuracy, epoch)
        return bool(trial.should_prune())

    def tell(self, trial: Trial) -> None:
        """Tell the study."""
        states = self._optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
        value = trial.accuracy if trial.outcome == "complete" else None
        self._study.tell(trial.number, value, state=state[trial.outcome], skip_if_finished=True)

    def _ask(self) -> int | None:
        """Choose another trial, unless there are as many as wanted."""
        # Nobody may add one between the count and the trial that it allows.
        with locked(self._root.parent / "ask.lock"):
            number = len(self._study.get_trials(deepcopy=False))
            if number >= self._trials:
                return None
            self._seed_for(number)
            trial = self._study.ask()
            for name in self._space:
                self._suggest(trial, name)
        return int(trial.number)

    def _seed_for(self, number: int) -> None:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _trial(self, number: int) -> Any:
        """Give a trial of this or of a former process, to suggest, report and ask of."""
        (frozen,) = (t for t in self._study.get_trials(deepcopy=False) if t.number == number)
        return self._optuna.trial.Trial(self._study, frozen._trial_id)

    def _suggest(self, trial: Any, name: str) -> Value:
        """Draw a setting; one that was drawn before stays."""
        domain = self._space[name]
        if isinstance(domain, Choice):
            # Optuna keeps no tuples, so the words for them stand in their place.
            words = [str(v) if isinstance(v, tuple) else v for v in domain.values]
            by_words = dict(zip(map(repr, words), domain.values, strict=True))
            return by_words[repr(trial.suggest_categorical(name, words))]
        if domain.whole:
            return int(trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log))
        return float(trial.suggest_float(name, domain.low, domain.high, log=domain.log))


class _JournalLock:
    """Optuna's own locks outlive a killed process."""

    def __init__(self, path: Path) -> None:
        self._path, self._held = path, ExitStack()

    def acquire(self) -> bool:
        return self._held.enter_context(locked(self._path))

    def release(self) -> None:
        self._held.close()


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "this search needs Optuna: pip install 'fastrnn[tune]'", name=error.name
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
