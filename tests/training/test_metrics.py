import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from fastrnn.training.metrics import accuracy, class_scores, confusion_matrix

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(pairs)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    targets, predictions = torch.tensor(pairs).T
    confusion = confusion_matrix(targets, predictions, 5)
    scores = class_scores(confusion)
    t, p = targets.numpy(), predictions.numpy()
    expected = sklearn_metrics.precision_recall_fscore_support(
        t, p, labels=range(5), zero_division=0
    )
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(t, p, labels=range(5))
    )
    for ours, theirs in zip(
        (scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert scores.macro_f1 == pytest.approx(sklearn_metrics.f1_score(t, p, average="macro"))
    assert accuracy(confusion) == pytest.approx(sklearn_metrics.accuracy_score(t, p))


def test_an_empty_confusion_scores_zero() -> None:
    empty = torch.zeros(3, 3, dtype=torch.int64)
    assert accuracy(empty) == 0
    assert class_scores(empty).macro_f1 == 0


def test_a_class_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"predictions\[1\] is 3, it should be in 0..2"):
        confusion_matrix(torch.tensor([0, 1]), torch.tensor([2, 3]), 3)
    with pytest.raises(ValueError, match=r"targets\[0\] is -1"):
        confusion_matrix(torch.tensor([-1]), torch.tensor([0]), 3)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same shape \[N\].* \(2,\) and \(1,\)"):
        confusion_matrix(torch.tensor([0, 1]), torch.tensor([0]), 2)
