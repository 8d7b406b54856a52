import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import StripMNIST, StripSubset
from fastrnn.data.sampling import balanced_indices, class_weights

some_targets = st.lists(st.integers(-1, 5), min_size=1, max_size=80).filter(lambda t: max(t) >= 0)


@given(some_targets, st.sampled_from(["balanced", "sqrt"]))
def test_weights_have_mean_one_over_the_strips_and_favour_small_classes(targets, scheme):
    weights = class_weights(targets, 6, scheme)
    known = np.array([target for target in targets if target >= 0])
    assert weights[known].mean() == pytest.approx(1)
    counts = np.bincount(known, minlength=6)
    share = weights * counts ** (1.0 if scheme == "balanced" else 0.5)
    np.testing.assert_allclose(share[counts > 0], share.max())
    assert np.isfinite(weights).all()


def test_class_without_strips_weighs_as_one_with_a_single_strip():
    assert class_weights([0, 0, 0, 2], 3).tolist() == pytest.approx([2 / 3, 2, 2])


def test_equal_classes_weigh_one():
    assert class_weights([0, 1, 2, 2, 1, 0, -1], 3).tolist() == [1, 1, 1]


@given(some_targets, st.integers(0, 2**40), st.integers(0, 1000))
def test_epoch_is_balanced_and_uses_a_classes_strips_evenly(targets, seed, epoch):
    targets = np.array(targets)
    indices = balanced_indices(targets, seed=seed, epoch=epoch)
    assert len(indices) == (targets >= 0).sum()
    assert (np.diff(indices) >= 0).all()
    seen = targets[indices]
    assert set(seen) <= set(targets) - {-1}
    classes = np.unique(targets[targets >= 0])
    counts = np.array([(seen == target).sum() for target in classes])
    assert np.ptp(counts) <= 1
    often = np.bincount(indices, minlength=len(targets))
    for target in classes:
        assert np.ptp(often[targets == target]) <= 1
    assert (indices == balanced_indices(targets, seed=seed, epoch=epoch)).all()


def test_epochs_see_other_parts_of_a_large_class(mnist_root):
    strips = StripMNIST(mnist_root, "test", size=2000)
    odd = np.flatnonzero((strips.targets > 0) | (np.arange(2000) % 10 == 0))  # few zeros
    uneven = StripSubset(strips, odd)
    epochs = [
        set(balanced_indices(uneven.targets, seed=0, epoch=epoch).tolist()) for epoch in range(30)
    ]
    assert epochs[0] != epochs[1]
    assert epochs[0] != set(balanced_indices(uneven.targets, seed=1, epoch=0).tolist())
    assert set.union(*epochs) == set(range(len(uneven)))
    even = StripSubset(uneven, balanced_indices(uneven.targets, seed=0, epoch=0))
    assert np.ptp(np.bincount(even.targets)) <= 1
    assert np.bincount(uneven.targets)[0] < 30


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: class_weights([-1, -1], 3), ValueError, "no label: all of its 2 entries are -1"),
        (lambda: class_weights([0, 3], 3), ValueError, r"targets\[1\] is 3, but must be in -1 "),
        (lambda: class_weights([0], 0), ValueError, "num_classes is 0, but must be at least 1"),
        (lambda: class_weights([0], 1, "log"), ValueError, "scheme is 'log', but must be \"bala"),
        (lambda: class_weights([0.5], 1), TypeError, "targets has dtype float64, but must be"),
        (lambda: balanced_indices([], seed=0, epoch=0), ValueError, "targets has no label: all of"),
        (lambda: balanced_indices([0], seed=-1, epoch=0), ValueError, "seed is -1, but must be"),
        (lambda: balanced_indices([0], seed=0, epoch=-1), ValueError, "epoch is -1, but must be"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
