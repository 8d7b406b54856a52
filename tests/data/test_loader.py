import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastrnn.data import (
    StripBatches,
    StripCache,
    StripDecodeError,
    StripDigits,
    StripFiles,
    StripSubset,
    strip_batches,
)
from fastrnn.data.augment import PRESETS, StripAugmented
from fastrnn.data.dataset import StripDataset
from fastrnn.data.loader import prefetched


class Reads(StripDataset):
    """Strips of which reading calls a function first."""

    def __init__(self, count, before_reading):
        super().__init__(
            labels=["a"], targets=[0] * count, lengths=[4] * count, height=2, channels=1
        )
        self.before_reading = before_reading

    def read_strip(self, index):
        self.before_reading(index)
        return torch.full((1, 2, 4), index, dtype=torch.uint8)


def in_pairs(dataset):
    return strip_batches(dataset, max_padded_steps=2 * int(dataset.lengths.max()), shuffle=False)


def no_children():
    return multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers):
    digits = StripDigits("test", size=120)
    data = StripAugmented(digits, PRESETS["strong"], seed=1, epoch=2)
    batches = strip_batches(data, max_padded_steps=4096, shuffle=True, seed=5)
    count = 0
    for made, expected in zip(prefetched(batches, workers), batches, strict=True):
        assert torch.equal(made.strips, expected.strips)
        assert torch.equal(made.lengths, expected.lengths)
        assert torch.equal(made.targets, expected.targets)
        assert torch.equal(made.indices, expected.indices)
        count += len(made)
    assert count == 120
    assert no_children()


def test_order_holds_when_workers_take_different_times():
    slow = Reads(12, lambda index: time.sleep(0.05 if index % 4 == 0 else 0))
    made = [batch.indices.tolist() for batch in prefetched(in_pairs(slow), 2, prefetch=3)]
    assert made == [[k, k + 1] for k in range(0, 12, 2)]


def test_torchs_random_numbers_are_left_alone(make_strips):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(prefetched(in_pairs(make_strips([4] * 6)), 1))
    assert torch.equal(torch.rand(1), expected)


def test_no_batches_need_no_workers(make_strips):
    nothing = StripBatches(StripSubset(make_strips([4]), []), [])
    assert list(prefetched(nothing, 2)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_file_that_cannot_be_decoded_is_named(save, damage, workers):
    paths = [save(f"{number}.png", 50) for number in range(6)]
    strips = StripFiles(paths)
    damage("3.png", "truncated")
    made = prefetched(in_pairs(strips), workers)
    assert next(made).indices.tolist() == [0, 1]
    with pytest.raises(StripDecodeError, match=r"3\.png: ") as caught:
        next(made)
    assert caught.value.path == paths[3]
    assert no_children()  # though the exception, with its traceback, is still here
    if workers:
        assert "in read_image" in "".join(caught.value.__notes__)


class NeedsTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_error_that_cannot_be_sent_is_a_runtime_error_with_its_text():
    def fail(index):
        raise NeedsTwoError("this", "that")

    with pytest.raises(RuntimeError, match="NeedsTwoError: this and that"):
        list(prefetched(in_pairs(Reads(4, fail)), 1))
    assert no_children()


def test_iteration_that_is_given_up_leaves_no_processes(make_strips):
    made = prefetched(in_pairs(make_strips([4] * 40)), 2)
    next(made)
    assert len(multiprocessing.active_children()) == 2
    made.close()
    assert no_children()


def test_workers_fill_one_cache_for_all():
    here = os.getpid()

    def only_in_workers(index):
        if os.getpid() == here:
            raise AssertionError(f"strip {index} was read again")

    cached = StripCache(Reads(10, only_in_workers))
    first = [batch.strips for batch in prefetched(in_pairs(cached), 2)]
    again = [batch.strips for batch in in_pairs(cached)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert np.concatenate([strips[:, 0, 0, 0] for strips in again]).tolist() == list(range(10))


SCRIPT = """
import multiprocessing, signal, time
import numpy as np
from fastrnn.data import StripArrays, strip_batches
from fastrnn.data.loader import prefetched

signal.signal(signal.SIGINT, signal.default_int_handler)
strips = StripArrays([np.zeros((2, 9), np.uint8)] * 60, [0] * 60)
batches = strip_batches(strips, max_padded_steps=20, shuffle=False)
for batch in prefetched(batches, 2):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_ctrl_c_leaves_no_processes():
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1  # the workers say nothing
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_workers": -1}, ValueError, "num_workers is -1, but must be at least 0"),
        ({"num_workers": 1.5}, TypeError, r"num_workers is 1\.5, but must be an integer"),
        ({"prefetch": 0}, ValueError, "prefetch is 0, but must be at least 1"),
    ],
)
def test_wrong_arguments_are_named_at_once(make_strips, arguments, error, message):
    with pytest.raises(error, match=message):
        prefetched(in_pairs(make_strips([4])), **arguments)
