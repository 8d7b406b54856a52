import hashlib
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from fastrnn.data import StripArrays, StripDigits, StripFiles, StripSubset
from fastrnn.data.shard_writing import write_shards
from fastrnn.data.shards import StripShards


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_written_shards_give_the_strips_back(tmp_path, form):
    digits = StripDigits("test", size=45)
    shards = write_shards(digits, tmp_path / "deep" / "s", format=form, max_strips=20)
    assert [path.name for path in shards] == [f"strips-{k:06d}.{form}" for k in range(3)]
    strips = StripShards(shards)
    assert strips.labels == digits.labels
    assert strips.targets.tolist() == digits.targets.tolist()
    assert strips.lengths.tolist() == digits.lengths.tolist()
    assert strips.shard_numbers.tolist() == [0] * 20 + [1] * 20 + [2] * 5
    assert all((strips[index][0] == digits[index][0]).all() for index in range(45))


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_order_of_labels_unlabelled_strips_and_empty_classes_survive(tmp_path, form, noise):
    images = [noise(3, 28, width) for width in (9, 5, 7)]
    strips = StripArrays(images, ["zebra", "", "ä b"], ["zebra", "none", "ä b"])
    again = StripShards(write_shards(strips, tmp_path / "s", format=form), channels=3)
    assert again.labels == ("zebra", "none", "ä b")
    assert again.targets.tolist() == [0, -1, 2]
    assert all((again[k][0].numpy() == images[k]).all() for k in range(3))


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_same_strips_same_bytes(tmp_path, form):
    def digest(folder):
        shards = write_shards(StripDigits("test", size=9), tmp_path / folder, format=form)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards]

    assert digest("a") == digest("b")


def test_tar_shards_have_the_layout_of_webdataset(tmp_path):
    digits = StripDigits("test", size=3)
    (path,) = write_shards(digits, tmp_path / "s")
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:3]] == ["00000000.png", "00000000.json", "00000001.png"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
        label = json.load(tar.extractfile("00000002.json"))
        assert label == {"label": digits.labels[digits.targets[2]]}
        with Image.open(tar.extractfile("00000002.png")) as image:
            assert (np.asarray(image) == digits[2][0][0].numpy()).all()


def test_npz_shards_are_arrays_that_numpy_reads(tmp_path):
    digits = StripDigits("test", size=3)
    (path,) = write_shards(digits, tmp_path / "s", format="npz")
    with np.load(path) as arrays:
        assert arrays["lengths"].tolist() == digits.lengths.tolist()
        assert arrays["labels"].tolist() == list(digits.labels)
        first = arrays["strips"][: digits.lengths[0]]
    assert (first.transpose(1, 2, 0) == digits[0][0].numpy()).all()


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_no_shard_is_larger_than_allowed_nor_much_smaller(tmp_path, form):
    digits = StripDigits("test", size=60)
    shards = write_shards(digits, tmp_path / "s", format=form, max_bytes=60_000)
    sizes = [path.stat().st_size for path in shards]
    assert max(sizes) <= 60_000
    assert min(sizes[:-1]) > 60_000 - 28 * 420 - 10_240
    assert len(StripShards(shards)) == 60


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_strip_larger_than_a_shard_has_one_of_its_own(tmp_path, form):
    shards = write_shards(StripDigits("test", size=3), tmp_path / "s", format=form, max_bytes=1)
    assert len(shards) == 3
    assert len(StripShards(shards)) == 3


def test_failure_leaves_nothing_behind(tmp_path, damage):
    strips = StripFiles([damage("bad/cut.png", "truncated")])
    for form in ("tar", "npz"):
        with pytest.raises(ValueError, match=r"cut\.png"):
            write_shards(strips, tmp_path / "out", format=form)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_strip_that_changed_its_width_is_an_error(tmp_path, save):
    strips = StripFiles([save("a.png", 50)])
    save("a.png", 60)
    with pytest.raises(ValueError, match="strip 0 has 60 columns, but the dataset said 50"):
        write_shards(strips, tmp_path / "s", format="npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, 'format is \'zip\', but must be "tar" or "npz"'),
        ({"max_strips": 0}, "max_strips is 0, but must be at least 1"),
        ({"max_bytes": 0}, "max_bytes is 0, but must be at least 1"),
    ],
)
def test_wrong_options_are_named(tmp_path, make_strips, options, message):
    with pytest.raises(ValueError, match=message):
        write_shards(make_strips([5]), tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_what_a_format_cannot_hold_is_an_error(tmp_path, make_strips):
    with pytest.raises(ValueError, match=r'have 4 channels, .* format="npz" takes any number'):
        write_shards(make_strips([5], channels=4), tmp_path / "s")
    with pytest.raises(ValueError, match="the dataset has no strips"):
        write_shards(StripSubset(make_strips([5]), []), tmp_path / "s")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "precious").touch()
    with pytest.raises(FileExistsError, match="exists already and is not an empty folder"):
        write_shards(make_strips([5]), tmp_path / "s")
