import dataclasses
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastrnn.data import StripArrays, StripBatch, collate
from fastrnn.data.augment import StripAugmentation
from fastrnn.data.mixup import mixup_batch
from fastrnn.training import TrainingConfig
from fastrnn.training.run_state import RunState
from fastrnn.training.step import _MIXUP_STREAM, NonFiniteLossError, Optimisation

CONFIG = TrainingConfig(clip_norm=None, label_smoothing=0.1)
Batch = Callable[..., StripBatch]
Gradients = Callable[..., tuple[list[Tensor], float]]


def optimisation(
    model: nn.Module, config: TrainingConfig = CONFIG, weights: Tensor | None = None
) -> Optimisation:
    return Optimisation(RunState(model, config), config, weights)


@pytest.fixture
def strips(clusters) -> StripArrays:
    return clusters(24, classes=3)


@pytest.fixture
def whole(strips) -> StripBatch:
    return collate(strips, range(24))


@pytest.fixture
def gradients(strips, row_means) -> Gradients:
    """Gradients and loss of one step on some batches of strips."""

    def of(groups: list[list[int]], weights: Tensor | None = None) -> tuple[list[Tensor], float]:
        model = row_means(3).eval()  # without dropout, which would differ between batches
        steps = optimisation(model, weights=weights)
        scores = steps.step([collate(strips, group) for group in groups], 1)
        return [p.grad for p in model.parameters()], scores.loss

    return of


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.permutations(range(24)),
    st.lists(st.integers(1, 23), max_size=5, unique=True),
    st.sampled_from([None, torch.tensor([0.2, 1.0, 2.5])]),
)
def test_batches_of_a_step_give_the_gradient_of_all_their_strips_in_one(
    gradients, order: list[int], cuts: list[int], weights: Tensor | None
) -> None:
    ends = [0, *sorted(cuts), 24]
    groups = [order[a:b] for a, b in pairwise(ends)]
    together, loss = gradients([order], weights)
    apart, sum_of_losses = gradients(groups, weights)
    assert sum_of_losses == pytest.approx(loss, rel=1e-5)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_step_counts_its_strips_once_and_averages_weights_once(strips, row_means) -> None:
    config = dataclasses.replace(CONFIG, ema_decay=0.9)
    steps = optimisation(row_means(3), config)
    steps.step([collate(strips, [0, 1, 2]), collate(strips, [3, 4])], 1)
    state = steps.state
    assert (state.step, state.global_step, state.sums.strips) == (1, 1, 5)
    assert int(state.average.n_averaged) == 1


def test_rare_classes_can_weigh_more(gradients) -> None:
    light, _ = gradients([[0, 1, 2]], torch.tensor([1.0, 1.0, 1.0]))
    plain, _ = gradients([[0, 1, 2]])
    heavy, _ = gradients([[0, 1, 2]], torch.tensor([5.0, 1.0, 1.0]))
    for one, other in zip(light, plain, strict=True):
        torch.testing.assert_close(one, other)
    # The gradient of the output's bias is pulled towards the class that weighs more.
    assert heavy[-1][0] < plain[-1][0]


class HalfGradients(torch.autograd.Function):
    """Lets gradients overflow as float16 does, once they are `scale` times as large."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return (gradient * ctx.scale).half().float() / ctx.scale, None


class Overflowing(nn.Module):
    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, strips, lengths=None):
        return HalfGradients.apply(self.model(strips, lengths).float(), self.scale)


def test_a_float16_step_that_overflows_is_left_out_and_tried_with_a_smaller_scale(
    whole, row_means
) -> None:
    config = TrainingConfig(amp="float16")
    steps = optimisation(Overflowing(row_means(3), 100.0), config)
    before = steps.state.model.model.output.weight.clone()
    first = steps.step([whole], 8)
    assert not torch.tensor(first.gradient_norm).isfinite()
    assert torch.equal(steps.state.model.model.output.weight, before)
    norms = [steps.step([whole], 8).gradient_norm for _ in range(7)]
    assert torch.tensor(norms[-1]).isfinite()
    assert not torch.equal(steps.state.model.model.output.weight, before)
    assert 1 < steps.state.scaler.get_scale() < 2**16


def test_float16_gives_up_where_no_scale_helps(whole, row_means) -> None:
    steps = optimisation(Overflowing(row_means(3), float("inf")), TrainingConfig(amp="float16"))
    for _ in range(16):  # from a scale of 2 ** 16 down to 1
        steps.step([whole], 30)
    with pytest.raises(NonFiniteLossError, match="the gradient's norm became nan"):
        steps.step([whole], 30)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision_runs_in_16_bits_and_keeps_weights_and_loss_in_32(
    whole, row_means, gradients, amp: str
) -> None:
    seen = []
    model = row_means(3).eval()
    model.output.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    scores = optimisation(model, dataclasses.replace(CONFIG, amp=amp)).step([whole], 1)
    _, exact = gradients([list(range(24))])
    assert seen == [getattr(torch, amp)]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert scores.loss != exact
    assert scores.loss == pytest.approx(exact, rel=1e-2)


def test_without_mixed_precision_an_autocast_of_the_caller_holds(whole, row_means) -> None:
    seen = []
    model = row_means(3).eval()
    model.output.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimisation(model).step([whole], 1)
    assert seen == [torch.bfloat16]


def test_a_mixed_batch_has_the_mixture_of_both_losses(whole, row_means) -> None:
    config = dataclasses.replace(CONFIG, seed=5, augment=StripAugmentation(mixup=0.7))
    steps = optimisation(row_means(3).eval(), config)
    seen: list[tuple[Tensor, ...]] = []
    steps.state.model.register_forward_hook(
        lambda module, inputs, logits: seen.append((*inputs, logits.detach()))
    )
    scores = steps.step([whole], 1)
    strips, lengths, logits = seen[0]
    mixed = mixup_batch(whole, 0.7, (5, 0, 0, _MIXUP_STREAM))
    assert torch.equal(strips, mixed.strips)
    assert torch.equal(lengths, mixed.lengths)
    assert not torch.equal(strips, whole.strips)
    soft = torch.zeros(24, 3)
    rows = torch.arange(24)
    soft[rows, mixed.targets] += mixed.share
    soft[rows, mixed.other_targets] += 1 - mixed.share
    expected = F.cross_entropy(logits, soft, label_smoothing=0.1)
    assert scores.loss == pytest.approx(float(expected), rel=1e-5)
    right = logits.argmax(1) == torch.where(mixed.share < 0.5, mixed.other_targets, mixed.targets)
    assert steps.state.sums.correct == int(right.sum())


def test_each_batch_of_each_step_has_its_own_mixtures(whole, row_means) -> None:
    config = dataclasses.replace(CONFIG, accumulate=2, augment=StripAugmentation(mixup=0.7))
    steps = optimisation(row_means(3), config)
    seen: list[bytes] = []
    steps.state.model.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].numpy().tobytes())
    )
    for _ in range(2):
        steps.step([whole, whole], 2)
    steps.state.epoch, steps.state.step = 1, 0
    steps.step([whole, whole], 2)
    assert len(set(seen)) == 6
