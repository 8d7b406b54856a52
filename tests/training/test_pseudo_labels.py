import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.training import ConfidenceThreshold, KBest


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Probabilities [N, K] and the labels of the round before [N]."""
    count, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = random.normal(0, draw(st.sampled_from([0.1, 2.0, 8.0])), (count, classes))
    probabilities = torch.from_numpy(logits).softmax(1).float()
    return probabilities, torch.from_numpy(random.integers(-1, classes, count))


@given(rounds(), st.floats(0, 0.999))
def test_exactly_the_confident_are_taken(data: tuple[Tensor, Tensor], threshold: float) -> None:
    probabilities, previous = data
    labels = ConfidenceThreshold(threshold)(probabilities, previous)
    assert labels.dtype == torch.int64
    for row, label in zip(probabilities, labels.tolist(), strict=True):
        expected = int(row.argmax()) if row.max() > threshold else -1
        assert label == expected


@given(rounds(), st.floats(0, 0.999))
def test_kept_labels_never_change(data: tuple[Tensor, Tensor], threshold: float) -> None:
    probabilities, previous = data
    labels = ConfidenceThreshold(threshold, keep=True)(probabilities, previous)
    had = previous >= 0
    assert torch.equal(labels[had], previous[had])
    fresh = ConfidenceThreshold(threshold)(probabilities, previous)
    assert torch.equal(labels[~had], fresh[~had])


@given(rounds(), st.integers(1, 40))
def test_the_k_most_confident_are_added(data: tuple[Tensor, Tensor], k: int) -> None:
    probabilities, previous = data
    labels = KBest(k)(probabilities, previous)
    had = previous >= 0
    assert torch.equal(labels[had], previous[had])
    added, left = (labels >= 0) & ~had, labels < 0
    assert int(added.sum()) == min(k, int((~had).sum()))
    confidence, classes = probabilities.max(1)
    assert torch.equal(labels[added], classes[added])
    if added.any() and left.any():
        assert confidence[added].min() >= confidence[left].max()


def test_the_threshold_itself_is_not_above_it() -> None:
    labels = ConfidenceThreshold(0.5)(torch.tensor([[0.5, 0.5]]), torch.tensor([-1]))
    assert labels.tolist() == [-1]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        ConfidenceThreshold(1.5)
    with pytest.raises(ValueError, match="k is 0"):
        KBest(0)
