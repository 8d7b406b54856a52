"""The batches of an epoch: a pure function of the settings, the epoch and the step."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice

from fastrnn.data import StripBatch, StripBatches, StripDataset, StripSubset, strip_batches
from fastrnn.data.augment import StripAugmented
from fastrnn.data.loader import prefetched
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
        self._per_step, self._workers = config.accumulate, config.num_workers

    def __len__(self) -> int:
        """Return the number of steps; the last one may have fewer batches."""
        return -(-len(self._batches) // self._per_step)

    def from_step(self, step: int) -> Generator[list[StripBatch], None, None]:
        """Go through the groups from number `step` on, without reading those before it.

        Whoever stops before the end closes the generator, which ends the processes that read.
        """
        rest = StripBatches(self._batches.dataset, self._batches.plan[step * self._per_step :])
        batches = prefetched(rest, num_workers=self._workers)
        while group := list(islice(batches, self._per_step)):
            yield group
