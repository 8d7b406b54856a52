"""What a call costs by itself, and what the options of `fastrnn.LSTM` cost; measured and stored.

``python -m benchmarks.calls`` takes about two minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import fastrnn

from .results_file import RESULTS, environment, load, spread_text, store
from .timing import Comparison, side_by_side

CALLS_FILE = RESULTS / "calls.json"

MODES = ("inference", "forward, recorded", "forward+backward")
REPETITIONS = 200
HIDDEN_SIZE = 32

# Sizes of a layer in which the options are compared with the layer without.
OPTION_SIZES = {"input_size": 84, "hidden_size": 128, "batch_size": 32, "seq_len": 512}
OPTIONS: dict[str, dict[str, Any]] = {
    "coupled_gates=True": {"coupled_gates": True},
    "reset=": {"reset": 0.01},
    "recurrent_dropout=0.25": {"recurrent_dropout": 0.25},
    "zoneout=0.1": {"zoneout": 0.1},
    "layer_norm=True": {"layer_norm": True},
}


def one_step(layer: nn.Module, mode: str, state: bool) -> Callable[[], None]:
    """Call a layer with one step of one sequence, many times."""
    x = torch.randn(1, 1, HIDDEN_SIZE)
    zeros = (torch.zeros(1, 1, HIDDEN_SIZE), torch.zeros(1, 1, HIDDEN_SIZE)) if state else None

    def run() -> None:
        for _ in range(REPETITIONS):
            y, _ = layer(x, zeros)
            if mode == "forward+backward":
                y.sum().backward()

    def without_gradients() -> None:
        with torch.no_grad():
            run()

    return without_gradients if mode == "inference" else run


def measure_overhead() -> dict[str, Any]:
    """Time one step a call, against `torch.nn.LSTM`."""
    stock = nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE)
    ours = fastrnn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE)
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(1, 1, HIDDEN_SIZE)
    torch.testing.assert_close(ours(x)[0], stock(x)[0])
    cells = {}
    for mode in MODES:
        for state in (False, True):
            calls = [one_step(layer, mode, state) for layer in (stock, ours)]
            comparison = side_by_side(calls[0], calls[1], seconds=5.0, min_rounds=20)
            name = f"one step; {mode}{', state given' if state else ''}"
            cells[name] = _cell(comparison, per=REPETITIONS)
            ratio = comparison.times_the_time.p50
            print(f"{name}: {ratio:.2f} times the time of torch.nn.LSTM")
    return cells


def with_option(options: dict[str, Any], mode: str) -> Callable[[], object]:
    """A layer with an option, or with none, in training or inference over a batch."""
    sizes = OPTION_SIZES
    torch.manual_seed(0)
    options = dict(options)
    share = options.pop("reset", None)
    layer = fastrnn.LSTM(sizes["input_size"], sizes["hidden_size"], **options)
    x = torch.randn(sizes["seq_len"], sizes["batch_size"], sizes["input_size"])
    reset = None if share is None else torch.rand(x.shape[:2]) < share

    def train() -> Tensor:
        layer.zero_grad()
        loss: Tensor = layer(x, reset=reset)[0].sum()
        loss.backward()
        return loss

    def infer() -> Any:
        with torch.inference_mode():
            return layer(x, reset=reset)

    layer.train(mode == "forward+backward")
    return train if mode == "forward+backward" else infer


def measure_options() -> dict[str, Any]:
    """Time each option against the layer without it."""
    cells = {}
    for name, options in OPTIONS.items():
        for mode in ("inference", "forward+backward"):
            plain, changed = with_option({}, mode), with_option(options, mode)
            comparison = side_by_side(plain, changed, seconds=5.0, min_rounds=5)
            cells[f"{name}; {mode}"] = _cell(comparison)
            print(f"{name}; {mode}: {comparison.times_the_time.p50:.2f} times the time without")
    return cells


def _cell(comparison: Comparison, per: int = 1) -> dict[str, Any]:
    """Microseconds of a call, and by how much the second is slower."""

    def microseconds(milliseconds: dict[str, float]) -> dict[str, float]:
        return {key: float(f"{v * 1e3 / per:.4g}") for key, v in milliseconds.items()}

    return {
        "baseline_us": microseconds(comparison.baseline_ms.as_dict()),
        "ours_us": microseconds(comparison.ours_ms.as_dict()),
        "times_the_time": comparison.times_the_time.as_dict(),
        "rounds": comparison.rounds,
        "environment": environment(),
    }


def overhead_table() -> str:
    """Markdown table of one step a call."""
    cells = load(CALLS_FILE)
    lines = ["| one step of one sequence, H=32 | `nn.LSTM` | `fastrnn.LSTM` | times the time |"]
    lines.append("|---|---|---|---|")
    for mode in MODES:
        for state in ("", ", state given"):
            cell = cells[f"one step; {mode}{state}"]
            times = [f"{cell[side]['p50']:.0f} us" for side in ("baseline_us", "ours_us")]
            lines.append(
                f"| {mode}{state} | {' | '.join(times)} | {spread_text(cell['times_the_time'])} |"
            )
    return "\n".join([*lines, "", _source(cells)])


def options_table() -> str:
    """Markdown table of what the options cost."""
    cells = load(CALLS_FILE)
    lines = [
        "| option | inference: times the time | forward+backward: times the time |",
        "|---|---|---|",
    ]
    for name in OPTIONS:
        spreads = [
            spread_text(cells[f"{name}; {mode}"]["times_the_time"])
            for mode in ("inference", "forward+backward")
        ]
        lines.append(f"| `{name}` | {' | '.join(spreads)} |")
    sizes = ", ".join(f"{name}={value}" for name, value in OPTION_SIZES.items())
    return "\n".join(
        [*lines, "", f"Against the layer without the option; {sizes}. {_source(cells)}"]
    )


def _source(cells: dict[str, Any]) -> str:
    machine = next(iter(cells.values()))["environment"]
    return (
        f"Medians, with the 20th and 80th percentile round by round. {machine['cpu']}, "
        f"{machine['threads']} threads, torch {machine['torch']}. Measured by "
        "`python -m benchmarks.calls`, stored in `benchmarks/results/calls.json`."
    )


def main() -> None:
    """Measure, and store after each part."""
    for measure in (measure_overhead, measure_options):
        store(measure(), CALLS_FILE)


if __name__ == "__main__":
    main()
