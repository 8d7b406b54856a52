"""The maps from threads and registers to gates, units and words that the CUDA kernels share."""

from collections import Counter
from types import ModuleType

import numpy as np
import pytest

from .probing import FRAGMENTS, Array, integers, probe_module


@pytest.fixture
def probe() -> ModuleType:
    return probe_module()


def test_threads_know_their_lane(probe: ModuleType) -> None:
    lanes = [
        (warp, 4 * group + member, group, member) for warp, group, member in np.ndindex(4, 8, 4)
    ]
    assert [probe.lane_of(thread) for thread in range(128)] == lanes


@pytest.mark.parametrize("name", FRAGMENTS)
def test_words_of_a_are_where_the_instructions_take_them(probe: ModuleType, name: str) -> None:
    kind = FRAGMENTS[name]
    elements = kind.depth // 8  # of a word
    for row, word in np.ndindex(16, 16):
        half, in_half = divmod(word, 8)
        lane, register, _ = kind.a(row, elements * in_half)
        assert probe.a_row(lane // 4, register) == row
        assert probe.a_word(lane % 4, half, register) == word


@pytest.mark.parametrize("hidden", [32, 64, 128])
@pytest.mark.parametrize("word_of", ["a_word", "a_word_exact"])
def test_each_word_of_each_gate_has_one_place(probe: ModuleType, word_of: str, hidden: int) -> None:
    found = Counter(
        (
            probe.gate_of(fragment, register),
            probe.unit_of(fragment, lane // 4),
            getattr(probe, word_of)(lane % 4, half, register),
        )
        for fragment, half, lane, register in np.ndindex(4 * hidden // 16, 2, 32, 4)
    )
    assert found == dict.fromkeys(np.ndindex(4, hidden, 16), 1)


def test_gates_of_a_unit_lie_side_by_side(probe: ModuleType) -> None:
    columns = [probe.gate_column(unit, gate) for unit, gate in np.ndindex(128, 4)]
    assert columns == list(range(512))


@pytest.mark.parametrize("name", [*FRAGMENTS, "exact"])
def test_sums_of_a_pair_end_up_with_the_owner_of_the_unit(probe: ModuleType, name: str) -> None:
    """Gates i and f in the first fragment, g and o in the second, of unit lane // 4 and sequences
    2 (lane % 4) and the next."""
    kind = FRAGMENTS[name if name in FRAGMENTS else "tf32"]
    elements = kind.depth // 8
    weights, rows = integers(0, 4, 8, 16 * elements), integers(1, 8, 16 * elements)

    def words(values: Array) -> Array:
        bits = kind.bits(values).astype(np.uint32)
        return bits if elements == 1 else bits[..., ::2] | bits[..., 1::2] << 16

    word_of = probe.a_word_exact if name == "exact" else probe.a_word
    packed = np.zeros((2, 2, 32, 4), np.uint32)
    for fragment, half, lane, register in np.ndindex(packed.shape):
        gate, unit = probe.gate_of(fragment, register), probe.unit_of(fragment, lane // 4)
        word = word_of(lane % 4, half, register)
        packed[fragment, half, lane, register] = words(weights)[gate, unit, word]
    sums = getattr(probe, f"multiply_chunk_{name}")(packed, words(rows))
    products = np.einsum("gue,se->gus", weights, rows)
    for lane, r in np.ndindex(32, 2):
        i, f, g, o = products[:, lane // 4, 2 * (lane % 4) + r]
        assert sums[lane, :, [r, 2 + r]].T.tolist() == [[i, f], [g, o]]
