import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastrnn.data import StripSubset
from fastrnn.training import Trainer, TrainingConfig
from fastrnn.training.loss import loss_weights, strip_losses


def test_weighted_losses_have_the_mean_of_torchs_over_the_training_strips(clusters) -> None:
    strips = StripSubset(clusters(30, classes=3), [0, 1, 2, 3, 6, 9, 12, 4, 15])
    weights = loss_weights(TrainingConfig(class_weights=(1.0, 3.0, 10.0)), strips)
    targets = torch.as_tensor(strips.targets)
    logits = torch.randn(len(strips), 3, generator=torch.Generator().manual_seed(0))
    assert float(weights[targets].mean()) == pytest.approx(1)
    for smoothing in (0.0, 0.2):
        ours = strip_losses(logits, targets, weights=weights, label_smoothing=smoothing).mean()
        torchs = F.cross_entropy(
            logits, targets, weight=torch.tensor([1.0, 3.0, 10.0]), label_smoothing=smoothing
        )
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("scheme", ["balanced", "sqrt"])
def test_named_weights_make_up_for_the_sizes_of_classes(clusters, scheme: str) -> None:
    strips = StripSubset(clusters(30, classes=3), [0, 3, 6, 9, 12, 15, 18, 21, 1, 4, 2])
    weights = loss_weights(TrainingConfig(class_weights=scheme), strips)
    counts = torch.tensor([8.0, 2.0, 1.0])
    shares = weights * (counts if scheme == "balanced" else counts.sqrt())
    torch.testing.assert_close(shares / shares[0], torch.ones(3))
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)


def test_no_weights_by_default(clusters) -> None:
    assert loss_weights(TrainingConfig(), clusters(9, classes=3)) is None


def test_logits_of_16_bits_lose_nothing_in_the_loss() -> None:
    logits = torch.tensor([[3.0, -2.0, 0.5]], dtype=torch.bfloat16)
    losses = strip_losses(logits, torch.tensor([2]), weights=None, label_smoothing=0.0)
    assert losses.dtype == torch.float32
    expected = -np.log(np.exp(0.5) / np.exp([3.0, -2.0, 0.5]).sum())
    assert float(losses[0]) == pytest.approx(expected, rel=1e-6)


def test_weights_find_a_rare_class_more_often(clusters, row_means) -> None:
    many = clusters(400, spread=60)
    rare = np.flatnonzero(many.targets == 1)[:10]
    strips = StripSubset(many, np.concatenate([np.flatnonzero(many.targets == 0), rare]))
    found = []
    for weights in (None, (1.0, 20.0)):
        model = row_means()
        config = TrainingConfig(
            epochs=4, learning_rate=0.03, max_padded_steps=300, class_weights=weights
        )
        Trainer(model, config, progress=False).fit(strips)
        test = clusters(200, seed=3, spread=60)
        with torch.no_grad():
            model.eval()
            ones = [int(model(test[i][0][None]).argmax()) for i in range(200) if test[i][1] == 1]
        found.append(sum(ones))
    assert found[1] > found[0] + 10
