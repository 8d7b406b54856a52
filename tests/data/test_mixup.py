import pytest
import torch

from fastrnn.data import StripMNIST, collate
from fastrnn.data.mixup import mixup_batch


@pytest.fixture(scope="module")
def batch(mnist_root):
    return collate(StripMNIST(mnist_root, "test", size=24), range(24))


def test_every_strip_is_mixed_with_another(batch):
    mixed = mixup_batch(batch, 1.0, (0, 1))
    strips = batch.strips.float()
    partners = set()
    for row, (mixture, share) in enumerate(zip(mixed.strips.float(), mixed.share, strict=True)):
        expected = share * strips[row] + (1 - share) * strips
        errors = (expected - mixture).abs().amax((1, 2, 3))
        partner = int(errors.argmin())
        assert errors[partner] <= 0.51  # rounding to whole grey levels
        assert partner != row
        assert mixed.other_targets[row] == batch.targets[partner]
        assert mixed.lengths[row] == max(batch.lengths[row], batch.lengths[partner])
        assert (mixture[..., mixed.lengths[row] :] == 0).all()
        partners.add(partner)
    assert len(partners) == len(batch)
    assert (mixed.targets == batch.targets).all()
    assert mixed.strips.dtype == torch.uint8
    assert mixed.lengths.dtype == torch.int64


def test_mixtures_depend_on_the_key_only(batch):
    first, again = mixup_batch(batch, 0.4, (5, 2, 9)), mixup_batch(batch, 0.4, (5, 2, 9))
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.share, mixup_batch(batch, 0.4, (5, 2, 10)).share)


def test_batch_itself_is_left_alone(batch):
    before = batch.strips.clone()
    mixup_batch(batch, 1.0, 0)
    assert torch.equal(batch.strips, before)


def test_shares_follow_the_beta_distribution(batch):
    shares = torch.cat([mixup_batch(batch, 0.2, key).share for key in range(60)])
    assert shares.min() >= 0
    assert shares.max() <= 1
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.4), abs=0.01)


def test_single_strip_stays_as_it_is(batch, mnist_root):
    alone = collate(StripMNIST(mnist_root, "test", size=2), [1])
    mixed = mixup_batch(alone, 1.0, 3)
    assert torch.equal(mixed.strips, alone.strips)
    assert torch.equal(mixed.other_targets, alone.targets)


@pytest.mark.parametrize(
    ("alpha", "error", "message"),
    [
        (0, ValueError, "alpha is 0, but must be above 0"),
        (-1.0, ValueError, r"alpha is -1\.0, but must be at least 0"),
        (float("nan"), ValueError, "alpha is nan, but must be at least 0"),
        ("much", TypeError, "alpha is 'much', but must be a number"),
    ],
)
def test_wrong_alpha_is_named(batch, alpha, error, message):
    with pytest.raises(error, match=message):
        mixup_batch(batch, alpha, 0)
