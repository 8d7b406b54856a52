"""All that a training consists of at one moment, so that it can go on later bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastrnn.training.checkpoint import CheckpointError
from fastrnn.training.config import TrainingConfig
from fastrnn.training.ema import averaged_copy
from fastrnn.training.evaluation import Evaluation, device_of
from fastrnn.training.history import EpochRecord
from fastrnn.training.precision import autocast_dtype
from fastrnn.training.schedule import make_schedule

Weights = dict[str, Tensor]


def copy_weights(model: nn.Module) -> Weights:
    """Copy a model's state dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def check_same_shapes(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless `weights` fit the model, before any of them is loaded."""
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            where = "model" if name not in ours else "checkpoint"
            raise CheckpointError(f"the checkpoint is of another model: the {where} has no {name}")
        if ours[name] != theirs[name]:
            raise CheckpointError(
                f"the checkpoint is of another model: {name} has shape {ours[name]} in the "
                f"model and {theirs[name]} in the checkpoint"
            )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into decayed matrices and undecayed vectors."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("the model has no parameter that requires a gradient")
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@dataclass
class EpochSums:
    """Sums over an epoch's strips so far, and the seconds they took."""

    loss: float = 0.0
    correct: int = 0
    strips: int = 0
    seconds: float = 0.0


@dataclass
class Best:
    """The best validation result so far, and for how many epochs there was no better one."""

    epoch: int
    loss: float
    accuracy: float
    stale: int = 0
    weights: Weights | None = None


@dataclass
class RandomState:
    """torch's global generators: the CPU's, and that of the model's GPU if it is on one."""

    cpu: Tensor
    cuda: Tensor | None = None

    @classmethod
    def capture(cls, device: torch.device) -> RandomState:
        """Read the generators."""
        on_gpu = device.type == "cuda"
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_gpu else None)

    def restore(self, device: torch.device) -> None:
        """Set the generators."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


@dataclass
class RunState:
    """A training at one moment; `epoch` and `step` count what is finished.

    Parameters
    ----------
    model
        The model that is trained.
    config
        How.
    """

    model: nn.Module
    config: TrainingConfig
    epoch: int = 0
    step: int = 0  # of this epoch
    global_step: int = 0  # of all epochs
    sums: EpochSums = field(default_factory=EpochSums)
    history: list[EpochRecord] = field(default_factory=list)
    best: Best | None = None
    random: RandomState | None = None  # what to restore before the next step, after a load

    def __post_init__(self) -> None:
        self.device = device_of(self.model)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.config.weight_decay), lr=self.config.learning_rate
        )
        self.schedule = make_schedule(self.optimizer, self.config)
        decay = self.config.ema_decay
        self.average = None if decay is None else averaged_copy(self.model, decay)
        self.autocast_dtype = autocast_dtype(self.config.amp, self.device)
        # Does nothing unless enabled: gradients of other types need no scale.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.autocast_dtype == torch.float16
        )

    @property
    def learning_rate(self) -> float:
        """The optimizer's current rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged model if there is one, else the model."""
        if self.average is None:
            return self.model
        averaged: nn.Module = self.average.module
        return averaged

    @property
    def finished_by(self) -> Literal["epochs", "patience"] | None:
        """Why no further epoch is due, None if one is."""
        patience = self.config.patience
        if patience is not None and self.best is not None and self.best.stale >= patience:
            return "patience"
        return "epochs" if self.epoch >= self.config.epochs else None

    def finish_step(self, loss: float, correct: int, strips: int) -> None:
        """Take a step into the epoch's sums: its strips' summed loss, and how many are right."""
        self.step += 1
        self.global_step += 1
        self.sums.loss += loss
        self.sums.correct += correct
        self.sums.strips += strips

    def finish_epoch(self, evaluation: Evaluation | None, seconds: float) -> EpochRecord:
        """Take the epoch into the history and get ready for the next one."""
        sums, rate = self.sums, self.learning_rate
        record = EpochRecord(
            epoch=self.epoch + 1,
            loss=sums.loss / sums.strips,
            accuracy=sums.correct / sums.strips,
            validation_loss=evaluation.loss if evaluation else None,
            validation_accuracy=evaluation.accuracy if evaluation else None,
            learning_rate=rate,
            strips_per_second=sums.strips / max(sums.seconds, 1e-9),
            seconds=sums.seconds + seconds,
        )
        self.schedule.after_epoch(record.validation_loss)
        self.history.append(record)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, EpochSums()
        if evaluation is not None:
            self._compare_with_best(evaluation)
        return record

    def _compare_with_best(self, evaluation: Evaluation) -> None:
        best = self.best
        if best is None:
            better = True
        elif self.config.monitor == "loss":
            better = evaluation.loss < best.loss
        else:
            better = (evaluation.accuracy, -evaluation.loss) > (best.accuracy, -best.loss)
        if better or best is None:
            keep = self.config.patience is not None
            weights = copy_weights(self.evaluated_model) if keep else None
            self.best = Best(self.epoch, evaluation.loss, evaluation.accuracy, 0, weights)
        else:
            best.stale += 1

    def deliver(self) -> None:
        """Leave in the model the weights that the training is to return."""
        if self.best is not None and self.best.weights is not None:
            self.model.load_state_dict(self.best.weights)
        elif self.average is not None:
            self.model.load_state_dict(self.evaluated_model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "global_step": self.global_step,
            "sums": asdict(self.sums),
            "history": [asdict(record) for record in self.history],
            "best": None if self.best is None else vars(self.best),
            "random": vars(self.random or RandomState.capture(self.device)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the generators are restored by `restore_random`."""
        check_same_shapes(self.model, state["model"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.global_step = state["global_step"]
        self.sums = EpochSums(**state["sums"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.best = None if state["best"] is None else Best(**state["best"])
        self.random = RandomState(**state["random"])

    def restore_random(self) -> None:
        """Set torch's generators to the loaded state, once."""
        if self.random is not None:
            self.random.restore(self.device)
            self.random = None
