import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.training.evaluation import evaluate
from fastrnn.training.rounds import copies_of_labelled, mix, report_round


@given(st.integers(1, 500), st.integers(0, 5000), st.floats(0, 0.95))
def test_labelled_strips_reach_their_share_and_not_much_more(
    labelled: int, pseudo: int, share: float
) -> None:
    copies = copies_of_labelled(labelled, pseudo, share)
    assert copies >= 1
    assert copies * labelled / (copies * labelled + pseudo) >= share - 1e-6
    if copies > 1:
        fewer = (copies - 1) * labelled
        assert fewer / (fewer + pseudo) < share


def test_a_mixture_has_true_labels_repeated_and_pseudo_labels_once(clusters) -> None:
    data = clusters(12, classes=3)
    mixture = mix(data, np.array([0, 4]), np.array([7, 8, 9, 10]), np.array([2, 2, 1, 0]), 0.5)
    assert mixture.indices.tolist() == [0, 4, 0, 4, 7, 8, 9, 10]
    assert mixture.targets.tolist() == [0, 1, 0, 1, 2, 2, 1, 0]


def test_a_report_counts_what_happened_to_the_labels(clusters, row_means) -> None:
    evaluation = evaluate(row_means(), clusters(10))
    report = report_round(
        number=2,
        labels=("a", "b"),
        previous=torch.tensor([0, 0, 1, -1, -1, 1]),
        current=torch.tensor([0, 1, -1, 0, -1, 1]),
        truth=torch.tensor([0, 0, 1, -1, 0, 1]),
        evaluation=evaluation,
        epochs=3,
        seconds=1.5,
    )
    assert (report.selected, report.added, report.changed, report.withdrawn) == (4, 1, 1, 1)
    assert report.coverage == pytest.approx(4 / 6)
    assert report.precision == pytest.approx(2 / 3)
    assert report.class_counts == {"a": 2, "b": 2}
    assert report.held_out_accuracy == evaluation.accuracy
    assert report.held_out_loss == evaluation.loss


@pytest.mark.parametrize("truth", [None, torch.tensor([-1, 1])])
def test_without_known_truth_there_is_no_precision(clusters, row_means, truth) -> None:
    report = report_round(
        number=1,
        labels=("a", "b"),
        previous=torch.tensor([-1, -1]),
        current=torch.tensor([0, -1]),
        truth=truth,
        evaluation=evaluate(row_means(), clusters(4)),
        epochs=1,
        seconds=0.0,
    )
    assert report.precision is None
