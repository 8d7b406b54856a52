"""The loop of a training, resumable bit for bit."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastrnn.data import StripDataset, StripWindows
from fastrnn.training.callbacks import Callback, StepInfo
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
from fastrnn.training.config import FREE_AT_RESUME, TrainingConfig
from fastrnn.training.epoch_batches import EpochBatches
from fastrnn.training.evaluation import Evaluation, evaluate, mode, window_plan_of
from fastrnn.training.history import EpochRecord, StoppedBy, TrainingResult
from fastrnn.training.interrupt import StopFlag, StopRequested
from fastrnn.training.journal import Journal
from fastrnn.training.loss import loss_weights
from fastrnn.training.run_state import RunState, copy_weights
from fastrnn.training.step import NonFiniteLossError as NonFiniteLossError
from fastrnn.training.step import Optimisation, StepScores

CHECKPOINT_NAME = "checkpoint.pt"
JOURNAL_NAME = "metrics.jsonl"
_KIND = "fastrnn training 2"


class TrainingRun:
    """One training, from its checks to its result.

    Parameters
    ----------
    model, config, train, validation, out_dir, callbacks, resume
        As for `Trainer` and `Trainer.fit`.
    stop
        Set by others to stop the training after the current batch.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        train: StripDataset,
        validation: StripDataset | None,
        *,
        stop: StopFlag,
        out_dir: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
    ) -> None:
        check_training(model, config, train, validation)
        self.state = RunState(model, config)
        self.checkpoint = None
        if out_dir is not None:
            self.checkpoint = prepare_folder(out_dir) / CHECKPOINT_NAME
            if not resume:
                check_no_run(self.checkpoint)
        elif resume:
            raise ValueError("resume is True, but out_dir is None: there is nothing to go on from")
        if plan := window_plan_of(model):
            train = StripWindows(train, plan.size, plan.stride)
        self.model, self.config, self.train, self.validation = model, config, train, validation
        self.stop, self.callbacks = stop, callbacks
        self.optimisation = Optimisation(self.state, config, loss_weights(config, train))
        self.data = {"train": fingerprint(train), "validation": fingerprint(validation)}

    def go(self) -> TrainingResult:
        """Train until something stops the training."""
        device = self.state.device
        gpus = [device] if device.type == "cuda" else []
        # torch's global generators are given back as they were.
        with torch.random.fork_rng(devices=gpus), mode(self.model, training=True):
            self._start()
            try:
                for callback in self.callbacks:
                    callback.on_start(self.config.epochs)
                stopped_by = self._train()
            except NonFiniteLossError:
                self.model.load_state_dict(self.saved_weights)
                raise
            finally:
                for callback in self.callbacks:
                    callback.on_end()
            self.state.deliver()
        best = self.state.best
        return TrainingResult(
            history=tuple(self.state.history),
            best_epoch=None if best is None else best.epoch,
            stopped_by=stopped_by,
            checkpoint=self.checkpoint,
        )

    def _start(self) -> None:
        torch.manual_seed(self.config.seed)
        if self.checkpoint is not None and self.checkpoint.exists():
            self._load(self.checkpoint)
            for callback in self.callbacks:
                callback.on_resume(tuple(self.state.history), self.state.global_step)
        path = None if self.checkpoint is None else self.checkpoint.with_name(JOURNAL_NAME)
        self.journal = Journal(path, [asdict(record) for record in self.state.history])
        self._remember_weights()

    def _train(self) -> StoppedBy:
        try:
            while (finished_by := self.state.finished_by) is None:
                self._train_epoch()
                self._finish_epoch()
                self.stop.check()
        except StopRequested:
            self._save()
            return "interrupt"
        return finished_by

    def _train_epoch(self) -> None:
        state = self.state
        batches = EpochBatches(self.train, self.config, state.epoch)
        steps = len(batches)
        state.restore_random()
        clock = time.perf_counter()
        with closing(batches.from_step(state.step)) as groups:
            for group in groups:
                scores = self.optimisation.step(group, steps)
                now = time.perf_counter()
                state.sums.seconds += now - clock
                clock = now
                self._after_step(scores, steps)

    def _after_step(self, scores: StepScores, steps: int) -> None:
        state = self.state
        info = StepInfo(
            epoch=state.epoch + 1,
            epochs=self.config.epochs,
            step=state.step,
            steps=steps,
            global_step=state.global_step,
            loss=state.sums.loss / state.sums.strips,
            accuracy=state.sums.correct / state.sums.strips,
            learning_rate=state.learning_rate,
            step_loss=scores.loss,
            gradient_norm=scores.gradient_norm,
        )
        for callback in self.callbacks:
            if callback.on_step(info):
                self.stop.set()
        self.stop.check()
        every = self.config.checkpoint_every_seconds
        if every is not None and time.monotonic() - self.saved_at >= every:
            self._save()

    def _finish_epoch(self) -> None:
        clock = time.perf_counter()
        evaluation = self._validate()
        record = self.state.finish_epoch(evaluation, time.perf_counter() - clock)
        self.journal.append(asdict(record))
        self._save()
        self._tell(record)

    def _tell(self, record: EpochRecord) -> None:
        for callback in self.callbacks:
            if callback.on_epoch(record):
                self.stop.set()

    def _validate(self) -> Evaluation | None:
        if self.validation is None:
            return None
        strips = len(self.validation)

        def on_batch(done: int) -> None:
            for callback in self.callbacks:
                callback.on_validation(done, strips)
            self.stop.check()  # the checkpoint then says that only the validation is missing

        evaluation = evaluate(
            self.state.evaluated_model,
            self.validation,
            max_padded_steps=self.config.max_padded_steps,
            device=self.state.device,
            on_batch=on_batch,
        )
        if not math.isfinite(evaluation.loss):
            raise NonFiniteLossError(
                f"the validation loss became {evaluation.loss} after epoch {self.state.epoch + 1}"
            )
        return evaluation

    def _remember_weights(self) -> None:
        self.saved_at = time.monotonic()
        self.saved_weights = copy_weights(self.model)

    def _save(self) -> None:
        self._remember_weights()
        if self.checkpoint is not None:
            for callback in self.callbacks:
                callback.on_checkpoint()
            state: dict[str, Any] = {
                "config": asdict(self.config),
                "data": self.data,
                "model": architecture(self.model),
                "run": self.state.state_dict(),
            }
            save_checkpoint(self.checkpoint, _KIND, state)

    def _load(self, path: Path) -> None:
        saved = load_checkpoint(path, _KIND)
        free = set(FREE_AT_RESUME)
        if self.config.schedule == "plateau":
            free.add("epochs")  # a cosine schedule spans all epochs, the plateau one does not
        differences = config_differences(saved["config"], asdict(self.config), free)
        differences += model_differences(saved["model"], self.model)
        for name, now in self.data.items():
            differences += data_differences(name, saved["data"][name], now)
        check_same(path, differences)
        self.state.load_state_dict(saved["run"])
