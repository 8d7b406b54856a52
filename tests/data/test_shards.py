import pickle
import shutil
import tarfile

import numpy as np
import pytest

from fastrnn.data import (
    StripConcat,
    StripDecodeError,
    StripDigits,
    StripMNIST,
    StripSubset,
    collate,
    strip_batches,
)
from fastrnn.data.shard_writing import write_shards
from fastrnn.data.shards import StripShards


@pytest.fixture(scope="module")
def digits():
    return StripDigits("test", size=30)


@pytest.fixture(scope="module", params=["tar", "npz"])
def folder(request, digits, tmp_path_factory):
    """A folder of the digits in three shards."""
    path = tmp_path_factory.mktemp("data") / "shards"
    write_shards(digits, path, format=request.param, max_strips=12)
    return path


def test_views_and_batches_work_as_on_every_dataset(folder, digits):
    strips = StripShards(folder)
    both = StripConcat([StripSubset(strips, [29, 3]), strips])
    assert (both[0][0] == digits[29][0]).all()
    seen = []
    for batch in strip_batches(strips, max_padded_steps=3000, shuffle=True):
        expected = collate(digits, batch.indices.numpy())
        assert (batch.strips == expected.strips).all()
        assert (batch.targets == expected.targets).all()
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(30))


def test_dataset_can_be_pickled_for_workers(folder, digits):
    strips = pickle.loads(pickle.dumps(StripShards(folder)))
    assert (strips[17][0] == digits[17][0]).all()


def test_order_is_that_of_the_paths(folder):
    shards = sorted(folder.glob("strips-*"))
    strips = StripShards(reversed(shards))
    assert [path.name for path in strips.paths] == [path.name for path in reversed(shards)]
    assert strips.shard_numbers.tolist() == [0] * 6 + [1] * 12 + [2] * 12
    pattern = str(folder / f"strips-00000{{0..2}}{shards[0].suffix}")
    assert StripShards(pattern).keys == StripShards(folder).keys


def test_labels_come_from_the_file_beside_unless_they_are_given(folder, digits, tmp_path):
    assert StripShards(folder).labels == digits.labels
    turned = StripShards(folder, labels=digits.labels[::-1])
    assert turned.targets.tolist() == (9 - digits.targets).tolist()
    alone = shutil.copy(sorted(folder.glob("strips-*"))[2], tmp_path)
    found = {digits.labels[target] for target in digits.targets[24:]}
    assert StripShards(alone).labels == tuple(sorted(found)) != digits.labels


def test_label_that_is_not_among_the_labels_names_shard_and_sample(folder):
    with pytest.raises(
        StripDecodeError, match=r"strips-000000\..*: sample '.*1': label '1' is not"
    ):
        StripShards(folder, labels=["0", "2", "3", "4", "5", "6", "7", "8", "9"])


def test_strips_are_scaled_to_the_height_asked_for(folder, digits):
    strips = StripShards(folder, height=14)
    assert strips.lengths.tolist() == [(width + 1) // 2 for width in digits.lengths.tolist()]
    assert strips[3][0].shape == (1, 14, strips.lengths[3])


def test_skip_leaves_out_what_is_bad_and_lists_it(write_tar, png, tmp_path, noise):
    cut = png()
    good = [("2.png", png(60)), ("2.txt", b"a"), ("3.png", png(70)), ("3.txt", b"b")]
    bad = [("0.png", cut[: len(cut) // 2]), ("0.txt", b"b"), ("1.png", png())]
    write_tar("a.tar", [*bad, *good])
    (tmp_path / "b.tar").write_bytes(b"no tar")
    cut_off = write_tar("c.tar", good)
    with tarfile.open(cut_off) as tar:
        end = tar.getmembers()[3].offset
    cut_off.write_bytes(cut_off.read_bytes()[:end])
    np.savez(tmp_path / "d.npz", strips=noise(9, 1, 28), lengths=[9], targets=[0], labels=["c"])
    strips = StripShards(tmp_path, labels=["a", "b"], on_error="skip")
    assert strips.lengths.tolist() == [60, 70, 60]
    assert strips.targets.tolist() == [0, 1, 0]
    assert strips.keys == ("2", "3", "2")
    assert strips.positions.tolist() == [2, 3, 5]
    assert [(path.name, reason.split(" (")[0]) for path, reason in strips.skipped] == [
        ("a.tar", "sample '0': can't be decoded"),
        ("a.tar", "sample '1': has no label"),
        ("b.tar", "not a tar file"),
        ("c.tar", "is damaged or was cut off in or after sample '3'"),
        ("d.npz", "sample '0': label 'c' is not among 'a', 'b'"),
    ]


def test_nothing_good_is_an_error_even_when_skipping(write_tar):
    path = write_tar("a.tar", [("k.txt", b"a")])
    with pytest.raises(ValueError, match=r"no sample is good; .*a\.tar: sample 'k': has no image"):
        StripShards(path, on_error="skip")


def test_shard_that_was_replaced_is_noticed(write_tar, png):
    strips = StripShards(write_tar("a.tar", [("k.png", png(50)), ("k.txt", b"a")]))
    write_tar("a.tar", [("k.png", png(60)), ("k.txt", b"a")])
    with pytest.raises(ValueError, match=r"can't be decoded|has its file changed"):
        collate(strips, [0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, 'on_error is \'ignore\', but must be "raise" or "skip"'),
        ({"height": 0}, "height is 0, but must be at least 1"),
        ({"channels": 0}, "channels is 0, but must be at least 1"),
        ({"channels": 4}, r"channels is 4, but images in tar shards give 1 \(grey\) or 3 \(RGB\)"),
        ({"paths": []}, "paths is empty"),
    ],
)
def test_wrong_arguments_are_named(write_tar, png, arguments, message):
    path = write_tar("a.tar", [("k.png", png()), ("k.txt", b"a")])
    with pytest.raises(ValueError, match=message):
        StripShards(**({"paths": path} | arguments))


def test_real_digits_survive_both_formats(mnist_root, tmp_path):
    digits = StripMNIST(mnist_root, "test", size=100)
    for form in ("tar", "npz"):
        strips = StripShards(write_shards(digits, tmp_path / form, format=form))
        assert all((strips[k][0] == digits[k][0]).all() for k in range(0, 100, 7))


def test_paths_are_paths():
    with pytest.raises(TypeError, match="paths is None, but must be a path or a sequence"):
        StripShards(None)
