"""Training of a strip classifier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fastrnn.data import StripDataset
from fastrnn.training.callbacks import Callback
from fastrnn.training.config import TrainingConfig
from fastrnn.training.history import TrainingResult
from fastrnn.training.interrupt import StopFlag, stop_on_interrupt
from fastrnn.training.progress import make_progress
from fastrnn.training.training_run import TrainingRun


class Trainer:
    """Trains a strip classifier with AdamW on the cross-entropy.

    Parameters
    ----------
    model
        ``model(strips [B, C, H, W], lengths [B]) -> logits [B, K]``; trained in place, on the
        device where it is.
    config
        How to train; the defaults of `TrainingConfig` if None.
    out_dir
        Folder for ``checkpoint.pt``, from which the training can be resumed, and
        ``metrics.jsonl``, one object per epoch; None writes nothing. For a page about the
        training in the same folder see `fastrnn.reports.write_run_report`.
    progress
        Show progress on standard error: a bar in a terminal, otherwise one line an epoch.
    callbacks
        Called during the training.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> digits = StripDigits("train", size=40)
    >>> model = StripClassifier(digits.channels, digits.height, len(digits.labels), hidden_size=8)
    >>> result = Trainer(model, TrainingConfig(epochs=2), progress=False).fit(digits)
    >>> len(result.history), result.stopped_by
    (2, 'epochs')
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig | None = None,
        *,
        out_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model
        self.config = config or TrainingConfig()
        self.out_dir = None if out_dir is None else Path(out_dir)
        self._callbacks = ([make_progress()] if progress else []) + list(callbacks)
        self._stop = StopFlag()

    def request_stop(self) -> None:
        """Stop after the current step, as Ctrl-C does; may be called from any thread."""
        self._stop.set()

    def fit(
        self, train: StripDataset, validation: StripDataset | None = None, *, resume: bool = False
    ) -> TrainingResult:
        """Train the model.

        Afterwards the model has its last weights (the averaged ones with `ema_decay`), or with
        `patience` those of the best epoch. A stop on request (Ctrl-C, `request_stop`, a callback)
        finishes the current step, writes the checkpoint and returns; a second Ctrl-C raises
        KeyboardInterrupt at once and leaves the checkpoint written before.

        A training that was stopped, or killed, at any moment and resumed gives the same weights,
        bit for bit, as one that was not, on the same machine with the same library versions,
        number of threads and deterministic kernels (on a CPU they are).

        Parameters
        ----------
        train
            Labelled strips of at least two classes.
        validation
            Labelled strips to evaluate on after each epoch.
        resume
            Go on from the checkpoint in `out_dir` if there is one. Model, settings and data must
            be the same as before; only `checkpoint_every_seconds`, `num_workers`, and `epochs`
            with the plateau schedule, may differ.

        Returns
        -------
        TrainingResult

        Raises
        ------
        TypeError, ValueError
            Before any work, if data, settings and model don't fit together, if `out_dir` can't be
            written or holds a training that is not to be resumed.
        CheckpointError
            If the checkpoint can't be read or belongs to another training; a ValueError.
        NonFiniteLossError
            If the loss or the gradient becomes infinite or not a number. The model then has the
            weights of the last checkpoint (without an output folder: of the last finished epoch).
        """
        run = TrainingRun(
            self.model,
            self.config,
            train,
            validation,
            stop=self._stop,
            out_dir=self.out_dir,
            callbacks=self._callbacks,
            resume=resume,
        )
        try:
            with stop_on_interrupt(self._stop):
                return run.go()
        finally:
            self._stop.clear()
