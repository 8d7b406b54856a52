"""Gate functions: accurate to about 1e-6, or the hardware's tanh (2**-11) for 16-bit types."""

import triton
import triton.language as tl


@triton.jit
def tanh(x, FAST: tl.constexpr):
    if FAST:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    # Saturates to 1 and -1 where exp overflows or vanishes.
    return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    if FAST:
        return 0.5 * tanh(0.5 * x, FAST) + 0.5
    return 1.0 / (1.0 + tl.exp(-x))
