import multiprocessing

import numpy as np
import pytest
import torch

from fastrnn.data import StripSubset
from fastrnn.data.augment import StripAugmentation
from fastrnn.training import TrainingConfig
from fastrnn.training.epoch_batches import EpochBatches, epoch_strips


@pytest.mark.parametrize("accumulate", [1, 2, 3, 100])
def test_steps_are_groups_of_batches_and_the_last_one_has_the_rest(clusters, accumulate) -> None:
    strips = clusters(40, classes=3)
    config = TrainingConfig(max_padded_steps=80, accumulate=accumulate)
    batches = EpochBatches(strips, config, epoch=1)
    groups = list(batches.from_step(0))
    single = list(EpochBatches(strips, TrainingConfig(max_padded_steps=80), 1).from_step(0))
    count = len(single)
    assert len(groups) == len(batches) == -(-count // accumulate)
    assert {len(group) for group in groups[:-1]} <= {accumulate}
    assert len(groups[-1]) == (count - 1) % accumulate + 1
    flat = [batch for group in groups for batch in group]
    assert [b.indices.tolist() for b in flat] == [g[0].indices.tolist() for g in single]


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_later_step_is_the_same_without_those_before_it(clusters, step) -> None:
    config = TrainingConfig(max_padded_steps=80, accumulate=2)
    batches = EpochBatches(clusters(40, classes=3), config, epoch=0)
    whole, rest = list(batches.from_step(0))[step:], list(batches.from_step(step))
    assert len(rest) == len(whole) == len(batches) - step
    for one, other in zip(whole, rest, strict=True):
        for first, second in zip(one, other, strict=True):
            assert torch.equal(first.strips, second.strips)


def test_a_balanced_epoch_has_as_many_strips_of_each_class_changed_differently(clusters) -> None:
    strips = StripSubset(clusters(60), [*range(0, 60, 2), 1, 3])
    augment = StripAugmentation(noise=10)
    config = TrainingConfig(balanced_sampling=True, augment=augment)
    first, second = (epoch_strips(strips, config, epoch) for epoch in (0, 1))
    assert np.bincount(first.targets).tolist() == [16, 16]
    rare = [first[i][0].numpy().tobytes() for i in np.flatnonzero(first.targets == 1)]
    assert len(set(rare)) == 16
    plain = TrainingConfig(balanced_sampling=True)
    chosen = [epoch_strips(strips, plain, epoch).indices.tolist() for epoch in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(second) == 32


def test_an_epoch_has_its_own_augmentation_and_widths(clusters) -> None:
    strips = clusters(40)
    config = TrainingConfig(augment=StripAugmentation(stretch=0.5))
    widths = [epoch_strips(strips, config, epoch).lengths.tolist() for epoch in (0, 0, 1)]
    assert widths[0] == widths[1] != widths[2]
    assert epoch_strips(strips, TrainingConfig(), 0) is strips


def test_other_processes_read_the_same_batches_and_end_with_them(clusters) -> None:
    strips, augment = clusters(40), StripAugmentation(stretch=0.3, noise=9)
    found = []
    for workers in (0, 2):
        config = TrainingConfig(
            max_padded_steps=80, accumulate=2, augment=augment, num_workers=workers
        )
        groups = EpochBatches(strips, config, epoch=1).from_step(1)
        found.append([batch.strips for group in (next(groups), next(groups)) for batch in group])
        groups.close()
        assert multiprocessing.active_children() == []
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
