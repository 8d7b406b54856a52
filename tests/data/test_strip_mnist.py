import gzip
import time

import numpy as np
import pytest

from fastrnn.data import StripMNIST, strip_mnist


@pytest.fixture(scope="module")
def test_strips(mnist_root):
    return StripMNIST(mnist_root, "test")


def idx(array):
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes(), compresslevel=1)


def write_split(folder, images, targets):
    folder.mkdir(exist_ok=True)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx(images))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(targets))


def test_test_split_is_made_from_the_real_digits(test_strips):
    assert len(test_strips) == 10_000
    assert test_strips.labels == tuple("0123456789")
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # of the published test set
    assert np.bincount(test_strips.targets).tolist() == counts
    strip, target = test_strips[0]
    assert target == 7
    assert strip.shape == (1, 28, test_strips.lengths[0])


def test_size_takes_the_first_digits(test_strips, mnist_root):
    few = StripMNIST(mnist_root, "test", size=30)
    assert few.targets.tolist() == test_strips.targets[:30].tolist()
    assert all((few[index][0] == test_strips[index][0]).all() for index in range(30))


def test_seed_and_split_change_the_strips(test_strips, mnist_root):
    lengths = test_strips.lengths[:50].tolist()
    assert StripMNIST(mnist_root, "test", size=50, seed=1).lengths.tolist() != lengths
    assert StripMNIST(mnist_root, "train", size=50).lengths.tolist() != lengths


def test_first_task_shows_the_digits_of_the_split(test_strips, mnist_root):
    first = StripMNIST(mnist_root, "test", size=60, task="first")
    assert (first.targets == test_strips.targets[:60]).all()
    assert first.lengths.min() >= 140
    assert first.lengths.max() <= 420
    ink = [int((strip > 0).sum()) for strip, _ in first]
    find = [int((test_strips[index][0] > 0).sum()) for index in range(60)]
    assert np.mean(ink) > 1.5 * np.mean(find)
    assert (StripMNIST(mnist_root, "test", size=9, task="first")[8][0] == first[8][0]).all()


def test_strip_takes_well_under_200_microseconds(test_strips):
    def seconds():
        start = time.perf_counter()
        for index in range(500):
            test_strips[index]
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) / 500 < 200e-6


def test_folder_comes_from_the_environment(monkeypatch, mnist_root, tmp_path):
    monkeypatch.setenv("FASTRNN_DATA", str(mnist_root.parent))
    assert len(StripMNIST(split="test", size=5, download=False)) == 5
    monkeypatch.delenv("FASTRNN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert strip_mnist.mnist_folder() == tmp_path / "fastrnn" / "mnist"


def test_missing_files_are_downloaded_once(monkeypatch, mnist_root, tmp_path):
    mirrors = [(tmp_path / "nothing").as_uri() + "/", mnist_root.resolve().as_uri() + "/"]
    monkeypatch.setattr(strip_mnist, "MIRRORS", mirrors)
    root = tmp_path / "mnist"
    assert len(StripMNIST(root, "test")) == 10_000
    names = sorted(path.name for path in root.iterdir())
    assert names == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(strip_mnist, "MIRRORS", [])
    assert len(StripMNIST(root, "test")) == 10_000


def test_no_network_names_what_was_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(strip_mnist, "MIRRORS", ["file:///nowhere/one/", "file:///nowhere/two/"])
    with pytest.raises(
        ConnectionError, match="Without a network, put the MNIST files into"
    ) as error:
        StripMNIST(tmp_path / "mnist")
    assert "file:///nowhere/one/train-images-idx3-ubyte.gz" in str(error.value)
    assert "file:///nowhere/two/train-images-idx3-ubyte.gz" in str(error.value)
    assert not list((tmp_path / "mnist").iterdir())


def test_copy_of_the_wrong_size_is_not_kept(monkeypatch, tmp_path):
    write_split(tmp_path / "mirror", np.zeros((9, 28, 28), np.uint8), np.zeros(9, np.uint8))
    monkeypatch.setattr(strip_mnist, "MIRRORS", [(tmp_path / "mirror").as_uri() + "/"])
    with pytest.raises(
        ConnectionError, match=r"has shape \(9, 28, 28\), but must have \(10000, 28"
    ):
        StripMNIST(tmp_path / "mnist", "test")


def test_missing_files_without_download_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz does not exist; put"):
        StripMNIST(tmp_path, download=False)


@pytest.mark.parametrize(
    ("shape", "target", "message"),
    [
        ((9, 28, 28), 0, r"images.* has shape \(9, 28, 28\), but must have \(10000, 28, 28\)"),
        ((10_000, 28, 28), 10, r"labels.* values up to 10, but must have 10000 digits 0\.\.9"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, shape, target, message):
    write_split(tmp_path, np.zeros(shape, np.uint8), np.full(10_000, target, np.uint8))
    with pytest.raises(ValueError, match=message):
        StripMNIST(tmp_path, "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 10_001}, "size is 10001, but the test split has 10000 digits"),
        ({"size": 0}, "size is 0, but must be at least 1"),
        ({"split": "valid"}, "split is 'valid', but must be"),
        ({"seed": -1}, "seed is -1, but must be at least 0"),
        ({"task": "last"}, 'task is \'last\', but must be "find" or "first"'),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        StripMNIST(tmp_path, **({"split": "test"} | arguments))
