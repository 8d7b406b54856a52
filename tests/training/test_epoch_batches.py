import pytest
import torch

from fastrnn.training import TrainingConfig
from fastrnn.training.epoch_batches import EpochBatches


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
