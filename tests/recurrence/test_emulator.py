"""The emulated GPU: the order of its threads, its instructions, and what it makes of mistakes."""

import itertools
import mmap
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest

from .probing import FRAGMENTS, Array, integers, probe_module

SCHEDULES = ("ascending", "descending", "shuffled")


@pytest.fixture
def probe() -> Iterator[ModuleType]:
    module = probe_module()
    yield module
    module.set_schedule("ascending")


# The order in which threads run.


def test_each_thread_of_each_block_runs_once_on_memory_that_is_nan(probe: ModuleType) -> None:
    rows = probe.visits(3, 2, 2, threads=70, barriers=1)
    expected = itertools.product(range(3), range(2), range(2), range(70), range(2), [1])
    assert sorted(map(tuple, rows.tolist())) == list(expected)
    blocks = [(z, y, x) for x, y, z, *_ in rows.tolist()]
    assert blocks == sorted(blocks)


def test_schedules_are_different_orders_of_warps_and_lanes(probe: ModuleType) -> None:
    orders = {}
    for schedule in SCHEDULES:
        probe.set_schedule(schedule)
        threads = probe.visits(1, 1, 1, threads=128, barriers=1)[:, 3].reshape(2, 128)
        again = probe.visits(1, 1, 1, threads=128, barriers=1)[:, 3].reshape(2, 128)
        assert np.array_equal(threads, again)
        for order in threads:
            warps = order.reshape(4, 32) // 32
            assert (warps == warps[:, :1]).all()  # a warp comes to the barrier before another runs
        orders[schedule] = threads
    assert (orders["ascending"] == np.arange(128)).all()
    assert (orders["descending"] == np.arange(128)[::-1]).all()
    first, second = orders["shuffled"]
    assert not np.array_equal(first, second)
    for order in (first, second):
        lanes = order[:32] % 32
        assert set(np.diff(lanes)) - {1, -1}
        assert sorted(order) == list(range(128))


# Instructions of a warp.


def c_place(row: int, column: int) -> tuple[int, int]:
    return row % 8 * 4 + column // 2, 2 * (row >= 8) + column % 2


def in_registers(bits: Array, place: Callable[..., tuple[int, int, int]], count: int) -> Array:
    words = np.zeros((32, count), np.uint32)
    for at, element in np.ndenumerate(bits):
        lane, register, part = place(*at)
        words[lane, register] |= np.uint32(int(element) << 16 * part)
    return words


