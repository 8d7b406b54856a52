import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastrnn.data import StripArrays, StripSubset, collate
from fastrnn.data.views import StripWindows
from fastrnn.models.windows import WindowPlan
from fastrnn.training import evaluate, predict_probabilities
from fastrnn.training.evaluation import LEAST_VOTE_SHARE, predict_logits


def test_probabilities_are_in_the_order_of_the_dataset(clusters, row_means) -> None:
    data, model = clusters(30, classes=3), row_means(3)
    probabilities = predict_probabilities(model, data, max_padded_steps=40)
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (30, 3)
    model.eval()
    for i in range(len(data)):
        alone = collate(data, [i])
        expected = model(alone.strips, alone.lengths).softmax(1)[0]
        torch.testing.assert_close(probabilities[i], expected)


def test_prediction_ignores_targets_and_labels(clusters, row_means) -> None:
    data = clusters(8)
    hidden = StripSubset(data, range(8), targets=[-1] * 8)
    model = row_means(5)  # a model for more classes than the dataset names
    assert torch.equal(predict_probabilities(model, hidden), predict_probabilities(model, data))


def test_every_module_gets_its_own_mode_back(clusters, row_means) -> None:
    model = row_means()
    model.train()
    model.dropout.eval()
    predict_probabilities(model, clusters(4))
    assert model.training
    assert model.hidden.training
    assert not model.dropout.training


def test_the_mode_comes_back_after_an_error(clusters, row_means) -> None:
    model = row_means(height=3).train()
    with pytest.raises(RuntimeError):
        predict_probabilities(model, clusters(4))
    assert model.training


def test_results_may_be_used_by_autograd(clusters, row_means) -> None:
    probabilities = predict_probabilities(row_means(), clusters(4))
    scale = torch.ones(2, requires_grad=True)
    (probabilities * scale).sum().backward()
    torch.testing.assert_close(scale.grad, probabilities.sum(0))


def test_evaluation_gives_accuracy_loss_and_confusion(clusters, row_means) -> None:
    data, model = clusters(31, classes=3), row_means(3)
    evaluation = evaluate(model, data, max_padded_steps=25)
    everything = collate(data, range(31))
    with torch.no_grad():
        logits = model.eval()(everything.strips, everything.lengths)
    assert evaluation.loss == pytest.approx(float(F.cross_entropy(logits, everything.targets)))
    right = int((logits.argmax(1) == everything.targets).sum())
    assert evaluation.accuracy == right / 31
    assert evaluation.confusion.sum(1).tolist() == [11, 10, 10]
    assert int(evaluation.confusion.trace()) == right
    assert evaluation.labels == data.labels
    assert evaluation.macro_f1 == evaluation.scores.macro_f1


def test_evaluation_needs_labels(clusters, row_means) -> None:
    partly = StripSubset(clusters(4), range(4), targets=[0, -1, 1, -1])
    with pytest.raises(ValueError, match="2 of the 4 strips to evaluate on have no label"):
        evaluate(row_means(), partly)


def test_evaluation_needs_the_models_classes(clusters, row_means) -> None:
    with pytest.raises(ValueError, match="gives 5 classes, but the dataset has 2 labels"):
        evaluate(row_means(5), clusters(4))


def test_an_empty_dataset_is_refused(clusters, row_means) -> None:
    with pytest.raises(ValueError, match="the dataset has no strips"):
        predict_probabilities(row_means(), StripSubset(clusters(4), []))


def test_a_model_that_gives_no_logits_per_strip_is_refused(clusters) -> None:
    class Wrong(nn.Module):
        def forward(self, strips, lengths=None):
            return strips.float().mean((1, 2, 3))

    with pytest.raises(ValueError, match=r"logits have shape \(4,\) for 4 strips"):
        predict_probabilities(Wrong(), clusters(4))


def test_progress_is_told(clusters, row_means) -> None:
    seen: list[int] = []
    predict_probabilities(row_means(), clusters(20), max_padded_steps=30, on_batch=seen.append)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == 20


@pytest.fixture
def patchwork(clusters) -> StripArrays:
    """Strips that look like one class after the other along their columns."""
    pieces = [strip.numpy() for strip, _ in clusters(90, classes=3, spread=60)]
    strips = [np.concatenate(pieces[k : k + 3], axis=-1) for k in range(0, 90, 3)]
    return StripArrays(strips, [0, 1, 2] * 10, ["class 0", "class 1", "class 2"])


def window_logits(model, data, plan):
    """Logits of each strip's windows, one strip after the other, without batches."""
    parts = StripWindows(data, plan.size, plan.stride)
    rows: list[list[torch.Tensor]] = [[] for _ in range(len(data))]
    with torch.no_grad():
        for index, strip in enumerate(parts.strip_of.tolist()):
            alone = collate(parts, [index])
            rows[strip].append(model.eval()(alone.strips, alone.lengths)[0])
    return [torch.stack(part) for part in rows]


def test_windows_logits_are_averaged(patchwork, row_means) -> None:
    data, model, plan = patchwork, row_means(3), WindowPlan(4, 2)
    logits = predict_logits(model, data, windows=plan, max_padded_steps=20)
    assert logits.dtype == torch.float32
    expected = [rows.mean(0) for rows in window_logits(model, data, plan)]
    torch.testing.assert_close(logits, torch.stack(expected))
    probabilities = predict_probabilities(model, data, windows=plan)
    torch.testing.assert_close(probabilities, logits.softmax(1))


def test_windows_vote(patchwork, row_means) -> None:
    data, model, plan = patchwork, row_means(3), WindowPlan(3, 1, "vote")
    votes = [rows.argmax(1).bincount(minlength=3) for rows in window_logits(model, data, plan)]
    shares = torch.stack([count / count.sum() for count in votes])
    assert ((shares > 0) & (shares < 1)).any(1).sum() > 10
    probabilities = predict_probabilities(model, data, windows=plan)
    torch.testing.assert_close(probabilities, shares, atol=3 * LEAST_VOTE_SHARE, rtol=0)
    logits = predict_logits(model, data, windows=plan)
    assert torch.isfinite(logits).all()
    assert (logits.argmax(1) == shares.argmax(1)).all()


def test_evaluation_goes_through_windows(patchwork, row_means) -> None:
    data, model, plan = patchwork, row_means(3), WindowPlan(4, 3)
    logits = predict_logits(model, data, windows=plan)
    evaluation = evaluate(model, data, windows=plan)
    assert evaluation.loss == pytest.approx(
        float(F.cross_entropy(logits, torch.as_tensor(data.targets)))
    )
    assert int(evaluation.confusion.sum()) == 30


def test_a_models_own_plan_is_the_default(patchwork, row_means) -> None:
    data, model, plan = patchwork, row_means(3), WindowPlan(3, 3, "vote")
    whole, voted = predict_logits(model, data), predict_logits(model, data, windows=plan)
    model.windows = plan
    assert torch.equal(predict_logits(model, data), voted)
    assert torch.equal(predict_logits(model, data, windows=WindowPlan(99, 99)), whole)
    model.windows = "something else"
    assert torch.equal(predict_logits(model, data), whole)


def test_progress_through_windows_counts_whole_strips(clusters, row_means) -> None:
    seen: list[int] = []
    plan = WindowPlan(2, 1)
    predict_logits(
        row_means(), clusters(20), windows=plan, max_padded_steps=10, on_batch=seen.append
    )
    assert seen == sorted(seen)
    assert seen[-1] == 20
    assert len(seen) > len(set(seen))  # several batches for one strip
