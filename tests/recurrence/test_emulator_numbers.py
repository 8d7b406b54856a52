"""Conversions, approximations and activations on the emulated GPU."""

from types import ModuleType

import numpy as np
import pytest
import torch

from .probing import Array, float32_bits, probe_module

EVERY_BIT = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


@pytest.fixture
def probe() -> ModuleType:
    return probe_module()


def drawn_floats() -> Array:
    """Any float32, subnormal numbers, infinities and NaN too."""
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32)
    special = [0, 1, 0x7FFFFF, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF]
    return np.concatenate([bits, special, np.array(special) | 0x80000000]).astype(np.uint32)


@pytest.mark.parametrize("name", ["half", "bfloat16"])
def test_conversions_are_torchs(probe: ModuleType, name: str) -> None:
    dtype = getattr(torch, {"half": "float16"}.get(name, name))
    every = torch.from_numpy(EVERY_BIT.view(np.int16)).view(dtype).float().numpy()
    widened = getattr(probe, f"float_from_{name}")(EVERY_BIT)
    np.testing.assert_array_equal(widened, every)
    assert np.array_equal(np.signbit(widened), np.signbit(every))

    # What is half-way between two of them, or to the one that there is not, and its neighbors.
    numbers = np.sort(every[np.isfinite(every)].astype(np.float64))
    overflow = {"half": 65520.0, "bfloat16": float.fromhex("0x1.FFp127")}[name]
    ties = np.concatenate([(numbers[1:] + numbers[:-1]) / 2, [overflow, -overflow]])
    ties = ties.astype(np.float32)
    near = [np.nextafter(ties, np.float32(to)) for to in (-np.inf, np.inf)]
    floats = np.concatenate([drawn_floats().view(np.float32), ties, *near])
    expected = torch.from_numpy(floats).to(dtype).view(torch.int16).numpy().view(np.uint16)
    expected = np.where(np.isnan(floats), np.uint16(0x7FFF), expected)
    assert np.array_equal(getattr(probe, f"{name}_from_float")(floats), expected)


def test_rounding_to_tf32_takes_ties_away_from_zero(probe: ModuleType) -> None:
    tf32 = np.random.default_rng(1).integers(0, 2**32, 20_000, np.uint32) & ~np.uint32(0x1FFF)
    floats = np.concatenate([drawn_floats(), *(tf32 | low for low in (0xFFF, 0x1000, 0x1001))])
    floats = floats.view(np.float32)
    finite = floats[np.isfinite(floats)].astype(np.float64)
    _, exponents = np.frexp(finite)
    quantum = np.exp2(np.maximum(exponents - 11, -149 + 13))
    rounded = np.copysign(np.floor(np.abs(finite) / quantum + 0.5) * quantum, finite)
    rounded[np.abs(rounded) >= 2.0**128] *= np.inf
    found = probe.tf32_from_float(floats)
    assert np.array_equal(found[np.isfinite(floats)], float32_bits(rounded))
    assert np.array_equal(found[np.isinf(floats)], float32_bits(floats[np.isinf(floats)]))
    assert np.isnan(found.view(np.float32)[np.isnan(floats)]).all()
    assert not (found & 0x1FFF).any()


APPROXIMATIONS = {
    "tanh": (np.tanh, 2.0**-11, (-9.0, 9.0)),
    "exp2": (np.exp2, 2.0**-22, (-125.99, 127.99)),
    "reciprocal": (lambda x: 1 / x, 2.0**-22, (-1000.0, 1000.0)),
}


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_are_as_inexact_as_they_may_be(probe: ModuleType, name: str) -> None:
    function, bound, (low, high) = APPROXIMATIONS[name]
    x = np.linspace(low, high, 100_000).astype(np.float32)
    small = np.logspace(-37, 0, 10_000).astype(np.float32)
    x = np.concatenate([x, small, -small])
    exact = function(x.astype(np.float64))
    found = getattr(probe, f"{name}_approximate")
    errors = found(x) / exact - 1
    assert np.abs(errors).max() <= bound
    # Not past the bound, but up to it on both sides, except where tanh may not pass 1.
    assert errors.min() < -0.95 * bound
    assert errors.max() > 0.95 * bound
    assert np.mean(np.abs(errors) > bound / 4) > 0.5
    assert np.array_equal(found(x), found(x))


