"""What `check` runs: shapes at and around the kernels' limits, every option, and behaviours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
# Only `eager` and the baseline have it.
DOUBLE = "fp64"

SEQ_LENS = (1, 3, 7, 16, 40)
BATCH_SIZES = (1, 3, 11, 16, 40)
INPUT_SIZES = (1, 3, 13, 28, 32, 84)
HIDDEN_SIZES = (1, 5, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128)
LENGTHS = ("none", "random", "zeros", "equal")
CASES_PER_HIDDEN_SIZE = 8
# Every so many cases come in float64 too: no divisor of the turns in which options come.
DOUBLE_STEP = 5

# Names of the inputs whose gradients are asked for, and of the outputs whose gradients are given.
WANTED = {
    "all": ("x", "w_ih", "w_hh", "bias", "w_hr", "h_0", "c_0"),
    "none": (),
    "x": ("x",),
    "weights": ("w_ih", "w_hh", "bias", "w_hr"),
    "w_ih": ("w_ih",),
    "w_hh": ("w_hh",),
    "bias": ("bias",),
    "states": ("h_0", "c_0"),
    "x and bias": ("x", "bias"),
    "all but x": ("w_ih", "w_hh", "bias", "w_hr", "h_0", "c_0"),
}
GIVEN = {
    "all": ("y", "h_n", "c_n"),
    "y": ("y",),
    "h_n": ("h_n",),
    "c_n": ("c_n",),
    "states": ("h_n", "c_n"),
}

# Widths of x around those up to which kernels multiply it themselves, 84 to 96; odd ones have rows
# that no copy of four bytes ends with.
WIDE_INPUTS = (83, 95, 96, 97, 98, 128, 131)
# Sizes of hidden states, padded: those for which kernels are configured.
CONFIGURED_SIZES = (16, 32, 64, 128)

BEHAVIOURS = (
    "compiled without a graph break",
    "compiled with lengths",
    "bit-identical from run to run",
    "bit-identical, padded",
    "last state alone",
    *(f"last state alone, H={size}" for size in CONFIGURED_SIZES),
    "padding is never read",
    "a NaN stays in its sequence",
    "extreme inputs stay finite",
    "CUDA graph",
    "CUDA graph with lengths",
    "two streams at once",
    "small steps of the cell state add up",
    *(f"every configuration, H={size}" for size in CONFIGURED_SIZES),
)
AUTO_CHOICE = "what auto chooses"
AUTO_BEHAVIOURS = (
    AUTO_CHOICE,
    "auto in a CUDA graph",
    "auto in a CUDA graph with lengths",
    "auto compiled without a graph break",
)


def sizes(input_size: int, hidden_size: int, batch_size: int, seq_len: int, directions: int) -> str:
    """Sizes as they stand in the names of cases and cells, so that one --filter serves both."""
    text = f"I={input_size}, H={hidden_size}, B={batch_size}, T={seq_len}"
    return f"{text}, D={directions}" if directions > 1 else text


@dataclass(frozen=True)
class Case:
    """One problem; `lengths` is none, random, zeros (some), few (are not zero), nothing or equal.

    Inputs are multiplied by `scale`; biases and states are not.
    """

    seq_len: int
    batch_size: int
    input_size: int
    hidden_size: int
    num_directions: int = 1
    lengths: str = "none"
    lengths_on_device: bool = False
    states: bool = False
    bias: bool = True
    contiguous: bool = True
    wanted: str = "all"
    given: str = "all"
    precision: str = "fp32"
    seed: int = 0
    proj_size: int = 0
    scale: float = 1.0

    @property
    def name(self) -> str:
        """All that differs from the plain case, in a line."""
        shape = (self.input_size, self.hidden_size, self.batch_size, self.seq_len)
        parts = [sizes(*shape, self.num_directions)]
        parts += [f"P={self.proj_size}"] * (self.proj_size > 0)
        parts.append(self.precision)
        if self.lengths != "none":
            parts.append(f"lengths {self.lengths}" + " on device" * self.lengths_on_device)
        parts += ["states"] * self.states + ["no bias"] * (not self.bias)
        parts += ["strided"] * (not self.contiguous)
        parts += [f"x times {self.scale:g}"] * (self.scale != 1.0)
        parts += [f"wanted {self.wanted}"] * (self.wanted != "all")
        parts += [f"given {self.given}"] * (self.given != "all")
        return ", ".join([*parts, f"seed {self.seed}"])


def all_cases(seed: int = 0) -> list[Case]:
    """The whole grid, broad first: cut off early, it has still seen every size and precision."""
    grid, projected = list(_grid(seed)), list(_projected(seed))
    special = [*_small_inputs(seed), *_idle_tiles(seed), *_wide_inputs(seed), *projected]
    once = [*grid, *_gradient_subsets(seed), *special, *_large(seed)]
    cases = [replace(case, precision=p) for case in once for p in PRECISIONS]
    cases += [replace(c, precision=p) for c in _every_option(seed) for p in ("fp32", "fp16")]
    return cases + [replace(case, precision=DOUBLE) for case in [*grid[::DOUBLE_STEP], *projected]]


def self_test_cases(seed: int = 0) -> list[Case]:
    """A few for the test of the runner itself, without a GPU."""
    cases = [*_grid(seed)][::37] + [*_gradient_subsets(seed)][:2]
    return [replace(case, precision=p) for case in cases for p in ("fp32", "bf16")]


def for_backend(cases: list[Case], backend: str) -> list[Case]:
    """All cases; a share of them for `eager`, which is the reference itself, on the device."""
    # A step that shares no factor with the number of precisions, so that it meets them all.
    return cases if backend != "eager" else cases[::5]


def _grid(seed: int) -> Iterator[Case]:
    for k in range(CASES_PER_HIDDEN_SIZE):
        for hidden_size in HIDDEN_SIZES:
            for directions in (1, 2):
                rng = random.Random(f"{hidden_size} {directions} {k} {seed}")
                yield Case(
                    rng.choice(SEQ_LENS),
                    rng.choice(BATCH_SIZES),
                    rng.choice(INPUT_SIZES),
                    hidden_size,
                    directions,
                    # In turns, so that each size meets all four kinds of lengths.
                    LENGTHS[(k + hidden_size + directions) % len(LENGTHS)],
                    lengths_on_device=rng.random() < 0.5,
                    states=rng.random() < 0.5,
                    bias=rng.random() < 0.75,
                    contiguous=rng.random() < 0.7,
                    wanted="none" if k == CASES_PER_HIDDEN_SIZE - 1 else "all",
                    seed=seed + 100 * hidden_size + 10 * directions + k,
                )


def _every_option(seed: int) -> Iterator[Case]:
    plain = Case(9, 7, 6, 19, seed=seed)
    for number in range(32):
        yield replace(
            plain,
            lengths=LENGTHS[number % 4],
            states=bool(number & 4),
            bias=bool(number & 8),
            num_directions=1 + bool(number & 16),
            contiguous=number % 3 != 0,
            lengths_on_device=number % 5 < 2,
        )


def _gradient_subsets(seed: int) -> Iterator[Case]:
    sizes = ((12, 19, 10, 32), (9, 18, 84, 64), (11, 5, 3, 100))
    plain = [
        Case(*size, directions, "random", states=True, seed=seed)
        for size, directions in zip(sizes, (1, 2, 1), strict=True)
    ]
    for number, wanted in enumerate(WANTED):
        yield replace(plain[number % len(plain)], wanted=wanted)
    for number, given in enumerate(name for name in GIVEN if name != "all"):
        yield replace(plain[number % len(plain)], given=given)


def _small_inputs(seed: int) -> Iterator[Case]:
    """Outputs as small as the inputs: an error that is small next to 1 is large next to them."""
    sizes = ((12, 19, 13, 32), (9, 18, 84, 64), (11, 5, 3, 100))
    for scale in (1e-2, 1e-3):
        for number, size in enumerate(sizes):
            lengths = LENGTHS[number % 2]
            yield Case(*size, 1 + number % 2, lengths, bias=False, scale=scale, seed=seed)


def _idle_tiles(seed: int) -> Iterator[Case]:
    """Whole tiles of sequences that have no step."""
    for hidden_size, directions in ((32, 1), (64, 2), (100, 1), (128, 2)):
        plain = Case(9, 40, 13, hidden_size, directions, states=True, seed=seed)
        yield replace(plain, lengths="few", lengths_on_device=directions == 2)
        yield replace(plain, lengths="nothing", lengths_on_device=directions == 1)


def _wide_inputs(seed: int) -> Iterator[Case]:
    """Each width with each padded size, and with frozen weights, without dx, and in inference."""
    wanted = ("all", "weights", "x", "none", "all but x")
    for number, input_size in enumerate(WIDE_INPUTS):
        for place, hidden_size in enumerate((32, 33, 64, 65, 128)):
            turn = number + place
            yield Case(
                *(6 + turn, 11, input_size, hidden_size, 1 + turn % 2),
                LENGTHS[turn % len(LENGTHS)],
                lengths_on_device=turn % 3 == 0,
                states=place % 2 == 0,
                bias=number % 3 != 0,
                contiguous=turn % 4 != 0,
                wanted=wanted[turn % len(wanted)],
                seed=seed + turn,
            )


def _projected(seed: int) -> Iterator[Case]:
    for number, hidden_size in enumerate((5, 16, 33, 64, 128)):
        for directions in (1, 2):
            yield Case(
                *(9, 11, 13, hidden_size, directions),
                LENGTHS[(number + directions) % len(LENGTHS)],
                states=number % 2 == 0,
                bias=number % 3 != 0,
                proj_size=(hidden_size + 1) // 2,
                seed=seed + number,
            )


def _large(seed: int) -> Iterator[Case]:
    yield Case(33, 150, 28, 128, 1, "random", seed=seed)
    yield Case(40, 70, 84, 64, 2, "random", lengths_on_device=True, states=True, seed=seed)
    yield Case(300, 17, 3, 32, 2, "random", seed=seed)
    yield Case(150, 33, 84, 128, 1, seed=seed)
    yield Case(12, 20, 100, 192, 1, "random", seed=seed)
    yield Case(12, 20, 130, 256, 2, seed=seed)
    yield Case(6, 130, 128, 512, 1, seed=seed)
