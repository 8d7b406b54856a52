import pytest
import torch

from fastrnn.cli.devices import chosen_device
from fastrnn.cli.errors import CommandError

_TRAINING = ("train", "self-train", "tune")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Say how many GPUs there are."""

    def count(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return count


def test_auto_takes_a_gpu_where_there_is_one(gpus) -> None:
    gpus(0)
    assert chosen_device("auto") == torch.device("cpu")
    gpus(1)
    assert chosen_device("auto") == torch.device("cuda")
    assert chosen_device("cpu") == torch.device("cpu")


def test_a_gpu_by_its_number(gpus) -> None:
    gpus(2)
    assert chosen_device("cuda") == torch.device("cuda")
    assert chosen_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "number", "seen"),
    [("cuda", 0, "no GPU"), ("cuda:1", 1, "one GPU, cuda:0"), ("cuda:2", 2, "cuda:0 to cuda:1")],
)
def test_a_gpu_that_is_not_there(gpus, name: str, number: int, seen: str) -> None:
    gpus(number)
    with pytest.raises(CommandError, match=f"--device is '{name}', but torch sees {seen}"):
        chosen_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", "", "cpu:0"])
def test_a_name_of_no_device(gpus, name: str) -> None:
    gpus(1)
    with pytest.raises(CommandError, match="should be auto, cpu, cuda or cuda:N"):
        chosen_device(name)


@pytest.mark.parametrize("command", [*_TRAINING, "evaluate", "predict", "explain"])
def test_every_command_says_so_before_any_work(
    run, strips_folder, model_folder, command: str
) -> None:
    words = (
        [strips_folder]
        if command in ("train", "self-train", "tune")
        else [model_folder, strips_folder]
    )
    outcome = run(command, *words, "--device", "tpu")
    assert outcome.code == 2
    assert "--device is 'tpu', but should be auto, cpu, cuda or cuda:N" in outcome.err
    assert outcome.out == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_that_was_trained_on_a_gpu_predicts_on_the_cpu(run, strips_folder) -> None:
    trained = run("train", strips_folder, "--epochs", 1, "--device", "cuda", "--amp", "auto")
    assert trained.code == 0, trained.err
    for device in ("cuda", "cpu"):
        assert run("predict", "runs/train", strips_folder, "--device", device).code == 0
        assert run("explain", "runs/train", strips_folder, "--device", device).code == 0
