import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import (
    StripDigits,
    StripFiles,
    StripMNIST,
    StripSubset,
    collate,
    plan_batches,
    strip_batches,
)
from fastrnn.data.dataset import StripDataset

many_lengths = st.lists(st.integers(1, 300), max_size=200)
budgets = st.integers(1, 3000)
seeds = st.integers(0, 2**40)


def padded_steps(lengths, plan):
    return sum(len(batch) * int(lengths[batch].max()) for batch in plan)


@given(many_lengths, budgets, st.booleans(), seeds, st.integers(0, 1000))
def test_every_strip_is_in_one_batch_within_the_budget(lengths, budget, shuffle, seed, epoch):
    lengths = np.array(lengths, dtype=np.int64)
    options = {"max_padded_steps": budget, "shuffle": shuffle, "seed": seed, "epoch": epoch}
    plan = plan_batches(lengths, **options)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) * lengths[batch].max() <= budget or len(batch) == 1
    again = plan_batches(lengths, **options)
    assert [batch.tolist() for batch in plan] == [batch.tolist() for batch in again]


@given(many_lengths, budgets)
def test_without_shuffling_batches_go_from_short_to_long(lengths, budget):
    plan = plan_batches(lengths, max_padded_steps=budget, shuffle=False)
    order = [lengths[i] for batch in plan for i in batch]
    assert order == sorted(order)


@given(st.integers(1, 100), st.integers(1, 40), st.integers(2, 60))
def test_last_batch_is_no_crumb(count, length, per_batch):
    plan = plan_batches([length] * count, max_padded_steps=per_batch * length, shuffle=False)
    assert len(plan) == -(-count // per_batch)
    assert len(plan) == 1 or len(plan[-1]) >= per_batch // 2


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=40),
    st.integers(1, 400),
    st.booleans(),
)
def test_batches_hold_the_strips_with_zeros_behind(lengths, budget, shuffle):
    data = Ramps(lengths)
    seen = []
    for batch in strip_batches(data, max_padded_steps=budget, shuffle=shuffle):
        assert batch.strips.dtype == torch.uint8
        assert {batch.lengths.dtype, batch.targets.dtype, batch.indices.dtype} == {torch.int64}
        assert batch.strips.shape == (len(batch), 2, 3, batch.lengths.max())
        for strip, length, target, index in zip(
            batch.strips, batch.lengths, batch.targets, batch.indices, strict=True
        ):
            assert length == lengths[index]
            assert target == data.targets[index]
            assert (strip[..., :length] == data[index][0]).all()
            assert (strip[..., length:] == 0).all()
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_epochs_and_seeds_differ_and_repeat(make_strips):
    data = make_strips(np.random.default_rng(0).integers(140, 421, 500))

    def contents(seed, epoch):
        batches = strip_batches(data, max_padded_steps=4096, shuffle=True, seed=seed, epoch=epoch)
        return [tuple(batch.indices.tolist()) for batch in batches]

    first = contents(0, 0)
    assert first == contents(0, 0)
    for other in (contents(0, 1), contents(1, 0), contents(1, 1)):
        assert other != first
        together = {frozenset(batch) for batch in first}
        assert len(together & {frozenset(batch) for batch in other}) < len(first) / 10


def test_shuffling_mixes_the_order_of_the_batches():
    lengths = np.arange(1, 2001)
    plan = plan_batches(lengths, max_padded_steps=16_384, shuffle=True)
    widths = [int(lengths[batch].max()) for batch in plan]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3


def test_batches_can_be_counted_and_iterated_again(make_strips):
    batches = strip_batches(make_strips([9] * 10), max_padded_steps=27, shuffle=True)
    assert len(batches) == len(list(batches)) == 4
    assert [b.indices.tolist() for b in batches] == [b.indices.tolist() for b in batches]


def test_empty_dataset_has_no_batches(make_strips):
    none = StripSubset(make_strips([9]), [])
    assert len(strip_batches(none, max_padded_steps=10, shuffle=True)) == 0


def test_padding_costs_less_than_five_percent(mnist_root):
    lengths = StripMNIST(mnist_root, "train", size=20_000).lengths
    for shuffle, limit in ((True, 1.05), (False, 1.005)):
        plan = plan_batches(lengths, max_padded_steps=16_384, shuffle=shuffle)
        assert padded_steps(lengths, plan) / lengths.sum() < limit


def test_indices_restore_the_order():
    data = StripDigits("test", size=60)
    restored = torch.full((60,), -5)
    for batch in strip_batches(data, max_padded_steps=3000, shuffle=False):
        restored[batch.indices] = batch.targets
    assert restored.tolist() == data.targets.tolist()


def test_batch_moves_as_a_whole(make_strips):
    batch = collate(make_strips([3, 5]), [1, 0])
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.strips, moved.lengths, moved.targets, moved.indices)} == {
        "meta"
    }
    assert moved.strips.shape == batch.strips.shape
    assert batch.strips.device.type == "cpu"


def test_pinned_batch_is_the_same(make_strips):
    if not torch.cuda.is_available():
        pytest.skip("page-locked memory needs a GPU")
    batch = collate(make_strips([3, 5]), [1, 0])
    pinned = batch.pin_memory()
    assert pinned.strips.is_pinned()
    assert (pinned.strips == batch.strips).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_padded_steps": 0}, ValueError, "max_padded_steps is 0, but must be at least 1"),
        ({"max_padded_steps": 1.5}, TypeError, "max_padded_steps is 1.5, but must be an integer"),
        ({"seed": -1}, ValueError, "seed is -1, but must be at least 0"),
        ({"epoch": -1}, ValueError, "epoch is -1, but must be at least 0"),
    ],
)
def test_wrong_options_are_named(make_strips, options, error, message):
    with pytest.raises(error, match=message):
        strip_batches(make_strips([5]), **({"max_padded_steps": 10, "shuffle": True} | options))


def test_collating_nothing_is_an_error(make_strips):
    with pytest.raises(ValueError, match="indices is empty; a batch needs at least one strip"):
        collate(make_strips([5]), [])


def test_strip_that_changed_its_width_is_an_error(tmp_path, save):
    strips = StripFiles([save("a.png", 50)])
    save("a.png", 60)
    with pytest.raises(ValueError, match=r"strip 0 has shape \(1, 28, 60\), but the dataset said"):
        collate(strips, [0])


class Ramps(StripDataset):
    """Strips without a zero, each different."""

    def __init__(self, lengths):
        targets = [k % 3 - 1 for k in range(len(lengths))]
        super().__init__(labels=["a", "b"], targets=targets, lengths=lengths, height=3, channels=2)

    def read_strip(self, index):
        width = int(self.lengths[index])
        ramp = torch.arange(6 * width) + 17 * index
        return (ramp % 255 + 1).to(torch.uint8).reshape(2, 3, width)
