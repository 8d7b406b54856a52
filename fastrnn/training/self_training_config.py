"""Settings of a self-training, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from fastrnn.training.config import TrainingConfig, check_choice, check_integer, check_number
from fastrnn.training.pseudo_labels import ConfidenceThreshold, KBest, PseudoLabeller

Criterion = Literal["threshold", "k_best"]


@dataclass(frozen=True)
class SelfTrainingConfig:
    """How a classifier is self-trained.

    Parameters
    ----------
    training
        The supervised training of round 0.
    fine_tuning
        The training of each later round, which goes on from the weights of the round before.
        None: as `training`, with a quarter of its epochs, as there are more strips then, and the
        full learning rate (measured as for `labelled_share`, but four seeds and five rounds:
        91.0% with the full learning rate, 89.1% with half of it).
    threshold, criterion, k_best
        As in scikit-learn's SelfTrainingClassifier. ``"threshold"`` takes every strip whose most
        probable class has a probability above `threshold` (`ConfidenceThreshold`); ``"k_best"``
        adds the `k_best` most confident strips a round (`KBest`).
    keep_labels
        With ``"threshold"``: False decides on all pseudo-labels anew each round, so that a better
        model can correct or withdraw them; True never changes one, as scikit-learn.
    max_iter
        Rounds after round 0, at most; None for no limit.
    patience
        Stop after this many rounds in a row without a better held-out result; None for never.
    labelled_share
        Least share of labelled strips in an epoch: they are repeated until they reach it, so that
        a few true labels do not drown in many pseudo-labels. Measured on `StripDigits`, 120 of
        1,000 strips labelled, mean test accuracy of three seeds after four rounds: 86.8% without
        repetition, 89.8% with 0.25, 88.8% with 0.5 (84.1% before).
    held_out_fraction
        Share of the labelled strips that is held out, stratified by class, if no validation set
        is given.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or is out of range; the message names it.

    Examples
    --------
    >>> SelfTrainingConfig(training=TrainingConfig(epochs=20)).tuning.epochs
    5
    """

    training: TrainingConfig = field(default_factory=TrainingConfig)
    fine_tuning: TrainingConfig | None = None
    threshold: float = 0.9
    criterion: Criterion = "threshold"
    k_best: int = 10
    keep_labels: bool = False
    max_iter: int | None = 10
    patience: int | None = 2
    labelled_share: float = 0.25
    held_out_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, 1)
        check_choice("criterion", self.criterion, get_args(Criterion))
        check_integer("k_best", self.k_best, 1)
        if self.max_iter is not None:
            check_integer("max_iter", self.max_iter, 0)
        if self.patience is not None:
            check_integer("patience", self.patience, 1)
        check_number("labelled_share", self.labelled_share, 0, 1)
        check_number("held_out_fraction", self.held_out_fraction, 0, 1, open_low=True)

    @property
    def tuning(self) -> TrainingConfig:
        """The training of a later round."""
        if self.fine_tuning is not None:
            return self.fine_tuning
        return replace(self.training, epochs=max(1, self.training.epochs // 4))

    def training_of(self, number: int) -> TrainingConfig:
        """Return the training of a round; each round has a seed of its own."""
        config = self.tuning if number else self.training
        return replace(config, seed=config.seed + number)

    def labeller(self) -> PseudoLabeller:
        """Return the rule that `criterion` names."""
        if self.criterion == "k_best":
            return KBest(self.k_best)
        return ConfidenceThreshold(self.threshold, keep=self.keep_labels)
