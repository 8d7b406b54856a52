import gzip

import numpy as np
import pytest

from fastrnn.data.idx import read_idx

HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])


def packed(data: bytes) -> bytes:
    """Compress without the time, which would differ between the processes that run the tests."""
    return gzip.compress(data, mtime=0)


def test_idx_file_is_read_in_its_shape(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(packed(HEADER + bytes(range(6))))
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", r"a\.gz is not a gzip file, or is damaged"),
        (b"", "is not an IDX file of bytes"),
        (packed(b"hello"), "is not an IDX file of bytes: it begins with 68 65 6c 6c"),
        (
            packed(bytes([0, 0, 13, 1])),
            "is not an IDX file of bytes: it begins with 00 00 0d",
        ),
        (packed(HEADER + bytes(5)), r"states shape \(2, 3\), so 6 bytes of data, but has 5"),
        (packed(HEADER + bytes(7)), r"states shape \(2, 3\), so 6 bytes of data, but has 7"),
        (packed(HEADER[:6]), "states shape"),
        (packed(HEADER + bytes(6))[:-9], "is not a gzip file, or is damaged"),
    ],
)
def test_damaged_file_is_reported_by_path(tmp_path, content, message):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_real_files_have_the_published_statistics(mnist_root):
    images = read_idx(mnist_root / "train-images-idx3-ubyte.gz")
    assert images.shape == (60_000, 28, 28)
    assert images.dtype == np.uint8
    assert images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
