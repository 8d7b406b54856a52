"""Public architectures, written with `torch.nn.LSTM`: accelerated they give what they gave."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastrnn

FOLDER = Path(__file__).parent.parent / "examples" / "architectures"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = {path.stem: load(path.stem) for path in sorted(FOLDER.glob("*.py"))}

# Name to: how to make a small model, a batch for it, and how many LSTMs it has.
SMALL: dict[str, tuple[Callable[[Any], nn.Module], Callable[[Any], Any], int]] = {
    "actor_critic": (
        lambda m: m.ActorCritic(5, 3, hidden_size=12),
        lambda m: m.random_batch(3, 20, 5, 3, episode=12),
        1,
    ),
    "attention_seq2seq": (
        lambda m: m.Translator(20, embedding_size=6, hidden_size=10),
        lambda m: m.random_batch(4, 7, 20),
        2,
    ),
    "crnn": (
        lambda m: m.CRNN(9, channels=3, hidden_size=11),
        lambda m: m.random_batch(3, 80, 9),
        2,
    ),
    "speech_recogniser": (
        lambda m: m.SpeechRecogniser(8, bins=12, hidden_size=10, num_layers=3, channels=2),
        lambda m: m.random_batch(4, 70, 8, bins=12),
        3,
    ),
    "word_language_model": (
        lambda m: m.WordLanguageModel(15, embedding_size=8, hidden_size=12),
        lambda m: m.random_batch(3, 16, 15, piece=6),
        3,
    ),
}


@pytest.fixture(params=sorted(MODULES))
def name(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return request.param


def in_double(batch: Any) -> Any:
    parts = [x.double() if torch.is_tensor(x) and x.is_floating_point() else x for x in batch]
    return type(batch)(*parts)


def results(module: ModuleType, model: nn.Module, batch: Any) -> list[Tensor]:
    """Training loss, all gradients, and predictions; dropout draws the same each time."""
    torch.manual_seed(1)
    model.train()
    loss = module.loss(model, batch)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    model.eval()
    with torch.no_grad():
        return [loss.detach(), *grads, module.predict(model, batch)]


def largest_difference(some: list[Tensor], others: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(some, others, strict=True))


def test_every_lstm_is_replaced_and_restored(name: str) -> None:
    make, _, count = SMALL[name]
    model = make(MODULES[name])
    report = fastrnn.accelerate(model)
    assert len(report.replaced) == count
    assert not report.left
    assert fastrnn.restore(model) == report.replaced


def test_accelerated_they_give_the_same_and_restored_exactly_the_same(name: str) -> None:
    make, make_batch, _ = SMALL[name]
    module = MODULES[name]
    stock, batch = make(module).double(), in_double(make_batch(module))
    ours, restored = copy.deepcopy(stock), copy.deepcopy(stock)
    fastrnn.accelerate(ours)
    fastrnn.accelerate(restored)
    fastrnn.restore(restored)

    want = results(module, stock, batch)
    assert all(tensor.abs().max() > 0 for tensor in want)
    for a, b in zip(results(module, ours, batch), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(results(module, restored, batch), want, strict=True):
        assert torch.equal(a, b)


def test_in_float32_they_round_no_worse_than_torch(name: str) -> None:
    # Against float64, since batch normalisation over few steps makes much of torch's rounding too.
    make, make_batch, _ = SMALL[name]
    module = MODULES[name]
    stock, batch = make(module), make_batch(module)
    for part in stock.modules():
        if hasattr(part, "p"):
            part.p = 0.0  # dropout draws other numbers in float64
    ours, exact = copy.deepcopy(stock), copy.deepcopy(stock).double()
    fastrnn.accelerate(ours)
    want = results(module, exact, in_double(batch))
    of_torch = largest_difference(results(module, stock, batch), want)
    assert 0 < of_torch < 1e-4
    assert largest_difference(results(module, ours, batch), want) < 3 * of_torch


@pytest.mark.parametrize("accelerated", [False, True])
def test_they_learn_after_they_have_predicted(name: str, accelerated: bool) -> None:
    make, make_batch, _ = SMALL[name]
    module = MODULES[name]
    model, batch = make(module), make_batch(module)
    names = [n for n, _ in model.named_parameters()]
    if accelerated:
        fastrnn.accelerate(model)
    module.predict(model.eval(), batch)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        torch.manual_seed(1)  # of dropout
        loss = module.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert [n for n, _ in model.named_parameters()] == names


def test_they_are_written_without_fastrnn(name: str) -> None:
    assert "fastrnn" not in (FOLDER / f"{name}.py").read_text()


def test_an_agent_that_acts_step_by_step_sees_what_it_learns_from() -> None:
    module = MODULES["actor_critic"]
    torch.manual_seed(0)
    agent, batch = module.ActorCritic(5, 3, hidden_size=12), module.random_batch(3, 20, 5, 3, 12)
    logits, _, _ = agent(batch.observations, batch.begins, agent.initial_state(3))
    torch.testing.assert_close(module.predict(agent, batch), logits)


def test_a_translation_of_one_sentence_does_not_depend_on_its_padding() -> None:
    module = MODULES["attention_seq2seq"]
    torch.manual_seed(0)
    model = module.Translator(20, embedding_size=6, hidden_size=10)
    batch = module.random_batch(4, 7, 20)
    length = int(batch.lengths[1])
    alone = module.Batch(batch.source[:length, 1:2], batch.lengths[1:2], batch.target[:, 1:2])
    together = module.predict(model, batch)[:, 1:2]
    torch.testing.assert_close(module.predict(model, alone), together)
