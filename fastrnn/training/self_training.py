"""Self-training: a classifier that labels its own training strips, round by round."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike
from torch import nn

from fastrnn.data import StripDataset
from fastrnn.data.checks import check_instance
from fastrnn.training.callbacks import Callback
from fastrnn.training.interrupt import StopFlag, stop_on_interrupt
from fastrnn.training.pseudo_labels import PseudoLabeller
from fastrnn.training.rounds import SelfTrainingResult
from fastrnn.training.self_training_config import SelfTrainingConfig
from fastrnn.training.self_training_run import SelfTrainingData, SelfTrainingRun


class SelfTrainer:
    """Trains on labelled strips, labels the unlabelled ones, trains on both, and so on.

    Parameters
    ----------
    model
        ``model(strips [B, C, H, W], lengths [B]) -> logits [B, K]``; trained in place, on the
        device where it is.
    config
        How to train; the defaults of `SelfTrainingConfig` if None.
    labeller
        Decides on the pseudo-labels; by default what `config` names.
    out_dir
        Folder for ``self_training.pt``, from which it can be resumed, ``rounds.jsonl``, one
        object per round, and a folder ``round-00``, ``round-01``, ... for each round's training.
        None writes nothing.
    progress
        Show progress on standard error.
    callbacks
        Called during each round's training.

    Examples
    --------
    >>> from fastrnn.data import StripDigits, StripSubset
    >>> from fastrnn.models import StripClassifier
    >>> from fastrnn.training import TrainingConfig
    >>> digits = StripDigits("train", size=60)
    >>> targets = digits.targets.copy()
    >>> targets[40:] = -1
    >>> strips = StripSubset(digits, range(60), targets=targets)
    >>> model = StripClassifier(digits.channels, digits.height, len(digits.labels), hidden_size=8)
    >>> config = SelfTrainingConfig(TrainingConfig(epochs=1), max_iter=1)
    >>> result = SelfTrainer(model, config, progress=False).fit(strips)
    >>> result.termination_condition_  # one epoch makes no model that is sure of anything
    'no_change'
    """

    def __init__(
        self,
        model: nn.Module,
        config: SelfTrainingConfig | None = None,
        *,
        labeller: PseudoLabeller | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        check_instance("model", model, nn.Module)
        self.model = model
        self.config = config or SelfTrainingConfig()
        check_instance("config", self.config, SelfTrainingConfig)
        self.labeller = labeller or self.config.labeller()
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.progress = progress
        self.callbacks = tuple(callbacks)
        self._stop = StopFlag()

    def request_stop(self) -> None:
        """Stop after the current batch, as Ctrl-C does; may be called from any thread."""
        self._stop.set()

    def fit(
        self,
        dataset: StripDataset,
        validation: StripDataset | None = None,
        *,
        true_targets: ArrayLike | None = None,
        resume: bool = False,
    ) -> SelfTrainingResult:
        """Self-train the model.

        Round 0 trains on the labelled strips. Each further round predicts the unlabelled strips,
        gives pseudo-labels to some, and trains on both, until no strip gets a label that it did
        not have, the held-out result gets no better, or `max_iter`. Afterwards the model has the
        weights of the round with the best held-out result: never worse there than the supervised
        round 0. Since the round is chosen by it, the held-out result itself is a little
        optimistic; measure on other strips.

        Ctrl-C finishes the current batch and returns the best round so far; a second one raises
        KeyboardInterrupt at once.

        Parameters
        ----------
        dataset
            All strips; target -1 where unlabelled. Labels of at least two classes.
        validation
            Labelled strips to choose the best round by. None holds out `held_out_fraction` of the
            labelled ones, which are then not trained on.
        true_targets
            [N] true classes of all strips, -1 where not known, only to report the pseudo-labels'
            precision.
        resume
            Go on from the state in `out_dir` if there is one. Model, settings, labeller and data
            must be the same as before; only `max_iter` may differ.

        Returns
        -------
        SelfTrainingResult

        Raises
        ------
        TypeError, ValueError
            Before any work, if data, settings and model don't fit together, if `out_dir` can't be
            written or holds a training that is not to be resumed.
        CheckpointError
            If the state can't be read or belongs to another training; a ValueError.
        NonFiniteLossError
            If a loss becomes infinite or not a number; the model has the best weights so far.
        """
        check_instance("dataset", dataset, StripDataset)
        run = SelfTrainingRun(
            self.model,
            self.config,
            SelfTrainingData.split(dataset, validation, true_targets, self.config),
            labeller=self.labeller,
            stop=self._stop,
            out_dir=self.out_dir,
            progress=self.progress,
            callbacks=self.callbacks,
            resume=resume,
        )
        try:
            with stop_on_interrupt(self._stop):
                return run.go()
        finally:
            self._stop.clear()
