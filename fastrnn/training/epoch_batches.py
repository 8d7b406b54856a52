"""The batches of an epoch: a pure function of the settings, the epoch and the step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from fastrnn.data import StripBatch, StripBatches, StripDataset, StripSubset, strip_batches
from fastrnn.data.augment import StripAugmented
from fastrnn.data.sampling import balanced_indices
from fastrnn.training.config import TrainingConfig


def epoch_strips(train: StripDataset, config: TrainingConfig, epoch: int) -> StripDataset:
    """Return the strips that an epoch sees: the training strips, sampled and augmented."""
    strips = train
    if config.balanced_sampling:
        chosen = balanced_indices(train.targets, seed=config.seed, epoch=epoch)
        strips = StripSubset(train, chosen)
    if config.augment is not None:
        strips = StripAugmented(strips, config.augment, seed=config.seed, epoch=epoch)
    return strips


class EpochBatches:
    """An epoch's batches, in groups of which each makes one step of the optimizer.

    Parameters
    ----------
    train
        The training strips.
    config
        How the training goes.
    epoch
        Number of the epoch, from 0.
    """

    def __init__(self, train: StripDataset, config: TrainingConfig, epoch: int) -> None:
        self._batches = strip_batches(
            epoch_strips(train, config, epoch),
            max_padded_steps=config.max_padded_steps,
            shuffle=True,
            seed=config.seed,
            epoch=epoch,
        )
        self._per_step = config.accumulate

    def __len__(self) -> int:
        """Return the number of steps; the last one may have fewer batches."""
        return -(-len(self._batches) // self._per_step)

    def from_step(self, step: int) -> Iterator[list[StripBatch]]:
        """Go through the groups from number `step` on, without reading those before it."""
        rest = self._batches.plan[step * self._per_step :]
        batches = iter(StripBatches(self._batches.dataset, rest))
        while group := list(islice(batches, self._per_step)):
            yield group
