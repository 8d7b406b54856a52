import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.training import TrainingConfig
from fastrnn.training.schedule import cosine_factor, make_schedule


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
