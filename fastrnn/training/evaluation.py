"""Predictions and scores of a classifier on a dataset of strips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastrnn.data import StripBatch, StripBatches, StripDataset, strip_batches
from fastrnn.data.checks import check_instance
from fastrnn.data.views import StripWindows
from fastrnn.models.windows import WindowPlan
from fastrnn.nn.mode import mode as mode
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.metrics import ClassScores, accuracy, class_scores, confusion_matrix

LEAST_VOTE_SHARE = 1e-6
"""What counts for no votes, where shares of votes become logits: log(0) is none."""


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter, the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Evaluation:
    """Scores of a classifier on labelled strips.

    Attributes
    ----------
    accuracy
        Share of right predictions.
    loss
        Mean cross-entropy in nats (without label smoothing).
    confusion
        int64 [K, K]; row = true class, column = predicted class.
    scores
        Precision, recall, F1 and support of each class, and macro F1.
    labels
        Names of the K classes.
    """

    accuracy: float
    loss: float
    confusion: Tensor
    scores: ClassScores
    labels: tuple[str, ...]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        return self.scores.macro_f1


def check_num_classes(logits: Tensor, labels: tuple[str, ...]) -> None:
    """Raise ValueError unless a model's logits [B, K] are for these labels."""
    if logits.shape[1] != len(labels):
        raise ValueError(
            f"the model gives {logits.shape[1]} classes, but the dataset has {len(labels)} labels"
        )


def batch_logits(model: nn.Module, batch: StripBatch) -> Tensor:
    """Logits [B, K] of a batch; ValueError if the model gives something else."""
    logits: Tensor = model(batch.strips, batch.lengths)
    if logits.dim() != 2 or len(logits) != len(batch):
        raise ValueError(
            f"the model's logits have shape {tuple(logits.shape)} for {len(batch)} strips, they "
            f"should have shape ({len(batch)}, number of classes)"
        )
    return logits


def predict_logits(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
    windows: WindowPlan | None = None,
) -> Tensor:
    """Logits of every strip, in the order of the dataset.

    Parameters and errors as for `predict_probabilities`; `on_batch` is called after each batch
    with the number of strips done so far, and may raise to stop.

    Returns
    -------
    Tensor
        float32 [N, K] on the CPU. Through windows, the mean of the windows' logits, or the
        logarithm of each class's share of their votes, but at least log(`LEAST_VOTE_SHARE`):
        softmax gives the shares back. Where two classes have equally many votes, the largest
        logit is that of the first one.
    """
    check_instance("model", model, nn.Module)
    check_instance("dataset", dataset, StripDataset)
    if len(dataset) == 0:
        raise ValueError("the dataset has no strips")
    device = device_of(model) if device is None else torch.device(device)
    plan = window_plan_of(model) if windows is None else windows
    if plan is None:
        batches = strip_batches(dataset, max_padded_steps=max_padded_steps, shuffle=False)
        finishes = torch.ones(len(dataset), dtype=torch.bool)
        return _run(model, batches, finishes, device, on_batch)
    parts = StripWindows(dataset, plan.size, plan.stride)
    strip_of = torch.from_numpy(parts.strip_of)
    finishes = strip_of.diff(append=torch.tensor([len(dataset)])) > 0
    batches = parts.batches(max_padded_steps=max_padded_steps)
    logits = _run(model, batches, finishes, device, on_batch)
    return _combine(logits, strip_of, plan)


def window_plan_of(model: nn.Module) -> WindowPlan | None:
    """Return a model's attribute ``windows`` if it has one that is a `WindowPlan`."""
    plan = getattr(model, "windows", None)
    return plan if isinstance(plan, WindowPlan) else None


def _run(
    model: nn.Module,
    batches: StripBatches,
    finishes: Tensor,
    device: torch.device,
    on_batch: Callable[[int], None] | None,
) -> Tensor:
    """Logits [M, K] of a dataset's items in its order; `finishes` [M] tells which end a strip."""
    parts, order = [], []
    done = 0
    with mode(model, training=False), torch.inference_mode():
        for batch in batches:
            parts.append(batch_logits(model, batch.to(device)).float().cpu())
            order.append(batch.indices)
            done += int(finishes[batch.indices].sum())
            if on_batch is not None:
                on_batch(done)
    # Outside inference mode, so that autograd may use the result.
    return torch.cat(parts)[torch.cat(order).argsort()]


