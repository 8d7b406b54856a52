"""Backward: from the output's gradients to those of the gates, last step first."""

import triton
import triton.language as tl

from fastrnn.recurrence.triton_kernels.activations import tanh
from fastrnn.recurrence.triton_kernels.tile import first_time, product, tile_rows


@triton.jit
def _saved(
    gates,
    cells,
    grad_y,
    c_first,
    place,
    previous,
    column,
    gate_column,
    mask,
    step,
    given,
    H: tl.constexpr,
    DIRECTIONS: tl.constexpr,
):
    """Everything that one step needs from memory; `place` and `previous` are rows of [T * B]."""
    gate = gates + place * (DIRECTIONS * 4 * H) + gate_column
    i = tl.load(gate, mask=mask, other=0.0)
    f = tl.load(gate + H, mask=mask, other=0.0)
    g = tl.load(gate + 2 * H, mask=mask, other=0.0)
    o = tl.load(gate + 3 * H, mask=mask, other=0.0)
    c = tl.load(cells + place * (DIRECTIONS * H) + column, mask=mask, other=0.0)
    earlier = tl.load(
        cells + previous * (DIRECTIONS * H) + column, mask=mask & (step > 0), other=0.0
    )
    earlier = tl.where(step == 0, c_first, earlier)
    dy = tl.load(
        grad_y + place * (DIRECTIONS * H) + column, mask=mask & (given & 8 != 0), other=0.0
    )
    return i, f, g, o, c, earlier, dy


@triton.jit(do_not_specialize=["seq_len", "batch_size", "given"])
def lstm_backward(
    gates,  # [T, B, D, 4, H], activated, as forward left them
    cells,  # [T, B, D, H] float32
    w_hh_t,  # [D, 4, H (into), H (out of)]: each gate's matrix transposed
    c_0,  # [D, B, H], read if bit 0 of `given` is set
    grad_y,  # [T, B, D, H], bit 3
    grad_h_n,  # [D, B, H], bit 1
    grad_c_n,  # [D, B, H], bit 2
    grad_gates,  # [T, B, D, 4, H]: written where a step is valid
    grad_h_0,  # [D, B, H]
    grad_c_0,
    order,  # as in forward
    lengths,
    seq_len,
    batch_size,
    given,
    HIDDEN_SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    TILE: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    H: tl.constexpr = HIDDEN_SIZE
    HP: tl.constexpr = PADDED_SIZE
    direction = tl.program_id(1)
    row, length, in_batch = tile_rows(order, lengths, seq_len, batch_size, TILE)
    unit = tl.arange(0, HP)[:, None]
    row, length, in_batch = row[None, :], length[None, :], in_batch[None, :]
    mask = (unit < H) & in_batch
    dtype = grad_gates.dtype.element_ty

    # Transposed beforehand: the dimension that is summed over must be the contiguous one.
    k = tl.arange(0, HP)[None, :]
    weights = w_hh_t + direction * 4 * H * H + unit * H + k
    in_weights = (unit < H) & (k < H)
    w_i = tl.load(weights, mask=in_weights, other=0.0)
    w_f = tl.load(weights + H * H, mask=in_weights, other=0.0)
    w_g = tl.load(weights + 2 * H * H, mask=in_weights, other=0.0)
    w_o = tl.load(weights + 3 * H * H, mask=in_weights, other=0.0)

    state = (direction * batch_size.to(tl.int64) + row) * H + unit
    c_first = tl.load(c_0 + state, mask=mask & (given & 1 != 0), other=0.0).to(tl.float32)
    dh = tl.load(grad_h_n + state, mask=mask & (given & 2 != 0), other=0.0).to(tl.float32)
    dc = tl.load(grad_c_n + state, mask=mask & (given & 4 != 0), other=0.0).to(tl.float32)

    column = direction * H + unit
    gate_column = direction * 4 * H + unit
    steps = tl.max(length)
    first, forward = first_time(length, direction)
    # A sequence that ends before the tile's longest one waits: `step` counts from the tile's end.
    time = first + forward * (steps - 1)
    i, f, g, o, c, earlier, dy = _saved(
        gates, cells, grad_y, c_first, time * batch_size + row,
        (time - forward) * batch_size + row, column, gate_column,
        mask & (steps - 1 < length) & (length > 0), steps - 1, given, H, DIRECTIONS,
    )  # fmt: skip
    for done in range(steps):
        step = steps - 1 - done
        active = step < length
        next_time = time - forward
        # The next step's values are fetched before this step's product, to hide the latency.
        next_i, next_f, next_g, next_o, next_c, next_earlier, next_dy = _saved(
            gates, cells, grad_y, c_first, next_time * batch_size + row,
            (next_time - forward) * batch_size + row, column, gate_column,
            mask & (step - 1 < length) & (step > 0), step - 1, given, H, DIRECTIONS,
        )  # fmt: skip
        i, f, g, o = i.to(tl.float32), f.to(tl.float32), g.to(tl.float32), o.to(tl.float32)
        tanh_c = tanh(c, FAST)
        dh_step = dh + dy
        dc_step = dc + dh_step * o * (1.0 - tanh_c * tanh_c)
        dz_i = (dc_step * g * i * (1.0 - i)).to(dtype)
        dz_f = (dc_step * earlier * f * (1.0 - f)).to(dtype)
        dz_g = (dc_step * i * (1.0 - g * g)).to(dtype)
        dz_o = (dh_step * tanh_c * o * (1.0 - o)).to(dtype)

        written = mask & active
        grad = grad_gates + (time * batch_size + row) * (DIRECTIONS * 4 * H) + gate_column
        tl.store(grad, dz_i, mask=written)
        tl.store(grad + H, dz_f, mask=written)
        tl.store(grad + 2 * H, dz_g, mask=written)
        tl.store(grad + 3 * H, dz_o, mask=written)

        # Four independent products: joining the gates first would cost more than it saves.
        next_dh = (product(w_i, dz_i, PRECISION) + product(w_f, dz_f, PRECISION)) + (
            product(w_g, dz_g, PRECISION) + product(w_o, dz_o, PRECISION)
        )
        # A sum over one element makes the compiler convert the layout once instead of four times.
        next_dh = tl.sum(tl.expand_dims(next_dh, 0), 0)
        dh = tl.where(active, next_dh, dh)
        dc = tl.where(active, dc_step * f, dc)
        time = next_time
        i, f, g, o, c, earlier, dy = (
            next_i, next_f, next_g, next_o, next_c, next_earlier, next_dy,
        )  # fmt: skip

    tl.store(grad_h_0 + state, dh.to(dtype), mask=mask)
    tl.store(grad_c_0 + state, dc.to(dtype), mask=mask)
