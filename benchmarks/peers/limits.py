"""How fast a cell could be on this machine at best, from the rates that `machine` measured.

The products at the rate of the machine's best SGEMM and the activations at the cost of torch's
cheapest one share the cores' vector units, so their times add up. Reading the recurrent weights
once a step, and reading and writing the sequences once, can go on at the same time; the longest of
the three is the limit. What can be avoided is left out: keeping gates, reading weights twice a
step, padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .cases import Cell
from .work import draw_lengths, valid_steps

_FLOAT = 4
_ACTIVATIONS = 5  # three sigmoids and two hyperbolic tangents a unit and step


@dataclass(frozen=True)
class Limit:
    """Milliseconds of each kind of work."""

    arithmetic_ms: float
    activation_ms: float
    weights_ms: float
    sequences_ms: float

    @property
    def parts(self) -> dict[str, float]:
        """What may go on at the same time."""
        return {
            "computing": self.arithmetic_ms + self.activation_ms,
            "weights": self.weights_ms,
            "sequences": self.sequences_ms,
        }

    @property
    def ms(self) -> float:
        return max(self.parts.values())

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        return max(self.parts, key=self.parts.__getitem__)

    def as_dict(self) -> dict[str, Any]:
        parts = {
            "ms": self.ms,
            "arithmetic_ms": self.arithmetic_ms,
            "activation_ms": self.activation_ms,
            "weights_ms": self.weights_ms,
            "sequences_ms": self.sequences_ms,
        }
        return {**{key: float(f"{v:.4g}") for key, v in parts.items()}, "bound": self.bound}


def limit(cell: Cell, machine: dict[str, Any]) -> Limit:
    """The limit of a cell on a machine as `machine.measure` finds it with the cell's threads."""
    layer = cell.layer
    directions = 2 if layer.bidirectional else 1
    unit_steps = valid_steps(layer) * directions * layer.hidden_size
    activation_ns = min(machine["activation_ns"].values()) / cell.threads
    return Limit(
        arithmetic_ms=cell.flops / best_sgemm(machine) / 1e6,
        activation_ms=_ACTIVATIONS * unit_steps * activation_ns / 1e6,
        weights_ms=_weights_ms(cell, directions, machine),
        sequences_ms=_sequences_ms(cell, directions, machine),
    )


def best_sgemm(machine: dict[str, Any]) -> float:
    """GFLOP/s of the fastest product."""
    return float(max(machine["sgemm_gflops"].values()))


def _weights_ms(cell: Cell, directions: int, machine: dict[str, Any]) -> float:
    """Every step reads the recurrent weights from where they stay: the L1 is as fast as arithmetic.

    The input can be multiplied for many steps at once, so its weights need not be read in each. The
    threads share them, by rows of the batch or by hidden units: each reads its part.
    """
    hidden = cell.layer.hidden_size
    size = directions * 4 * hidden * hidden * _FLOAT
    if size / cell.threads <= machine["cache_bytes"]["L1"]:
        return 0.0
    a_step = 2 * size if cell.training else size
    lengths = draw_lengths(cell.layer)
    steps = cell.layer.seq_len if lengths is None else int(lengths.max())
    return steps * a_step / _rate(size / cell.threads, cell.threads, machine) / 1e6


def _sequences_ms(cell: Cell, directions: int, machine: dict[str, Any]) -> float:
    """Forward reads x and writes y; in training it writes c too, and backward reads all of them
    and y's gradient.
    """
    outputs = directions * cell.layer.hidden_size
    inputs = cell.layer.input_size
    held, moved = inputs + outputs, inputs + outputs
    if cell.training:
        held, moved = inputs + 3 * outputs, 2 * inputs + 5 * outputs
    steps = valid_steps(cell.layer)
    rate = _rate(steps * held * _FLOAT / cell.threads, cell.threads, machine)
    return steps * moved * _FLOAT / rate / 1e6


def _rate(size_of_a_thread: float, threads: int, machine: dict[str, Any]) -> float:
    """GB/s of all threads from the smallest memory that holds the data: each has an L2."""
    caches, bandwidth = machine["cache_bytes"], machine["bandwidth_gb_s"]
    if size_of_a_thread <= caches["L2"]:
        return float(bandwidth["L2"])
    if size_of_a_thread * threads <= caches["L3"]:
        return float(bandwidth["L3"])
    return float(bandwidth["DRAM"])