def _combine(logits: Tensor, strip_of: Tensor, plan: WindowPlan) -> Tensor:
    """One row [N, K] for each strip from those of its windows [M, K]."""
    says = logits.double()
    if plan.combine == "vote":
        says = F.one_hot(logits.argmax(1), logits.shape[1]).double()
    counts = strip_of.bincount()
    sums = says.new_zeros(len(counts), logits.shape[1]).index_add_(0, strip_of, says)
    means = sums / counts[:, None]
    if plan.combine == "vote":
        means = means.clamp_(min=LEAST_VOTE_SHARE).log()
    return means.float()


def predict_probabilities(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
    windows: WindowPlan | None = None,
) -> Tensor:
    """Class probabilities of every strip, in the order of the dataset.

    Parameters
    ----------
    model
        A strip classifier: ``model(strips [B, C, H, W], lengths [B]) -> logits [B, K]``. It runs
        in evaluation mode and has its former mode afterwards.
    dataset
        The strips; their targets are not looked at.
    max_padded_steps
        Budget of a batch: number of strips times the columns of its longest strip.
    device
        Where the batches go, by default where the model is.
    on_batch
        Called after each batch with the number of strips done so far.
    windows
        Classify each strip by its windows. By default as the model's attribute ``windows`` says,
        if it has one that is a `WindowPlan`, otherwise whole. Memory is for a batch of windows
        and one strip, however long.

    Returns
    -------
    Tensor
        float32 [N, K] on the CPU; each row sums to one.

    Raises
    ------
    ValueError
        If the dataset is empty.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=10, hidden_size=8)
    >>> digits = StripDigits("test", size=5)
    >>> predict_probabilities(model, digits).shape
    torch.Size([5, 10])
    >>> predict_probabilities(model, digits, windows=WindowPlan(size=64, stride=32)).shape
    torch.Size([5, 10])
    """
    logits = predict_logits(
        model,
        dataset,
        max_padded_steps=max_padded_steps,
        device=device,
        on_batch=on_batch,
        windows=windows,
    )
    return logits.softmax(1)


def evaluate(
    model: nn.Module,
    dataset: StripDataset,
    *,
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
    device: torch.device | str | None = None,
    on_batch: Callable[[int], None] | None = None,
    windows: WindowPlan | None = None,
) -> Evaluation:
    """Score a classifier on labelled strips.

    Parameters as for `predict_probabilities`.

    Raises
    ------
    ValueError
        If the dataset is empty, a strip in it has no label, or the model has another number of
        classes than the dataset.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=10, hidden_size=8)
    >>> evaluation = evaluate(model, StripDigits("test", size=5))
    >>> evaluation.confusion.shape, int(evaluation.confusion.sum())
    (torch.Size([10, 10]), 5)
    """
    check_instance("dataset", dataset, StripDataset)
    targets = torch.as_tensor(dataset.targets)
    unlabelled = int((targets < 0).sum())
    if unlabelled:
        raise ValueError(
            f"{unlabelled} of the {len(targets)} strips to evaluate on have no label (target -1)"
        )
    logits = predict_logits(
        model,
        dataset,
        max_padded_steps=max_padded_steps,
        device=device,
        on_batch=on_batch,
        windows=windows,
    )
    return score_logits(logits, targets, dataset.labels)


def score_logits(logits: Tensor, targets: Tensor, labels: Sequence[str]) -> Evaluation:
    """Score logits float [N, K] that are there already against targets int64 [N] in 0..K-1.

    Raises
    ------
    ValueError
        If the logits have another number of classes than there are labels.
    """
    check_num_classes(logits, tuple(labels))
    confusion = confusion_matrix(targets, logits.argmax(1), len(labels))
    return Evaluation(
        accuracy=accuracy(confusion),
        loss=float(F.cross_entropy(logits.double(), targets)),
        confusion=confusion,
        scores=class_scores(confusion),
        labels=tuple(labels),
    )
