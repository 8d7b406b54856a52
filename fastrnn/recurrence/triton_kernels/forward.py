"""Forward: all steps of one tile of sequences in one program, the recurrent weights on chip."""

import triton
import triton.language as tl

from fastrnn.recurrence.triton_kernels.activations import sigmoid, tanh
from fastrnn.recurrence.triton_kernels.tile import first_time, product, tile_rows


@triton.jit
def _columns(matrix, mask, COLUMNS: tl.constexpr):
    """Load the columns of a matrix in row-major order, one vector each, in float32."""
    columns = ()
    for i in tl.static_range(COLUMNS):
        columns = columns + (tl.load(matrix + i, mask=mask, other=0.0).to(tl.float32),)  # noqa: RUF005
    return columns


@triton.jit
def _weighted(bias, columns, values, COLUMNS: tl.constexpr):
    """Bias plus weighted input, by multiply and add."""
    total = bias + columns[0] * values[0]
    for i in tl.static_range(1, COLUMNS):
        total += columns[i] * values[i]
    return total


@triton.jit(do_not_specialize=["seq_len", "batch_size", "given"])
def lstm_forward(
    gates,  # [T, B, D, 4, H]: the input's share of the gates in, the gates out if SAVE
    x,  # [T, B, I], w_ih [D, 4, H, I], bias [D, 4, H] or None: read if FUSED_INPUT
    w_ih,
    bias,
    w_hh,  # [D, 4, H, H]
    h_0,  # [D, B, H], read if bit 0 of `given` is set
    c_0,  # [D, B, H], bit 1
    y,  # [T, B, D, H], written if bit 2 is set
    h_n,  # [D, B, H]
    c_n,
    cells,  # [T, B, D, H] float32: written if SAVE
    order,  # [B] int64: rows by falling length, or None if all have length T
    lengths,  # [B] int32, in that order
    seq_len,
    batch_size,
    given,
    INPUT_SIZE: tl.constexpr,
    HIDDEN_SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,  # of HIDDEN_SIZE, to a power of two
    DIRECTIONS: tl.constexpr,
    TILE: tl.constexpr,
    FUSED_INPUT: tl.constexpr,
    SAVE: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    H: tl.constexpr = HIDDEN_SIZE
    HP: tl.constexpr = PADDED_SIZE
    direction = tl.program_id(1)
    row, length, in_batch = tile_rows(order, lengths, seq_len, batch_size, TILE)
    unit = tl.arange(0, HP)[:, None]
    row, length, in_batch = row[None, :], length[None, :], in_batch[None, :]
    is_unit = unit < H
    mask = is_unit & in_batch
    dtype = h_n.dtype.element_ty

    # One operand with the gates below each other: one product, one exchange between the warps.
    gate_unit = tl.arange(0, 4 * HP)
    gate, gate_row = (gate_unit // HP)[:, None], (gate_unit % HP)[:, None]
    k = tl.arange(0, HP)[None, :]
    w = tl.load(
        w_hh + ((direction * 4 + gate) * H + gate_row) * H + k,
        mask=(gate_row < H) & (k < H),
        other=0.0,
    )

    state = (direction * batch_size.to(tl.int64) + row) * H + unit
    # What is given is no constant: each case would be compiled anew, some of them with spills.
    h = tl.load(h_0 + state, mask=mask & (given & 1 != 0), other=0.0)
    c = tl.load(c_0 + state, mask=mask & (given & 2 != 0), other=0.0).to(tl.float32)

    if FUSED_INPUT:
        w_i = _columns(w_ih + (direction * 4 * H + unit) * INPUT_SIZE, is_unit, INPUT_SIZE)
        w_f = _columns(w_ih + (direction * 4 * H + H + unit) * INPUT_SIZE, is_unit, INPUT_SIZE)
        w_g = _columns(w_ih + (direction * 4 * H + 2 * H + unit) * INPUT_SIZE, is_unit, INPUT_SIZE)
        w_o = _columns(w_ih + (direction * 4 * H + 3 * H + unit) * INPUT_SIZE, is_unit, INPUT_SIZE)
        b_i = tl.zeros([HP, 1], tl.float32)
        b_f, b_g, b_o = b_i, b_i, b_i
        if bias is not None:
            b = bias + direction * 4 * H + unit
            b_i = tl.load(b, mask=is_unit, other=0.0).to(tl.float32)
            b_f = tl.load(b + H, mask=is_unit, other=0.0).to(tl.float32)
            b_g = tl.load(b + 2 * H, mask=is_unit, other=0.0).to(tl.float32)
            b_o = tl.load(b + 3 * H, mask=is_unit, other=0.0).to(tl.float32)

    column = direction * H + unit
    gate_column = direction * 4 * H + unit
    time, forward = first_time(length, direction)
    # The input's share for the step to come is fetched a step ahead, to hide the memory's latency.
    step_row = time * batch_size + row
    ahead = mask & (length > 0)
    if FUSED_INPUT:
        values = _columns(x + step_row * INPUT_SIZE, in_batch & (length > 0), INPUT_SIZE)
        xi = _weighted(b_i, w_i, values, INPUT_SIZE)
        xf = _weighted(b_f, w_f, values, INPUT_SIZE)
        xg = _weighted(b_g, w_g, values, INPUT_SIZE)
        xo = _weighted(b_o, w_o, values, INPUT_SIZE)
    else:
        share = gates + step_row * (DIRECTIONS * 4 * H) + gate_column
        xi = tl.load(share, mask=ahead, other=0.0)
        xf = tl.load(share + H, mask=ahead, other=0.0)
        xg = tl.load(share + 2 * H, mask=ahead, other=0.0)
        xo = tl.load(share + 3 * H, mask=ahead, other=0.0)

    for step in range(tl.max(length)):
        active = step < length
        next_time = time + forward
        next_row = next_time * batch_size + row
        ahead = mask & (step + 1 < length)
        if FUSED_INPUT:
            values = _columns(x + next_row * INPUT_SIZE, in_batch & (step + 1 < length), INPUT_SIZE)
            next_i = _weighted(b_i, w_i, values, INPUT_SIZE)
            next_f = _weighted(b_f, w_f, values, INPUT_SIZE)
            next_g = _weighted(b_g, w_g, values, INPUT_SIZE)
            next_o = _weighted(b_o, w_o, values, INPUT_SIZE)
        else:
            share = gates + next_row * (DIRECTIONS * 4 * H) + gate_column
            next_i = tl.load(share, mask=ahead, other=0.0)
            next_f = tl.load(share + H, mask=ahead, other=0.0)
            next_g = tl.load(share + 2 * H, mask=ahead, other=0.0)
            next_o = tl.load(share + 3 * H, mask=ahead, other=0.0)

        z = product(w, h, PRECISION)
        z = tl.permute(tl.reshape(z, (2, 2, HP, TILE)), (2, 3, 1, 0))
        z_if, z_go = tl.split(z)
        z_i, z_f = tl.split(z_if)
        z_g, z_o = tl.split(z_go)
        i = sigmoid(z_i + xi, FAST)
        f = sigmoid(z_f + xf, FAST)
        g = tanh(z_g + xg, FAST)
        o = sigmoid(z_o + xo, FAST)
        next_c = f * c + i * g
        next_h = (o * tanh(next_c, FAST)).to(dtype)
        c = tl.where(active, next_c, c)
        h = tl.where(active, next_h, h)

        written = mask & active
        step_row = time * batch_size + row
        output = y + step_row * (DIRECTIONS * H) + column
        tl.store(output, next_h, mask=written & (given & 4 != 0))
        if SAVE:
            tl.store(cells + step_row * (DIRECTIONS * H) + column, next_c, mask=written)
            saved = gates + step_row * (DIRECTIONS * 4 * H) + gate_column
            tl.store(saved, i.to(dtype), mask=written)
            tl.store(saved + H, f.to(dtype), mask=written)
            tl.store(saved + 2 * H, g.to(dtype), mask=written)
            tl.store(saved + 3 * H, o.to(dtype), mask=written)
        time = next_time
        xi, xf, xg, xo = next_i, next_f, next_g, next_o

    tl.store(h_n + state, h, mask=mask)
    tl.store(c_n + state, c.to(dtype), mask=mask)
