import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.training import TrainingConfig
from fastrnn.training.schedule import (
    cosine_factor,
    make_schedule,
    onecycle_factor,
    onecycle_momentum,
)


def optimizer(rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_cosine_stays_between_zero_and_one(progress: float, warmup: float) -> None:
    assert 0 <= cosine_factor(progress, warmup) <= 1


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.99))
def test_cosine_rises_in_the_warm_up_and_falls_after(a: float, b: float, warmup: float) -> None:
    low, high = sorted((a, b))
    if high < warmup:
        assert cosine_factor(low, warmup) <= cosine_factor(high, warmup)
    elif low >= warmup:
        assert cosine_factor(low, warmup) >= cosine_factor(high, warmup)


def test_cosine_spans_all_steps_of_all_epochs() -> None:
    config = TrainingConfig(epochs=3, learning_rate=0.5, warmup=0.2)
    sgd = optimizer()
    schedule = make_schedule(sgd, config)
    rates = []
    for epoch, steps in enumerate((4, 5, 6)):
        for step in range(steps):
            schedule.before_step(epoch, step, steps)
            rates.append(sgd.param_groups[0]["lr"])
        schedule.after_epoch(None)
    top = rates.index(max(rates))
    assert 0 < top < 5
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(0.5, rel=0.05)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("share", [0.1, 0.3, 0.75])
def test_one_cycle_is_that_of_torch(share: float) -> None:
    steps = 200
    weight = torch.zeros(1, requires_grad=True)
    adam = torch.optim.AdamW([weight], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        adam, max_lr=1.0, total_steps=steps, pct_start=share
    )
    # torch counts from the first step to the last one, and its rise ends a step early.
    warmup = (share * steps - 1) / (steps - 1)
    for step in range(steps):
        (group,) = adam.param_groups
        progress = step / (steps - 1)
        assert onecycle_factor(progress, warmup) == pytest.approx(group["lr"], rel=1e-9)
        assert onecycle_momentum(progress, warmup) == pytest.approx(group["betas"][0], rel=1e-9)
        if step < steps - 1:
            adam.step()
            torchs.step()


def test_one_cycle_rises_for_its_share_and_ends_near_zero() -> None:
    config = TrainingConfig(schedule="onecycle", epochs=10, learning_rate=0.5)
    adam = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    schedule = make_schedule(adam, config)
    rates, betas = [], []
    for epoch in range(10):
        for step in range(10):
            schedule.before_step(epoch, step, 10)
            rates.append(adam.param_groups[0]["lr"])
            betas.append(adam.param_groups[0]["betas"])
    assert rates.index(max(rates)) in (29, 30)
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[0] == pytest.approx(0.5 / 25, rel=0.05)
    assert rates[-1] < 1e-3 * max(rates)
    assert betas[0][0] == pytest.approx(0.95, rel=0.01)
    assert betas[30][0] == pytest.approx(0.85, rel=0.01)
    assert {second for _, second in betas} == {0.999}


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
def test_the_rate_depends_on_nothing_but_the_step(name: str) -> None:
    config = TrainingConfig(schedule=name, epochs=2, warmup=0.25)
    steps = [(epoch, step) for epoch in range(2) for step in range(5)]

    def rates(order: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
        adam = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
        schedule = make_schedule(adam, config)
        found = {}
        for epoch, step in order:
            schedule.before_step(epoch, step, 5)
            found[epoch, step] = adam.param_groups[0]["lr"]
        return found

    assert rates(steps) == rates(steps[::-1])
    assert max(rates(steps), key=rates(steps).__getitem__) == (0, 2)  # the middle of the third


def test_plateau_lowers_the_rate_when_the_loss_stops_falling() -> None:
    config = TrainingConfig(schedule="plateau", plateau_factor=0.1, plateau_patience=1)
    sgd = optimizer()
    schedule = make_schedule(sgd, config)
    rates = []
    for loss in (1.0, 0.5, 0.6, 0.6, 0.4):
        schedule.before_step(0, 0, 1)
        schedule.after_epoch(loss)
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_plateau_goes_on_from_its_state() -> None:
    config = TrainingConfig(schedule="plateau", plateau_factor=0.1, plateau_patience=1)
    first = make_schedule(optimizer(), config)
    for loss in (0.5, 0.6):
        first.after_epoch(loss)
    sgd = optimizer()
    second = make_schedule(sgd, config)
    second.load_state_dict(first.state_dict())
    second.after_epoch(0.6)
    assert sgd.param_groups[0]["lr"] == pytest.approx(0.1)


def test_plateau_needs_a_validation_loss() -> None:
    schedule = make_schedule(optimizer(), TrainingConfig(schedule="plateau"))
    with pytest.raises(ValueError, match="needs a validation loss"):
        schedule.after_epoch(None)
