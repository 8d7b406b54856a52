"""The grid of sizes and options on which every backend is held to the reference.

In full it has every combination of sizes. Usually a share is enough in which each value of each
size and option still meets each value of every other: an orthogonal array (A. S. Hedayat,
N. J. A. Sloane and J. Stufken, Orthogonal Arrays, 1999, chapter 3), whose columns are lines over
the field of four elements.
"""

from collections.abc import Iterator
from enum import Enum
from itertools import product

import torch

from .conftest import Case

SEQ_LENS = (1, 3, 7, 16)
BATCH_SIZES = (1, 3, 11, 16)
INPUT_SIZES = (1, 3, 13, 32)
HIDDEN_SIZES = (1, 5, 17, 32)
LENGTHS = ("none", "random", "zeros", "equal")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# The elements of the field are 0, 1, w and w + 1 as bits, XOR adds them, and this multiplies by w.
TIMES_W = (0, 2, 3, 1)


class Share(Enum):
    """How much of the grid, for each hidden size, number of directions and dtype."""

    ALL = "all 64 combinations of sizes"
    PAIRS = "16 cases, in which all pairs meet"
    FEW = "4 cases, in which all values occur; over the hidden sizes all pairs meet"


def share_of_grid(
    share: Share, hidden_size: int, num_directions: int, dtype: torch.dtype
) -> Iterator[Case]:
    """Cases of one hidden size, number of directions and dtype."""
    size, kind = HIDDEN_SIZES.index(hidden_size), DTYPES.index(dtype)
    # Other combinations of three in each cell; which, does not matter for pairs.
    layer = kind ^ 2 * (num_directions - 1)
    if share is Share.PAIRS:
        layer ^= size
    line = size ^ TIMES_W[kind] ^ (num_directions - 1)
    for t, b, i in product(range(4), repeat=3):
        if share is not Share.ALL and t ^ b ^ i != layer:
            continue
        if share is Share.FEW and b != TIMES_W[t] ^ line:
            continue
        lengths = t ^ TIMES_W[b]
        options = t ^ TIMES_W[TIMES_W[b]]
        yield Case(
            SEQ_LENS[t],
            BATCH_SIZES[b],
            INPUT_SIZES[i],
            hidden_size,
            num_directions,
            LENGTHS[lengths],
            states=options >= 2,
            bias=options % 2 == 0,
            contiguous=(t ^ b >> 1 ^ size ^ num_directions) % 2 == 0,
            dtype=dtype,
            seed=16 * t + 4 * b + i,
        )
