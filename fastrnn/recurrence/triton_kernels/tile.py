"""What both directions of data need: the rows of a tile, their order in time, the product."""

import triton
import triton.language as tl


@triton.jit
def tile_rows(order, lengths, seq_len, batch_size, TILE: tl.constexpr):
    """Rows of this program's sequences (int64), their lengths, and which of them exist."""
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    in_batch = place < batch_size
    if order is None:
        row = place.to(tl.int64)
        length = tl.where(in_batch, seq_len, 0)
    else:
        row = tl.load(order + place, mask=in_batch, other=0)
        length = tl.load(lengths + place, mask=in_batch, other=0)
    return row, length, in_batch


@triton.jit
def first_time(length, direction):
    """Time (int64) of each sequence's first step in this direction, and the way from there."""
    backwards = direction.to(tl.int64)
    return (length - 1) * backwards, 1 - 2 * backwards


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """Matrix product, accumulated in float32; `b` is rounded to the dtype of `a` beforehand."""
    if PRECISION == "interpreted":
        # The interpreter multiplies the bit patterns of bfloat16.
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision=PRECISION)
