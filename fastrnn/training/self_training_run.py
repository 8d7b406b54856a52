"""The loop of a self-training."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastrnn.data import UNLABELLED, StripDataset, StripSubset, stratified_split
from fastrnn.training.callbacks import Callback
from fastrnn.training.checkpoint import (
    check_no_run,
    check_same,
    load_checkpoint,
    prepare_folder,
    save_checkpoint,
)
from fastrnn.training.checks import (
    architecture,
    check_training,
    config_differences,
    data_differences,
    fingerprint,
    model_differences,
)
from fastrnn.training.config import FREE_AT_RESUME
from fastrnn.training.evaluation import evaluate, predict_probabilities
from fastrnn.training.interrupt import StopFlag, StopRequested
from fastrnn.training.journal import Journal
from fastrnn.training.progress import make_progress
from fastrnn.training.pseudo_labels import PseudoLabeller
from fastrnn.training.rounds import (
    IntArray,
    RoundReport,
    SelfTrainingResult,
    Termination,
    mix,
    report_round,
    round_line,
)
from fastrnn.training.run_state import Weights, check_same_shapes, copy_weights
from fastrnn.training.self_training_config import SelfTrainingConfig
from fastrnn.training.training_run import CHECKPOINT_NAME, TrainingRun

STATE_NAME = "self_training.pt"
JOURNAL_NAME = "rounds.jsonl"
_KIND = "fastrnn self-training 1"


@dataclass(frozen=True)
class SelfTrainingData:
    """What a self-training works on; positions are those in `dataset`."""

    dataset: StripDataset
    labelled: IntArray
    unlabelled: IntArray
    held_out: StripDataset
    held_out_positions: IntArray
    truth: Tensor | None  # of the unlabelled strips

    @classmethod
    def split(
        cls,
        dataset: StripDataset,
        validation: StripDataset | None,
        true_targets: ArrayLike | None,
        config: SelfTrainingConfig,
    ) -> SelfTrainingData:
        """Find the labelled and unlabelled strips, and hold some out if there is no validation."""
        labelled = np.flatnonzero(dataset.targets != UNLABELLED)
        unlabelled = np.flatnonzero(dataset.targets == UNLABELLED)
        for name, found in (("labelled", labelled), ("unlabelled (target -1)", unlabelled)):
            if len(found) == 0:
                raise ValueError(
                    f"none of the {len(dataset)} strips is {name}: self-training needs labelled "
                    f"and unlabelled ones"
                )
        held_out = labelled[:0]
        if validation is None:
            kept, rest = stratified_split(
                dataset.targets[labelled], 1 - config.held_out_fraction, config.training.seed
            )
            labelled, held_out = labelled[kept], labelled[rest]
            if len(held_out) == 0:
                raise ValueError(
                    f"the {len(labelled)} labelled strips are too few to hold "
                    f"{config.held_out_fraction:.0%} of them out: label more, or give validation"
                )
        truth = None
        if true_targets is not None:
            truth = torch.as_tensor(np.asarray(true_targets, dtype=np.int64))
            if truth.shape != (len(dataset),):
                raise ValueError(
                    f"true_targets has shape {tuple(truth.shape)}, it should be ({len(dataset)},)"
                )
            truth = truth[torch.from_numpy(unlabelled)]
        return cls(
            dataset=dataset,
            labelled=labelled,
            unlabelled=unlabelled,
            held_out=StripSubset(dataset, held_out) if validation is None else validation,
            held_out_positions=held_out,
            truth=truth,
        )


@dataclass
class _Best:
    """The best round so far, and for how many rounds there was no better one."""

    round: int
    loss: float
    accuracy: float
    weights: Weights
    pseudo_labels: Tensor
    since: Tensor
    stale: int = 0


@dataclass
class _State:
    """What is known after the last finished round; tensors are int64 [number of unlabelled]."""

    pseudo_labels: Tensor  # -1 for none
    since: Tensor  # the round from which a strip has had its pseudo-label, -1 for none
    rounds: list[RoundReport] = field(default_factory=list)
    best: _Best | None = None


class SelfTrainingRun:
    """One self-training, from its checks to its result.

    Parameters
    ----------
    model, config, labeller, out_dir, progress, callbacks
        As for `SelfTrainer`.
    data
        What it works on.
    stop
        Set by others to stop after the current batch.
    resume
        As for `SelfTrainer.fit`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: SelfTrainingConfig,
        data: SelfTrainingData,
        *,
        labeller: PseudoLabeller,
        stop: StopFlag,
        out_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
    ) -> None:
        train = StripSubset(data.dataset, data.labelled)
        check_training(model, config.training, train, data.held_out)
        self.folder = None
        if out_dir is not None:
            self.folder = prepare_folder(out_dir)
            if not resume:
                check_no_run(self.folder / STATE_NAME)
                check_no_run(self._round_folder(0) / CHECKPOINT_NAME)
        elif resume:
            raise ValueError("resume is True, but out_dir is None: there is nothing to go on from")
        self.model, self.config, self.data = model, config, data
        self.labeller, self.stop = labeller, stop
        self.progress, self.callbacks = progress, callbacks
        nothing = torch.full((len(data.unlabelled),), UNLABELLED)
        self.state = _State(pseudo_labels=nothing, since=nothing)
        self.fingerprints = {
            "dataset": fingerprint(data.dataset),
            "validation": fingerprint(data.held_out),
        }

    def go(self) -> SelfTrainingResult:
        """Make rounds until there is a reason to stop."""
        state_path = None if self.folder is None else self.folder / STATE_NAME
        if state_path is not None and state_path.exists():
            self._load(state_path)
        path = None if self.folder is None else self.folder / JOURNAL_NAME
        self.journal = Journal(path, [asdict(report) for report in self.state.rounds])
        try:
            termination = self._make_rounds()
        finally:  # after an error too, the model has the best weights so far
            if self.state.best is not None:
                self.model.load_state_dict(self.state.best.weights)
        return self._result(termination)

    def _result(self, termination: Termination) -> SelfTrainingResult:
        data, best = self.data, self.state.best
        transduction = data.dataset.targets.copy()
        labeled_iter = np.where(transduction == UNLABELLED, -1, 0)
        if best is not None:
            transduction[data.unlabelled] = best.pseudo_labels.numpy()
            labeled_iter[data.unlabelled] = best.since.numpy()
        return SelfTrainingResult(
            rounds=tuple(self.state.rounds),
            best_round=None if best is None else best.round,
            termination_condition_=termination,
            transduction_=transduction,
            labeled_iter_=labeled_iter,
            classes_=tuple(data.dataset.labels),
            held_out=data.held_out_positions,
        )

    def _round_folder(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"round-{number:02d}"

    def _make_rounds(self) -> Termination:
        try:
            if not self.state.rounds:
                self._make_round(self.state.pseudo_labels)
            while (termination := self._make_next_round()) is None:
                pass
        except StopRequested:
            return "interrupt"
        return termination

    def _make_next_round(self) -> Termination | None:
        config, state = self.config, self.state
        complete = bool((state.pseudo_labels != UNLABELLED).all())
        if config.patience is not None and state.best and state.best.stale >= config.patience:
            return "no_improvement"
        if config.max_iter is not None and len(state.rounds) > config.max_iter:
            return "all_labeled" if complete else "max_iter"
        labels = self._choose_labels()
        if not ((labels != UNLABELLED) & (labels != state.pseudo_labels)).any():
            return "all_labeled" if complete else "no_change"
        self._make_round(labels)
        return None

    def _choose_labels(self) -> Tensor:
        probabilities = predict_probabilities(
            self.model,
            StripSubset(self.data.dataset, self.data.unlabelled),
            max_padded_steps=self.config.training.max_padded_steps,
            on_batch=lambda done: self.stop.check(),
        )
        labels = self.labeller(probabilities, self.state.pseudo_labels)
        classes = probabilities.shape[1]
        if labels.shape != (len(probabilities),) or labels.dtype != torch.int64:
            raise ValueError(
                f"the labeller gave {labels.dtype} of shape {tuple(labels.shape)}, it should give "
                f"torch.int64 of shape ({len(probabilities)},)"
            )
        if labels.min() < UNLABELLED or labels.max() >= classes:
            raise ValueError(f"the labeller gave labels outside -1..{classes - 1}")
        return labels

    def _make_round(self, labels: Tensor) -> None:
        clock = time.perf_counter()
        number = len(self.state.rounds)
        data, chosen = self.data, (labels != UNLABELLED).numpy()
        train = mix(
            data.dataset,
            data.labelled,
            data.unlabelled[chosen],
            labels.numpy()[chosen],
            self.config.labelled_share,
        )
        shown = [make_progress(f"round {number}")] if self.progress else []
        folder = None if self.folder is None else self._round_folder(number)
        result = TrainingRun(
            self.model,
            self.config.training_of(number),
            train,
            data.held_out,
            stop=self.stop,
            out_dir=folder,
            callbacks=[*shown, *self.callbacks],
            resume=folder is not None,
        ).go()
        if result.stopped_by == "interrupt":
            raise StopRequested
        self._finish_round(labels, epochs=len(result.history), clock=clock)

    def _finish_round(self, labels: Tensor, *, epochs: int, clock: float) -> None:
        state, data = self.state, self.data
        evaluation = evaluate(
            self.model, data.held_out, max_padded_steps=self.config.training.max_padded_steps
        )
        report = report_round(
            number=len(state.rounds),
            labels=data.dataset.labels,
            previous=state.pseudo_labels,
            current=labels,
            truth=data.truth,
            evaluation=evaluation,
            epochs=epochs,
            seconds=time.perf_counter() - clock,
        )
        fresh = torch.where(labels == state.pseudo_labels, state.since, report.round)
        state.since = torch.where(labels == UNLABELLED, UNLABELLED, fresh)
        state.pseudo_labels = labels
        state.rounds.append(report)
        self._compare_with_best(report)
        self.journal.append(asdict(report))
        self._save()
        if self.progress:
            print(round_line(report), file=sys.stderr, flush=True)
        self.stop.check()

    def _compare_with_best(self, report: RoundReport) -> None:
        state, best = self.state, self.state.best
        result = (report.held_out_accuracy, -report.held_out_loss)
        if best is not None and result <= (best.accuracy, -best.loss):
            best.stale += 1
            return
        state.best = _Best(
            round=report.round,
            loss=report.held_out_loss,
            accuracy=report.held_out_accuracy,
            weights=copy_weights(self.model),
            pseudo_labels=state.pseudo_labels,
            since=state.since,
        )

    def _save(self) -> None:
        if self.folder is None:
            return
        state = self.state
        saved = {
            "config": asdict(self.config),
            "data": self.fingerprints,
            "architecture": architecture(self.model),
            "model": self.model.state_dict(),
            "pseudo_labels": state.pseudo_labels,
            "since": state.since,
            "rounds": [asdict(report) for report in state.rounds],
            "best": None if state.best is None else vars(state.best),
        }
        save_checkpoint(self.folder / STATE_NAME, _KIND, saved)

    def _load(self, path: Path) -> None:
        saved = load_checkpoint(path, _KIND)
        free = {"max_iter", *FREE_AT_RESUME}
        differences = config_differences(saved["config"], asdict(self.config), free)
        differences += model_differences(saved["architecture"], self.model)
        for name, now in self.fingerprints.items():
            differences += data_differences(name, saved["data"][name], now)
        check_same(path, differences)
        check_same_shapes(self.model, saved["model"])
        self.model.load_state_dict(saved["model"])
        best = saved["best"]
        self.state = _State(
            pseudo_labels=saved["pseudo_labels"],
            since=saved["since"],
            rounds=[RoundReport(**report) for report in saved["rounds"]],
            best=None if best is None else _Best(**best),
        )