def multiplied(probe: ModuleType, name: str, a: Array, b: Array, c: Array) -> Array:
    """c + a b, whole matrices, by the instruction; each warp of a stack has its own."""
    kind, places = FRAGMENTS[name], [c_place(*at) for at in np.ndindex(16, 8)]
    lanes, registers = map(list, zip(*places, strict=True))
    spread = np.zeros((len(c), 32, 4), np.float32)
    spread[:, lanes, registers] = c.reshape(-1, 128)
    words_a = np.concatenate([in_registers(kind.bits(one), kind.a, 4) for one in a])
    words_b = np.concatenate([in_registers(kind.bits(one), kind.b, 2) for one in b])
    sums = probe.multiply(name, words_a, words_b, spread.reshape(-1, 4)).reshape(-1, 32, 4)
    return sums[:, lanes, registers].reshape(-1, 16, 8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", FRAGMENTS)
def test_matrices_are_multiplied(probe: ModuleType, name: str, schedule: str) -> None:
    probe.set_schedule(schedule)
    depth = FRAGMENTS[name].depth
    a, b, c = integers(0, 3, 16, depth), integers(1, 3, depth, 8), integers(2, 3, 16, 8) / 4
    assert np.array_equal(multiplied(probe, name, a, b, c), c + a @ b)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_nan_and_infinity_stay_in_their_row_and_column(probe: ModuleType, name: str) -> None:
    depth = FRAGMENTS[name].depth
    a, b = integers(0, 1, 16, depth, low=1), integers(1, 1, depth, 8, low=1)
    c = integers(2, 1, 16, 8)
    expected = c + a @ b
    a[0, 13, depth - 1], b[0, 2, 6] = np.inf, np.nan
    expected[0, 13], expected[0, :, 6] = np.inf, np.nan
    np.testing.assert_array_equal(multiplied(probe, name, a, b, c), expected)


def test_tf32_operands_lose_their_lower_bits(probe: ModuleType) -> None:
    ones, c = np.ones((1, 8, 8)), np.zeros((1, 16, 8))
    a = np.full((1, 16, 8), 1 + 2**-10 + 2**-11)
    assert (multiplied(probe, "tf32", a, ones, c) == 8 + 2**-7).all()
    b = np.full((1, 8, 8), -1 - 2**-10 - 2**-23)
    assert (multiplied(probe, "tf32", np.ones((1, 16, 8)), b, c) == -8 - 2**-7).all()


def test_matrices_are_loaded_from_rows_at_any_address(probe: ModuleType) -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, (80, 4), np.uint32)
    addresses = np.random.default_rng(1).permutation(80)[:64]
    loaded = probe.load_matrices(rows, addresses)
    for thread, matrix in itertools.product(range(64), range(4)):
        warp, lane = divmod(thread, 32)
        row = addresses[32 * warp + 8 * matrix + lane // 4]
        assert loaded[thread, matrix] == rows[row, lane % 4]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lanes_exchange_values(probe: ModuleType, schedule: str) -> None:
    probe.set_schedule(schedule)
    values = np.random.default_rng(0).standard_normal(96).astype(np.float32)
    for mask in range(32):
        expected = [values[thread // 32 * 32 + (thread % 32 ^ mask)] for thread in range(96)]
        assert probe.shuffle_xor(values, mask).tolist() == expected


# Mistakes.


def outcomes(probe: ModuleType, kernel: Callable[[str], Array], mistake: str) -> list[Array]:
    found = []
    for schedule in SCHEDULES:
        probe.set_schedule(schedule)
        found.append(kernel(mistake))
    return found


@pytest.mark.parametrize("mistake", ["", "no barrier", "one buffer"])
def test_states_passed_between_warps(probe: ModuleType, mistake: str) -> None:
    expected = np.arange(96, dtype=np.float32)
    for _ in range(5):
        expected = expected + np.roll(expected, -33)
    found = outcomes(probe, lambda name: probe.add_neighbors(96, 5, name), mistake)
    right = [np.array_equal(sums, expected) for sums in found]
    # Each warp reads from the next, in a circle: no order hides the mistake.
    assert right == [not mistake] * 3


@pytest.mark.parametrize(
    "mistake",
    ["", "no barrier", "no wait", "waits for too few", "copies over what others read"],
)
def test_rows_copied_ahead(probe: ModuleType, mistake: str) -> None:
    rows = integers(0, 7, 96)
    found = outcomes(probe, lambda name: probe.add_rows(rows, name), mistake)
    right = [np.array_equal(sums, np.roll(rows.sum(0), -33)) for sums in found]
    assert right == [not mistake] * 3


@pytest.mark.parametrize("pending", range(4))
def test_copies_are_made_when_they_are_waited_for(probe: ModuleType, pending: int) -> None:
    copied = [1.0, 2.0, 0.0][: 3 - pending]  # zero for what is not valid
    expected = copied + [np.nan] * (4 - len(copied))
    np.testing.assert_array_equal(probe.copied_after_wait(pending), expected)


IN_OTHER_PLACES = {
    "instructions": (
        ["shuffle_xor 1"] * 16 + ["load_matrices"] * 16,
        "deadlock: thread 0 waits in shuffle_xor with mask 1, but thread 16 waits in load_matrices",
    ),
    "masks": (
        ["barrier"] * 32 + ["shuffle_xor 1", "shuffle_xor 2"] * 16,
        "deadlock: thread 32 waits in shuffle_xor with mask 1, "
        "but thread 33 waits in shuffle_xor with mask 2",
    ),
    "a barrier and an instruction": (
        ["barrier"] * 31 + ["mma_half"],
        "deadlock: thread 0 waits in barrier, but thread 31 waits in mma_half",
    ),
    "a thread ends before a barrier": (
        ["barrier"] * 5 + ["end"] + ["barrier"] * 58,
        "deadlock: thread 0 waits in barrier, but thread 5 has ended",
    ),
    "a warp ends before a barrier": (
        ["barrier"] * 32 + ["end"] * 32,
        "deadlock: thread 0 waits in barrier, but thread 32 has ended",
    ),
    "a thread ends before an instruction": (
        ["mma_half"] * 30 + ["end"] * 2,
        "deadlock: thread 0 waits in mma_half, but thread 30 has ended",
    ),
    "an incomplete warp": (
        ["barrier"] * 32 + ["shuffle_xor 2"] * 8,
        "thread 32 waits in shuffle_xor with mask 2, but its warp is incomplete",
    ),
    "a mask of another warp": (
        ["shuffle_xor 32"] * 64,
        "shuffle_xor: the mask is beyond the warp",
    ),
}


def assert_works(probe: ModuleType) -> None:
    assert probe.alive() == 0  # the destructors of threads that could not go on have run
    for place in ("barrier", "load_matrices", "mma_half", "shuffle_xor 1", "end"):
        probe.meet([place] * 64)
        assert probe.went_on() == (0 if place == "end" else 64)
    assert probe.add_neighbors(64, 1, "")[0] == 33


@pytest.mark.parametrize(("places", "message"), IN_OTHER_PLACES.values(), ids=IN_OTHER_PLACES)
def test_threads_that_do_not_meet_are_an_error(
    probe: ModuleType, places: list[str], message: str
) -> None:
    with pytest.raises(RuntimeError, match=f"^{re.escape(f'block (1, 0, 0): {message}')}$"):
        probe.meet(places)
    assert probe.went_on() == 0
    assert_works(probe)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_a_kernel_throws_comes_out(probe: ModuleType, schedule: str) -> None:
    probe.set_schedule(schedule)
    with pytest.raises(IndexError, match="thrown by the kernel"):
        probe.meet(["barrier"] * 40 + ["throw"] + ["barrier"] * 23)
    assert probe.went_on() == 0
    assert_works(probe)


def test_kernels_are_launched_from_outside_with_sizes_that_exist(probe: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="in a kernel"):
        probe.meet(["launch"])
    with pytest.raises(RuntimeError, match="for kernels"):
        probe.barrier()
    for threads, shared_bytes in ((0, 0), (1025, 0), (32, -16), (32, 8)):
        with pytest.raises(ValueError, match=f"{threads} threads, {shared_bytes} bytes"):
            probe.run_nothing(threads, shared_bytes)
    probe.run_nothing(1024, 0)
    assert_works(probe)


@pytest.mark.parametrize(
    ("width", "to", "source", "message"),
    [
        (4, 6, 0, "destination of copy_async at byte 6 of shared memory is not aligned"),
        (16, 24, 0, "destination of copy_async at byte 24 of shared memory is not aligned"),
        (4, 256, 0, "destination of copy_async at byte 256 of shared memory is outside of it"),
        (16, 248, 0, "destination of copy_async at byte 248 of shared memory is outside of it"),
        (4, -4, 0, "destination of copy_async at byte -4 of shared memory is outside of it"),
        (4, 0, 2, "source of copy_async is not aligned"),
        (16, 0, 4, "source of copy_async is not aligned"),
        (0, 8, 0, "row of load_matrices at byte 8 of shared memory is not aligned"),
        (0, 256, 0, "row of load_matrices at byte 256 of shared memory is outside of it"),
    ],
)
def test_addresses_that_no_gpu_takes_are_an_error(
    probe: ModuleType, width: int, to: int, source: int, message: str
) -> None:
    with pytest.raises(RuntimeError, match=f"^block .0, 0, 0.: thread 0: {message}$"):
        probe.reach(width, to, source)
    assert_works(probe)


def test_addresses_up_to_the_end_are_taken(probe: ModuleType) -> None:
    for width, to, source in ((4, 252, 60), (16, 240, 48), (0, 240, 0)):
        probe.reach(width, to, source)


TOUCH = """
import importlib.util, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
spec = importlib.util.spec_from_file_location("emulator_probe", sys.argv[1])
probe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(probe)
probe.touch([int(launch) for launch in sys.argv[2].split()], int(sys.argv[3]), sys.argv[4] == "w")
"""


@pytest.mark.parametrize(
    ("launches", "at", "mode", "faults"),
    [
        ([64], 63, "w", False),
        ([64], 64, "r", True),
        ([64], 64, "w", True),
        ([2 * mmap.PAGESIZE, 64], 64, "r", True),
        ([2 * mmap.PAGESIZE, mmap.PAGESIZE], -1, "w", True),
    ],
)
def test_accesses_outside_of_shared_memory_fault(
    probe: ModuleType, launches: list[int], at: int, mode: str, faults: bool
) -> None:
    command = [sys.executable, "-c", TOUCH, probe.__file__, " ".join(map(str, launches)), str(at)]
    done = subprocess.run([*command, mode], capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGSEGV if faults else 0), done.stderr
