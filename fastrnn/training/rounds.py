"""The rounds of a self-training: their training sets and their reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data import UNLABELLED, StripDataset, StripSubset
from fastrnn.training.evaluation import Evaluation

IntArray = NDArray[np.int64]
Termination = Literal["no_change", "max_iter", "all_labeled", "no_improvement", "interrupt"]


def copies_of_labelled(labelled: int, pseudo_labelled: int, share: float) -> int:
    """How often an epoch holds each labelled strip, for them to be at least `share` of it.

    Examples
    --------
    >>> copies_of_labelled(labelled=600, pseudo_labelled=5400, share=0.25)
    3
    >>> copies_of_labelled(labelled=600, pseudo_labelled=100, share=0.25)
    1
    """
    return max(1, math.ceil(share / (1 - share) * pseudo_labelled / labelled - 1e-9))


def mix(
    dataset: StripDataset,
    labelled: IntArray,
    pseudo_labelled: IntArray,
    pseudo_labels: IntArray,
    share: float,
) -> StripSubset:
    """Training set of labelled strips, repeated if they are few, and pseudo-labelled ones.

    Parameters
    ----------
    dataset
        Where the strips are.
    labelled, pseudo_labelled
        Their positions in it.
    pseudo_labels
        Targets of the pseudo-labelled ones.
    share
        Least share of labelled strips.
    """
    copies = copies_of_labelled(len(labelled), len(pseudo_labelled), share)
    repeated = np.tile(labelled, copies)
    return StripSubset(
        dataset,
        np.concatenate([repeated, pseudo_labelled]),
        targets=np.concatenate([dataset.targets[repeated], pseudo_labels]),
    )


@dataclass(frozen=True)
class RoundReport:
    """One round.

    Attributes
    ----------
    round
        0 is the supervised training, k the k-th with pseudo-labels.
    selected
        Number of strips with a pseudo-label.
    coverage
        Their share of the unlabelled strips.
    precision
        Share of right pseudo-labels among those whose truth is known, None if none is.
    added, changed, withdrawn
        Strips that got a label, another label, or lost theirs since the round before.
    class_counts
        Number of pseudo-labels of each class.
    held_out_accuracy, held_out_loss, held_out_macro_f1
        Of the model after the round, on the held-out strips.
    epochs
        Epochs trained.
    seconds
        Time of the round.
    """

    round: int
    selected: int
    coverage: float
    precision: float | None
    added: int
    changed: int
    withdrawn: int
    class_counts: Mapping[str, int]
    held_out_accuracy: float
    held_out_loss: float
    held_out_macro_f1: float
    epochs: int
    seconds: float


def report_round(
    *,
    number: int,
    labels: tuple[str, ...],
    previous: Tensor,
    current: Tensor,
    truth: Tensor | None,
    evaluation: Evaluation,
    epochs: int,
    seconds: float,
) -> RoundReport:
    """Put a round's figures together.

    Parameters
    ----------
    number
        Of the round.
    labels
        Class names.
    previous, current
        Pseudo-labels of the unlabelled strips before and in the round, int64 [N], -1 for none.
    truth
        Their true classes, int64 [N], -1 where not known; None if not known at all.
    evaluation
        On the held-out strips after the round.
    epochs, seconds
        What the round took.
    """
    has, had = current != UNLABELLED, previous != UNLABELLED
    precision = None
    if truth is not None:
        known = has & (truth != UNLABELLED)
        if known.any():
            precision = float((current[known] == truth[known]).double().mean())
    counts = torch.bincount(current[has], minlength=len(labels)).tolist()
    return RoundReport(
        round=number,
        selected=int(has.sum()),
        coverage=float(has.double().mean()),
        precision=precision,
        added=int((has & ~had).sum()),
        changed=int((has & had & (current != previous)).sum()),
        withdrawn=int((had & ~has).sum()),
        class_counts=dict(zip(labels, counts, strict=True)),
        held_out_accuracy=evaluation.accuracy,
        held_out_loss=evaluation.loss,
        held_out_macro_f1=evaluation.macro_f1,
        epochs=epochs,
        seconds=seconds,
    )


def round_line(report: RoundReport) -> str:
    """Return a round in one line.

    Examples
    --------
    >>> round_line(RoundReport(1, 80, 0.8, 0.975, 80, 0, 0, {}, 0.9, 0.3, 0.9, 5, 12.3))
    'round 1: 80 pseudo-labels (80.0%), precision 97.5%, held-out accuracy 90.0%, 12.3 s'
    """
    pseudo = f"{report.selected:,} pseudo-labels ({report.coverage:.1%}), " if report.round else ""
    precision = "" if report.precision is None else f"precision {report.precision:.1%}, "
    return (
        f"round {report.round}: {pseudo}{precision}held-out accuracy "
        f"{report.held_out_accuracy:.1%}, {report.seconds:.1f} s"
    )


@dataclass(frozen=True)
class SelfTrainingResult:
    """How a self-training went; names with a final underscore are scikit-learn's.

    Attributes
    ----------
    rounds
        One report per finished round; the first is the supervised training.
    best_round
        The round whose weights the model has: the one with the best held-out accuracy (between
        equal ones the lower loss). None if not even round 0 was finished.
    termination_condition_
        ``"no_change"``: no strip got a label that it did not have already. ``"all_labeled"``: the
        same, but every strip has a label (also said instead of ``"max_iter"``, as scikit-learn
        does). ``"no_improvement"``: the held-out result was not better for
        `patience` rounds. ``"max_iter"``: so many rounds were made. ``"interrupt"``: Ctrl-C.
    transduction_
        Targets of all N strips that the returned model was trained with, int64 [N]; -1 where it
        had none.
    labeled_iter_
        int64 [N]: 0 for strips labelled from the start, k for strips that have had their
        pseudo-label without a break since round k, -1 for strips without one; as of the best
        round.
    classes_
        Class names; target k means ``classes_[k]``.
    held_out
        Positions of the labelled strips that were held out, empty if a validation set was given.
    """

    rounds: tuple[RoundReport, ...]
    best_round: int | None
    termination_condition_: Termination
    transduction_: IntArray
    labeled_iter_: IntArray
    classes_: tuple[str, ...]
    held_out: IntArray
