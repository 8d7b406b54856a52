"""Gate functions: relative error about 1e-6, or that of the hardware's tanh (2**-11) in 16 bits."""

import triton
import triton.language as tl


@triton.jit
def tanh(x, FAST: tl.constexpr):
    if FAST:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    # Saturates to 1 and -1 where exp overflows or vanishes, but is a difference of two near 0.
    far = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))
    # Coefficients of tanhf in the Cephes library (S. Moshier), for |x| < 0.625.
    z = x * x
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    return tl.where(z < 0.390625, x + x * z * p, far)


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    if FAST:
        return 0.5 * tanh(0.5 * x, FAST) + 0.5
    return 1.0 / (1.0 + tl.exp(-x))
