"""Settings of a training, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fastrnn.data.augment import StripAugmentation
from fastrnn.data.sampling import Scheme

ScheduleName = Literal["cosine", "onecycle", "plateau"]
Monitor = Literal["accuracy", "loss"]
Precision = Literal["off", "auto", "bfloat16", "float16"]

DEFAULT_MAX_PADDED_STEPS = 16_384
"""Columns in a batch, padding included: about 40 strips of 400 columns."""

FREE_AT_RESUME = frozenset({"checkpoint_every_seconds", "num_workers"})
"""Settings that change no weight, so that they may be others when a training is resumed."""


def check_integer(name: str, value: object, minimum: int) -> None:
    """Raise unless `value` is an integer of at least `minimum` (a bool is not one)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, it should be an integer")
    if value < minimum:
        raise ValueError(f"{name} is {value}, it should be at least {minimum}")


def check_number(
    name: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False
) -> None:
    """Raise unless `value` is a finite number in [low, high) (in (low, high) with `open_low`)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, it should be a number")
    too_low = value <= low if open_low else value < low
    if not math.isfinite(value) or too_low or value >= high:
        above = f"greater than {low:g}" if open_low else f"at least {low:g}"
        below = f" and less than {high:g}" if math.isfinite(high) else ""
        raise ValueError(f"{name} is {value}, it should be {above}{below}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, it should be one of {', '.join(choices)}")


def check_class_weights(value: object) -> None:
    """Raise unless `value` is None, the name of a weighting, or a tuple of positive numbers."""
    if isinstance(value, tuple):
        for number, weight in enumerate(value):
            check_number(f"class_weights[{number}]", weight, 0, open_low=True)
    elif value is not None and value not in get_args(Scheme):
        raise ValueError(
            f"class_weights is {value!r}, it should be None, one of "
            f"{', '.join(get_args(Scheme))}, or a tuple with one number per class"
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How a classifier is trained.

    Parameters
    ----------
    epochs
        Passes over the training strips, at most.
    learning_rate
        AdamW's learning rate: the highest one of the cosine and one-cycle schedules, the first
        one of the plateau schedule.
    weight_decay
        AdamW's decoupled weight decay, on matrices only: biases and norms are not decayed.
    schedule
        ``"cosine"``: a linear warm-up, then half a cosine down to zero, set at each step.
        ``"onecycle"``: a long rise from a 25th of the rate and a fall to almost nothing, while
        AdamW's first beta falls and rises (Smith and Topin, 2018); for short trainings at high
        rates. ``"plateau"``: `torch.optim.lr_scheduler.ReduceLROnPlateau` on the validation loss.
    warmup
        Share of the whole training for which the rate rises; None for the schedule's own: 0.05
        with cosine, 0.3 with one-cycle.
    plateau_factor, plateau_patience
        The plateau schedule multiplies the learning rate by this factor after more than this
        many epochs without a better validation loss.
    clip_norm
        Greatest norm of the gradient, None for no clipping.
    label_smoothing
        As in `torch.nn.CrossEntropyLoss`.
    class_weights
        Weight of each class in the loss, against classes of very different size: ``"balanced"``
        weighs a class by the inverse of its number of strips, ``"sqrt"`` by the inverse of that
        number's square root, a tuple gives the K weights; None weighs all strips alike. Weights
        are scaled to a mean of one over the training strips, and so keep the size of the loss.
    patience
        Stop after this many epochs in a row without a better validation result and give the
        model its best weights back; None trains all epochs and keeps the last weights.
    monitor
        What "better" means: higher validation accuracy (between equal ones the lower loss), or
        lower validation loss.
    ema_decay
        Decay per step of an exponential moving average of the weights, which is then what is
        evaluated and returned; None for none.
    max_padded_steps
        Budget of a batch: number of strips times the columns of its longest strip.
    accumulate
        Batches per step of the optimizer, whose gradient is that of all their strips in one
        batch: a larger batch without its memory. The last step of an epoch may have fewer.
    augment
        Random changes of the training strips, anew in each epoch, and their mixtures
        (``StripAugmentation(mixup=0.2)``); None for none. With mixtures a prediction counts as
        right if it is the class of the larger share.
    balanced_sampling
        An epoch has as many strips of each class, rare ones several times (with `augment`, changed
        differently), in the place of each strip once.
    amp
        Automatic mixed precision: the type in which forward passes run where it is safe, by
        `torch.autocast`, with scaled losses for ``"float16"``. ``"auto"`` takes bfloat16 on a GPU
        that has it, nothing elsewhere. Weights and validation keep the model's own type.
    seed
        Seeds everything random: dropout, the batches, sampling and augmentation.
    num_workers
        Processes that read, decode and augment strips while the model is trained; 0 does that in
        between. No number of them changes a result.
    checkpoint_every_seconds
        With an output folder, write a checkpoint this often inside an epoch too; None writes
        one after each epoch only.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or is out of range; the message names it.

    Examples
    --------
    >>> TrainingConfig(epochs=5).learning_rate
    0.002
    >>> TrainingConfig(epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs is 0, it should be at least 1
    """

    epochs: int = 20
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    schedule: ScheduleName = "cosine"
    warmup: float | None = None
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    class_weights: Scheme | tuple[float, ...] | None = None
    patience: int | None = None
    monitor: Monitor = "accuracy"
    ema_decay: float | None = None
    max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS
    accumulate: int = 1
    augment: StripAugmentation | None = None
    balanced_sampling: bool = False
    amp: Precision = "off"
    num_workers: int = 0
    seed: int = 0
    checkpoint_every_seconds: float | None = 60.0

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        self._check_optimisation()
        self._check_data()
        if self.patience is not None:
            check_integer("patience", self.patience, 1)
        check_choice("monitor", self.monitor, get_args(Monitor))
        check_integer("seed", self.seed, 0)
        if self.checkpoint_every_seconds is not None:
            check_number("checkpoint_every_seconds", self.checkpoint_every_seconds, 0)

    def _check_optimisation(self) -> None:
        check_number("learning_rate", self.learning_rate, 0, open_low=True)
        check_number("weight_decay", self.weight_decay, 0)
        check_choice("schedule", self.schedule, get_args(ScheduleName))
        if self.warmup is not None:
            check_number("warmup", self.warmup, 0, 1)
        check_number("plateau_factor", self.plateau_factor, 0, 1, open_low=True)
        check_integer("plateau_patience", self.plateau_patience, 0)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, 0, open_low=True)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_class_weights(self.class_weights)
        if self.ema_decay is not None:
            check_number("ema_decay", self.ema_decay, 0, 1, open_low=True)
        check_choice("amp", self.amp, get_args(Precision))

    def _check_data(self) -> None:
        check_integer("max_padded_steps", self.max_padded_steps, 1)
        check_integer("accumulate", self.accumulate, 1)
        check_integer("num_workers", self.num_workers, 0)
        if not isinstance(self.augment, StripAugmentation | None):
            raise TypeError(f"augment is {self.augment!r}, it should be a StripAugmentation")
        if not isinstance(self.balanced_sampling, bool):
            raise TypeError(f"balanced_sampling is {self.balanced_sampling!r}, it should be a bool")
        if self.balanced_sampling and isinstance(self.class_weights, str):
            raise ValueError(
                f"class_weights is {self.class_weights!r} with balanced_sampling: both make up for "
                f"rare classes, choose one"
            )

    @property
    def needs_validation(self) -> bool:
        """Whether the schedule or early stopping looks at a validation set."""
        return self.schedule == "plateau" or self.patience is not None
