"""Mixtures of two strips of a batch (mixup)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastrnn.data.batching import StripBatch
from fastrnn.data.checks import number_between


class MixedBatch(NamedTuple):
    """A batch of which each strip is a mixture of two, as `mixup_batch` makes it.

    Parameters
    ----------
    strips
        uint8 ``[B, C, H, W]``.
    lengths
        int64 ``[B]`` valid columns: those of the wider of the two.
    targets, other_targets
        int64 ``[B]`` class numbers of the two, -1 where unknown.
    share
        float32 ``[B]`` share of the first one, in [0, 1].
    """

    strips: Tensor
    lengths: Tensor
    targets: Tensor
    other_targets: Tensor
    share: Tensor


def mixup_batch(batch: StripBatch, alpha: float, seed_key: int | Sequence[int]) -> MixedBatch:
    """Mix each strip of a batch with another one of it (mixup [1]_).

    ``share * strip + (1 - share) * other``, pixel by pixel from the left end, where the shorter
    strip goes on as zeros. The loss of such a strip is the same mixture of the losses for the two
    targets. A batch of one strip stays as it is.

    Parameters
    ----------
    batch
        Strips on any device.
    alpha
        Above 0: each strip's share is drawn from Beta(alpha, alpha). Small numbers leave most
        strips almost as they are, 1 makes all shares equally likely.
    seed_key
        Integers >= 0 that the draws depend on, for instance ``(seed, epoch, step)``.

    Returns
    -------
    MixedBatch
        The mixtures, on the batch's device.

    Raises
    ------
    ValueError, TypeError
        If ``alpha`` is not a number above 0.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk
       Minimization, ICLR 2018.

    Examples
    --------
    >>> from fastrnn.data import StripDigits, collate
    >>> batch = collate(StripDigits("test", size=4), range(4))
    >>> mixed = mixup_batch(batch, alpha=0.2, seed_key=(0, 3, 17))
    >>> mixed.strips.shape == batch.strips.shape, bool((mixed.lengths >= batch.lengths).all())
    (True, True)
    """
    if number_between("alpha", alpha, 0) == 0:
        raise ValueError("alpha is 0, but must be above 0")
    count = len(batch)
    random = np.random.default_rng(seed_key)
    # Neighbours in a random circle: nobody is mixed with itself.
    circle = random.permutation(count)
    other = np.empty(count, np.int64)
    other[circle] = np.roll(circle, 1)
    share = torch.from_numpy(random.beta(alpha, alpha, count).astype(np.float32))
    device = batch.strips.device
    partner, share = torch.from_numpy(other).to(device), share.to(device)
    strips = batch.strips.float()
    mixed = torch.lerp(strips[partner], strips, share[:, None, None, None])
    return MixedBatch(
        strips=mixed.round_().to(torch.uint8),
        lengths=torch.maximum(batch.lengths, batch.lengths[partner]),
        targets=batch.targets,
        other_targets=batch.targets[partner],
        share=share,
    )
