import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import StripDecodeError
from fastrnn.data.npz_shards import NpzShard
from fastrnn.data.shards import StripShards


@pytest.fixture
def arrays(noise):
    """Arrays of three strips, 2 channels, 6 rows."""
    return {
        "strips": noise(12, 2, 6),
        "lengths": np.array([3, 4, 5]),
        "targets": np.array([1, -1, 0]),
        "labels": np.array(["b", "a"]),
    }


@pytest.fixture
def write(tmp_path, arrays):
    """Writes the arrays, some replaced or left out (None), as a shard; returns its path."""

    def save(writer=np.savez, **changes):
        content = {k: v for k, v in (arrays | changes).items() if v is not None}
        writer(tmp_path / "a.npz", **content)
        return tmp_path / "a.npz"

    return save


def open_shard(path, **options):
    return StripShards(path, **({"height": 6, "channels": 2} | options))


def test_arrays_of_numpy_are_strips(write, arrays):
    strips = open_shard(write())
    assert strips.labels == ("a", "b")
    assert strips.targets.tolist() == [0, -1, 1]
    assert strips.lengths.tolist() == [3, 4, 5]
    assert strips.keys == ("0", "1", "2")
    for index, columns in enumerate(np.split(arrays["strips"], [3, 7])):
        assert (strips[index][0].numpy() == columns.transpose(1, 2, 0)).all()


def test_without_names_targets_are_class_numbers(write):
    assert open_shard(write(labels=None)).labels == ("0", "1")
    assert open_shard(write(labels=None), labels=["x", "y"]).targets.tolist() == [1, -1, 0]


def test_other_arrays_and_integer_types_do_no_harm(write):
    lengths, targets = np.array([3, 4, 5], ">u2"), np.array([1, -1, 0], np.int8)
    strips = open_shard(write(lengths=lengths, targets=targets, more=np.zeros(4)))
    assert strips.lengths.tolist() == [3, 4, 5]


def test_strips_are_scaled_to_the_height_asked_for(write):
    strips = open_shard(write(), height=12)
    assert strips.lengths.tolist() == [6, 8, 10]
    assert [strips[index][0].shape for index in range(3)] == [(2, 12, w) for w in (6, 8, 10)]


def test_opening_does_not_read_the_pixels(write, noise):
    path = write(strips=noise(200_000, 2, 6), lengths=np.array([100_000, 60_000, 40_000]))
    strips = open_shard(path)
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 1
    path.write_bytes(content)
    assert open_shard(path).lengths.tolist() == strips.lengths.tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strips": None}, r"has no array 'strips'; it holds 'lengths\.npy', 'targets\.npy'"),
        ({"targets": None}, "has no array 'targets'"),
        ({"lengths": None}, "has no array 'lengths'"),
        ({"strips": np.zeros((12, 2, 6))}, r"array 'strips' is float64 \[12, 2, 6\], but must be"),
        ({"strips": np.zeros((12, 6), np.uint8)}, r"'strips' is uint8 \[12, 6\], but must be"),
        ({"strips": np.zeros((12, 2, 0), np.uint8)}, r"'strips' is uint8 \[12, 2, 0\], but must"),
        ({"strips": np.zeros((12, 3, 6), np.uint8)}, "strips have 3 channels, but 2 were asked"),
        ({"strips": np.asfortranarray(np.ones((12, 2, 6), np.uint8))}, "in Fortran's order"),
        ({"lengths": np.array([3, 4, 6])}, "strips has 12 columns, lengths 3 .* the sum 13"),
        ({"lengths": np.array([3, 4])}, "arrays don't fit together"),
        ({"lengths": np.array([3, 9, 0])}, r"lengths\[2\] is 0, but must be at least 1"),
        ({"lengths": np.array([3.0, 4, 5])}, "lengths has dtype float64, but must be integers"),
        ({"lengths": np.array([[3, 4, 5]])}, r"lengths has shape \(1, 3\)"),
        ({"targets": np.array([0, 1])}, "arrays don't fit together"),
        ({"targets": np.array(["a", "b", "a"])}, "targets has dtype <U1, but must be integers"),
        ({"labels": np.array([1, 2])}, "array 'labels' has dtype int64, but must be a list of str"),
        ({"labels": np.array(["a", "a"])}, r"labels\[1\] is 'a', which is in labels already"),
    ],
)
def test_wrong_arrays_are_named(write, changes, reason):
    with pytest.raises(StripDecodeError, match=rf"a\.npz: .*{reason}"):
        open_shard(write(**changes))


@pytest.mark.parametrize("name", ["strips", "lengths", "targets", "labels"])
def test_objects_are_never_unpickled(write, tmp_path, name):
    path = write(**{name: np.array([Trap(tmp_path / "sprung")] * 3, dtype=object)})
    with pytest.raises(StripDecodeError, match=f"array '{name}' holds Python objects, which are n"):
        open_shard(path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def test_compressed_file_says_how_to_write_it(write):
    with pytest.raises(StripDecodeError, match=r"is compressed; write it with numpy\.savez"):
        open_shard(write(np.savez_compressed))


@pytest.mark.parametrize(
    ("target", "reason"), [(2, r"class number 2 is not in -1 \.\. 1"), (-2, "class number -2 is")]
)
def test_target_that_is_no_class_names_the_sample(write, target, reason):
    path = write(targets=np.array([0, target, 1]))
    with pytest.raises(StripDecodeError, match=rf"a\.npz: sample '1': {reason}"):
        open_shard(path)
    strips = open_shard(path, on_error="skip")
    assert strips.keys == ("0", "2")
    assert [path.name for path, _ in strips.skipped] == ["a.npz"]


@pytest.mark.parametrize("keep", [0, 1, 50, 700])
def test_file_cut_off_is_noticed_at_once(write, keep):
    path = write()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StripDecodeError, match=r"a\.npz: not an NPZ file, or cut off"):
        open_shard(path)


def test_wrong_pixel_is_noticed_where_everything_is_checked(write, noise):
    path = write(strips=noise(9000, 2, 6), lengths=np.array([3000] * 3))
    content = bytearray(path.read_bytes())
    content[60_000] ^= 1
    path.write_bytes(content)
    assert len(open_shard(path)) == 3
    with pytest.raises(ValueError, match=r"no sample is good; .*sample '0': the shard is damaged"):
        open_shard(path, on_error="skip")


def test_file_that_became_shorter_is_an_error(write):
    path = write()
    strips = open_shard(path)
    path.write_bytes(path.read_bytes()[:160])
    with pytest.raises(StripDecodeError, match="sample '2': the file ends within it"):
        strips[2]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_whatever_the_damage_the_outcome_is_samples_or_errors(small, changes):
    content = bytearray(small.read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    path = small.with_name("b.npz")
    path.write_bytes(content)
    shard = NpzShard(path, 6, 2)
    for entry in shard.index(widths=True):
        if not isinstance(entry, StripDecodeError):
            with contextlib.suppress(StripDecodeError):
                assert shard.read(entry.key, entry.offset, entry.size, verify=False).shape[1] == 6


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small shard, and room for damaged copies beside it."""
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    np.savez(path, strips=np.ones((3, 2, 6), np.uint8), lengths=[1, 2], targets=[0, 1])
    return path
