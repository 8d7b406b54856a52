"""Which cells `speed` measures, the most telling first, and what each may cost."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .grid import sizes

# A value's penalty; a cell's is the sum of its values'. Those with none come first: a strip's
# sequence through a small layer, trained or used in half precision or as torch does by default.
HIDDEN_SIZES = {64: 0, 128: 0, 32: 0, 256: 2, 512: 3, 1024: 4}
BATCH_SIZES = {32: 0, 256: 0, 1: 0, 1024: 2}
INPUT_SIZES = {84: 0, 3: 0, 28: 2, 128: 2}
SEQ_LENS = {1024: 0, 256: 2, 8192: 3}
PRECISIONS = {"fp16": 0, "tf32": 0, "bf16": 2, "fp32": 2}
AXES: dict[str, dict[Any, int]] = {
    "hidden_size": HIDDEN_SIZES,
    "batch_size": BATCH_SIZES,
    "input_size": INPUT_SIZES,
    "seq_len": SEQ_LENS,
    "precision": PRECISIONS,
}
PENALTY_OF_ONE_PACKED_SEQUENCE = 2
PENALTY_OF_OTHER_VALUES = 5

BYTES = {"fp16": 2, "bf16": 2, "tf32": 4, "fp32": 4}
# Rough effective rates in multiply-adds per microsecond, for estimates only.
RATES = {"fp16": 7.5e7, "bf16": 7.5e7, "tf32": 4e7, "fp32": 1.5e7}

MIN_ROUNDS, MAX_ROUNDS = 3, 20
SECONDS_PER_CELL = 0.8
GATE_SECONDS = 0.5
WARM_UP_CALLS = 3
MEMORY_SHARE = 0.8
# Of the most telling cells, how many come before one of everything else.
FIRST_CELLS = 16


@dataclass(frozen=True)
class Cell:
    """One layer on one shape in one mode; packed draws lengths from T/8..T.

    The gradient of x is asked for only where I is 128: that stands for a layer above another one,
    the smaller sizes for the features of a strip, which need none.
    """

    input_size: int
    hidden_size: int
    batch_size: int
    seq_len: int
    precision: str
    packed: bool
    training: bool
    num_directions: int = 1

    @property
    def name(self) -> str:
        """All of it, in a line."""
        return f"{self.shape}, {self.precision}, {self.mode}"

    @property
    def shape(self) -> str:
        """Sizes alone."""
        shape = (self.input_size, self.hidden_size, self.batch_size, self.seq_len)
        return sizes(*shape, self.num_directions)

    @property
    def mode(self) -> str:
        """Whether lengths vary, and what runs."""
        lengths = "packed" if self.packed else "padded"
        return f"{lengths}, {'forward+backward' if self.training else 'inference'}"

    @property
    def kernel_class(self) -> str:
        """Cells that should run the same kernels, by all that torch chooses cuDNN's by.

        Persistent kernels for large H want I % 128 == 0, B % 8 == 0 and B <= 128; packed sequences
        never get one, so that their batch does not count.
        """
        aligned = self.batch_size % 8 == 0 and self.batch_size <= 128
        parts = [f"H={self.hidden_size}"]
        parts += [f"D={self.num_directions}"] * (self.num_directions > 1)
        parts.append("I=128n" if self.input_size % 128 == 0 else "other I")
        if not self.packed:
            parts.append("B=8n up to 128" if aligned else "other B")
        return ", ".join([*parts, self.precision, self.mode])

    @property
    def wants_grad_x(self) -> bool:
        """Whether the gradient of the input is asked for."""
        return self.training and self.input_size >= 128

    @property
    def measures_auto(self) -> bool:
        """Whether `auto` is worth its trial of the backends here; it is measured on some cells."""
        return (self.penalty == 0 and self.input_size == 84) or self in representatives()

    @property
    def penalty(self) -> int:
        """How little it tells; 0 is the most."""
        alone = self.packed and self.batch_size == 1
        other = PENALTY_OF_OTHER_VALUES
        return (
            HIDDEN_SIZES.get(self.hidden_size, other)
            + BATCH_SIZES.get(self.batch_size, other)
            + INPUT_SIZES.get(self.input_size, other)
            + SEQ_LENS.get(self.seq_len, other)
            + PRECISIONS[self.precision]
            + (PENALTY_OF_ONE_PACKED_SEQUENCE if alone else 0)
        )

    @property
    def gate_elements(self) -> int:
        """How many gates all steps have; from 2**31 on, 32 bits do not count them."""
        return self.seq_len * self.batch_size * self.num_directions * 4 * self.hidden_size

    @property
    def bytes_needed(self) -> int:
        """Upper estimate of device memory: x, y and their gradients, what backward keeps."""
        units = self.num_directions * self.hidden_size
        per_step = 2 * self.input_size + (14 if self.training else 6) * units
        return self.seq_len * self.batch_size * per_step * BYTES[self.precision]

    def call_ms(self) -> float:
        """Estimated milliseconds of one call on a large GPU."""
        overhead = 12.0 if self.packed else 5.0
        products = 4 * self.hidden_size * (self.input_size + self.hidden_size) * self.batch_size
        step_us = overhead + products / RATES[self.precision]
        return self.seq_len * self.num_directions * step_us * (3 if self.training else 1) / 1e3

    def seconds(self, peers: int) -> float:
        """Estimated seconds of the whole cell with some peers."""
        turn = peers * self.call_ms() / 1e3
        rounds = min(max(SECONDS_PER_CELL / turn, MIN_ROUNDS), MAX_ROUNDS)
        return GATE_SECONDS + turn * (WARM_UP_CALLS + rounds)

    def as_params(self) -> dict[str, Any]:
        """Its fields, to be sent to a worker."""
        return asdict(self)


TYPICAL = Cell(84, 64, 32, 1024, "fp16", packed=False, training=True)
# The largest H that fits on a chip, with more gates than 32 bits count.
MOST_GATES = Cell(84, 128, 1024, 8192, "fp16", packed=False, training=True)


@functools.cache
def representatives() -> tuple[Cell, ...]:
    """One cell of every value of every axis, two directions, and many gates; the cheapest first."""
    cells = [replace(TYPICAL, **{axis: value}) for axis, values in AXES.items() for value in values]
    cells += [
        replace(TYPICAL, num_directions=2, packed=packed, training=training)
        for packed in (False, True)
        for training in (True, False)
    ]
    return tuple(sorted(dict.fromkeys([*cells, MOST_GATES]), key=Cell.call_ms))


def all_cells() -> list[Cell]:
    """Every cell: some of the most telling, one of everything, then the others as they tell.

    Of equals, all modes of a shape come together.
    """
    product = itertools.product(
        HIDDEN_SIZES, BATCH_SIZES, INPUT_SIZES, SEQ_LENS, PRECISIONS, (False, True), (True, False)
    )
    cells = [Cell(i, h, b, t, p, packed, train) for h, b, i, t, p, packed, train in product]
    ranked = sorted(cells, key=lambda cell: cell.penalty)
    return list(dict.fromkeys([*ranked[:FIRST_CELLS], *representatives(), *ranked]))


def self_test_cells() -> list[Cell]:
    """A few tiny ones for the test of the runner itself, without a GPU."""
    return [
        Cell(3, 8, 4, 24, "fp32", packed=packed, training=training)
        for packed in (False, True)
        for training in (True, False)
    ]


def profiled_cells() -> list[Cell]:
    """Typical problems whose kernels `profile` takes apart."""
    return [
        TYPICAL,
        Cell(84, 128, 256, 1024, "fp16", packed=True, training=True),
        Cell(3, 64, 32, 1024, "tf32", packed=False, training=True),
        Cell(84, 128, 32, 1024, "fp16", packed=False, training=False),
        Cell(84, 256, 32, 1024, "fp16", packed=False, training=True),
    ]


def resource_cells() -> list[Cell]:
    """Short problems that make a compiler produce the usual variants of its kernels."""
    product = itertools.product((True, False), (64, 128, 32), PRECISIONS, (84, 3))
    return [Cell(i, h, 32, 8, p, packed=False, training=train) for train, h, p, i in product]


def one_of_each_class(cells: Iterable[Cell]) -> list[Cell]:
    """The first cell of each class of kernels."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.kernel_class, cell)
    return list(first.values())


def fitting(cells: Iterable[Cell], memory: int | None) -> list[Cell]:
    """The cells that should fit into the device's memory; all, where that is unknown."""
    return [cell for cell in cells if memory is None or cell.bytes_needed <= MEMORY_SHARE * memory]


@dataclass
class Pace:
    """How long cells take against their estimates, learned on the way."""

    estimated: float = 0.0
    taken: float = 0.0
    factor: float = field(default=1.0, init=False)

    def learn(self, estimated: float, taken: float) -> None:
        """Count one cell; estimates are believed within a factor of five."""
        self.estimated += estimated
        self.taken += taken
        self.factor = min(max(self.taken / self.estimated, 0.2), 5.0)


def within_budget(cells: Iterable[Cell], seconds: float, peers: int) -> list[Cell]:
    """The cells that are expected to be measured in some seconds, in their order."""
    chosen: list[Cell] = []
    for cell in cells:
        cost = cell.seconds(peers)
        if cost <= seconds:
            chosen.append(cell)
            seconds -= cost
    return chosen