def test_approximations_at_their_ends(probe: ModuleType) -> None:
    def floats(*values: float) -> Array:
        return np.array(values, np.float32)

    inf, nan = np.inf, np.nan
    for function, x, expected in (
        ("tanh", (0.0, -0.0, 9.1, -50.0, inf, -inf, nan), (0.0, -0.0, 1, -1, 1, -1, nan)),
        ("exp2", (0.0, -0.0, 1e-40, -1e-40), (1, 1, 1, 1)),
        ("exp2", (-127.0, 129.0, -inf, inf, nan), (0.0, inf, 0.0, inf, nan)),
        ("reciprocal", (1e-40, -1e-40, 1.8e38, -inf, inf, nan), (inf, -inf, 0.0, -0.0, 0.0, nan)),
    ):
        found = getattr(probe, f"{function}_approximate")(floats(*x))
        np.testing.assert_array_equal(found, floats(*expected))
        assert np.array_equal(np.signbit(found), np.signbit(floats(*expected)))
    assert np.abs(probe.tanh_approximate(np.linspace(-20, 20, 99_999, dtype=np.float32))).max() == 1


def activations_in(x: Array) -> tuple[Array, Array]:
    """Of float32 numbers, sigmoid and tanh in float64."""
    wide = torch.from_numpy(x.astype(np.float64))
    return wide.sigmoid().numpy(), wide.tanh().numpy()


def dense_range() -> Array:
    tiny = np.logspace(-37, 1, 20_000)
    return np.concatenate([np.linspace(-100, 100, 200_001), tiny, -tiny]).astype(np.float32)


def test_fast_activations_are_as_good_as_half_needs(probe: ModuleType) -> None:
    x = dense_range()
    sigmoid, tanh = activations_in(x)
    assert (np.abs(probe.fast.tanh(x) - tanh) <= 2.0**-11 * np.abs(tanh)).all()
    assert (np.abs(probe.fast.sigmoid(x) - sigmoid) <= 2.0**-12 + 2.0**-24).all()


def test_accurate_activations_are_as_good_as_float32_needs(probe: ModuleType) -> None:
    x = dense_range()
    sigmoid, tanh = activations_in(x)
    for found, exact in ((probe.accurate.sigmoid(x), sigmoid), (probe.accurate.tanh(x), tanh)):
        ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
        assert (np.abs(found - exact) <= np.maximum(4 * ulp, 1e-6)).all()
    near = np.abs(x) < 1
    assert (np.abs(probe.accurate.tanh(x) - tanh) <= 1e-6 * np.abs(tanh))[near].all()


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_activations_at_their_ends(probe: ModuleType, name: str) -> None:
    math = getattr(probe, name)
    x = np.array([40, 1e30, np.inf, -40, -1e30, -np.inf, 0, np.nan], np.float32)
    sigmoid, tanh = math.sigmoid(x), math.tanh(x)
    assert (sigmoid[:3] == 1).all()
    assert ((sigmoid[3:6] >= 0) & (sigmoid[3:6] <= 1e-17)).all()
    assert sigmoid[6] == 0.5
    assert tanh[:7].tolist() == [1, 1, 1, -1, -1, -1, 0]
    assert np.isnan([sigmoid[7], tanh[7]]).all()


@pytest.mark.parametrize("name", ["fast", "accurate"])
def test_activations_are_the_same_in_pairs(probe: ModuleType, name: str) -> None:
    math = getattr(probe, name)
    first, second = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    sigmoid, tanh = math.sigmoid_and_tanh(first, second)
    assert np.array_equal(sigmoid, math.sigmoid(first))
    assert np.array_equal(tanh, math.tanh(second))
    both = math.sigmoid_pair(first, second)
    assert np.array_equal(both, [math.sigmoid(first), math.sigmoid(second)])
