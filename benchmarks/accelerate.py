"""What `fastrnn.accelerate` makes of whole models on the CPU, measured and stored.

``python -m benchmarks.accelerate`` compares the models of ``examples/architectures`` before and
after, at realistic sizes (about 3 minutes on two cores); names of models choose some of them.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import fastrnn

from .results_file import RESULTS, ROOT, environment, load, milliseconds, spread_text, store
from .timing import Comparison, side_by_side

ACCELERATE_FILE = RESULTS / "accelerate.json"

# Outputs and gradients may differ by this share of a tensor's largest element. Most is 7e-5, in
# the speech recogniser, where torch is 1.2e-4 from float64: its normalisation enlarges rounding.
TOLERANCE = 3e-4

SECONDS = {False: 5.0, True: 10.0}
"""For which inference and training are timed; at least five rounds."""


@dataclass(frozen=True)
class Architecture:
    """A model of ``examples/architectures`` at the size it is measured in."""

    name: str
    file: str
    size: str
    build: Callable[[ModuleType], nn.Module]
    batch: Callable[[ModuleType], Any]

    def module(self) -> ModuleType:
        path = ROOT / "examples" / "architectures" / f"{self.file}.py"
        spec = importlib.util.spec_from_file_location(self.file, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


ARCHITECTURES = (
    Architecture(
        "text recogniser (CRNN)",
        "crnn",
        "2 bidirectional layers of 256, 16 images of 32 x 320",
        lambda m: m.CRNN(characters=36),
        lambda m: m.random_batch(batch_size=16, width=320, characters=36),
    ),
    Architecture(
        "speech recogniser (Deep Speech 2)",
        "speech_recogniser",
        "5 bidirectional layers of 256, 8 utterances of 2 to 4 s, packed",
        lambda m: m.SpeechRecogniser(letters=28, hidden_size=256, channels=16),
        lambda m: m.random_batch(batch_size=8, frames=400, letters=28),
    ),
    Architecture(
        "language model (AWD-LSTM)",
        "word_language_model",
        "layers of 1150, 1150, 400, 20 texts in pieces of 70 words",
        lambda m: m.WordLanguageModel(words=10_000),
        lambda m: m.random_batch(batch_size=20, steps=70, words=10_000),
    ),
    Architecture(
        "language model, small",
        "word_language_model",
        "3 layers of 200, 20 texts in pieces of 70 words",
        lambda m: m.WordLanguageModel(words=10_000, embedding_size=200, hidden_size=200),
        lambda m: m.random_batch(batch_size=20, steps=140, words=10_000),
    ),
    Architecture(
        "actor-critic",
        "actor_critic",
        "1 layer of 128, 16 environments, 128 steps, episodes of 200",
        lambda m: m.ActorCritic(observation_size=24, actions=6),
        lambda m: m.random_batch(16, steps=128, observation_size=24, actions=6, episode=200),
    ),
    Architecture(
        "translator with attention",
        "attention_seq2seq",
        "bidirectional encoder and decoder of 512, 16 sentences of 7 to 30 words",
        lambda m: m.Translator(words=8_000),
        lambda m: m.random_batch(batch_size=16, steps=30, words=8_000),
    ),
)


def models(architecture: Architecture, module: ModuleType) -> tuple[nn.Module, nn.Module]:
    """A model, and the same accelerated."""
    torch.manual_seed(0)
    stock = architecture.build(module)
    ours = copy.deepcopy(stock)
    report = fastrnn.accelerate(ours)
    assert report.replaced, f"{architecture.name}: nothing was replaced"
    assert not report.left, f"{architecture.name}: {report}"
    return stock, ours


def check_first(
    architecture: Architecture, module: ModuleType, pair: tuple[nn.Module, nn.Module], batch: Any
) -> None:
    """Fail unless loss, gradients and predictions of both models agree."""
    names = ["loss", *(name for name, _ in pair[0].named_parameters()), "predictions"]
    for name, want, got in zip(names, *(_results(module, m, batch) for m in pair), strict=True):
        difference = ((got - want).abs().max() / want.abs().max().clamp_min(1e-6)).item()
        if not difference < TOLERANCE:  # NaN too
            sys.exit(
                f"{architecture.name}: {name} differs by {difference:.1e} of its largest element, "
                "so its speed means nothing"
            )


def _results(module: ModuleType, model: nn.Module, batch: Any) -> list[Tensor]:
    torch.manual_seed(1)  # of dropout
    model.train()
    loss = module.loss(model, batch)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    model.eval()
    with torch.inference_mode():
        return [loss.detach(), *grads, module.predict(model, batch)]


def compare(
    module: ModuleType, pair: tuple[nn.Module, nn.Module], batch: Any, training: bool
) -> Comparison:
    """Time both models, in turns."""

    def train(model: nn.Module) -> Callable[[], object]:
        model.train()

        def call() -> None:
            model.zero_grad()
            module.loss(model, batch).backward()

        return call

    def infer(model: nn.Module) -> Callable[[], object]:
        model.eval()

        def call() -> None:
            with torch.inference_mode():
                module.predict(model, batch)

        return call

    prepare = train if training else infer
    stock, ours = (prepare(model) for model in pair)
    return side_by_side(stock, ours, seconds=SECONDS[training], min_rounds=5)


def measure(architecture: Architecture) -> dict[str, Any]:
    """Check and time one architecture; a cell per mode."""
    module = architecture.module()
    pair = models(architecture, module)
    batch = architecture.batch(module)
    check_first(architecture, module, pair, batch)
    cells = {}
    for mode in ("inference", "forward+backward"):
        comparison = compare(module, pair, batch, training=mode == "forward+backward")
        cells[f"{architecture.name}; {mode}"] = {
            "model": architecture.name,
            "size": architecture.size,
            "mode": mode,
            "before_ms": comparison.baseline_ms.as_dict(),
            "after_ms": comparison.ours_ms.as_dict(),
            "ratio": comparison.ratio.as_dict(),
            "rounds": comparison.rounds,
            "environment": environment(),
        }
        print(f"{architecture.name}; {mode}: {comparison.ratio.p50:.2f} times the speed before")
    return cells


def table() -> str:
    """Markdown table of the stored cells, inference and training side by side."""
    cells = load(ACCELERATE_FILE)
    lines = [
        "| model | inference: before | after | ratio | forward+backward: before | after | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for architecture in ARCHITECTURES:
        columns = [f"{architecture.name}: {architecture.size}"]
        for mode in ("inference", "forward+backward"):
            cell = cells[f"{architecture.name}; {mode}"]
            columns += [
                milliseconds(cell["before_ms"]["p50"]),
                milliseconds(cell["after_ms"]["p50"]),
                spread_text(cell["ratio"]),
            ]
        lines.append("| " + " | ".join(columns) + " |")
    machine = next(iter(cells.values()))["environment"]
    lines += [
        "",
        "Medians; in brackets the 20th and 80th percentile of the ratio, round by round, in one "
        f"process. {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}. "
        "Measured by `python -m benchmarks.accelerate`, stored in "
        "`benchmarks/results/accelerate.json`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure all architectures, or those whose file is named, and print the stored table."""
    known = {architecture.file for architecture in ARCHITECTURES}
    wanted = set(sys.argv[1:]) or known
    if unknown := wanted - known:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")
    for architecture in ARCHITECTURES:
        if architecture.file in wanted:
            store(measure(architecture), ACCELERATE_FILE)
    cells = load(ACCELERATE_FILE)
    if all(f"{a.name}; forward+backward" in cells for a in ARCHITECTURES):
        print(table())


if __name__ == "__main__":
    main()
