import torch
from torch import nn

from fastrnn.training.ema import averaged_copy


def test_the_average_follows_the_formula() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = averaged_copy(model, decay=0.5)
    expected = None
    for step in range(30):
        with torch.no_grad():
            model.weight.fill_(float(step**2))
        average.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))
        value = float(step**2)
        expected = value if expected is None else decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.module.weight, torch.full((1, 2), expected))


def test_running_statistics_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = averaged_copy(model, decay=0.9)
    for _ in range(3):
        model(torch.randn(8, 2))
        average.update_parameters(model)
    assert torch.equal(average.module.running_mean, model.running_mean)
    assert int(average.module.num_batches_tracked) == 3


def test_the_copy_does_not_change_the_model() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    average = averaged_copy(model, decay=0.9)
    with torch.no_grad():
        average.module.weight.zero_()
    assert torch.equal(model.weight, before)
