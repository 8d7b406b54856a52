import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastrnn.data import StripArrays


@pytest.fixture(scope="session")
def mnist_root():
    """The folder with the real MNIST files."""
    beside_the_checkout = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("FASTRNN_DATA", beside_the_checkout)) / "mnist"
    if not root.is_dir():
        pytest.skip(f"no MNIST files in {root}; set FASTRNN_DATA to the folder that holds mnist/")
    return root


@pytest.fixture
def noise():
    """Makes a uint8 array of the given shape that no image format compresses."""
    random = np.random.default_rng(7)
    return lambda *shape: random.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def save(tmp_path, noise):
    """Writes a noise image of height 28 under the test's folder; returns its path."""

    def write(name, width=50):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(28, width)).save(path)
        return path

    return write


@pytest.fixture
def damage(save):
    """Writes a file that can't be decoded; returns its path."""

    def write(name, how):
        path = save(name)
        content = {
            "truncated": path.read_bytes()[:600],
            "text": b"this is no picture\n",
            "empty": b"",
        }
        path.write_bytes(content[how])
        return path

    return write


@pytest.fixture
def make_strips():
    """Makes a dataset of strips of the given widths; strip i is filled with i + 1."""

    def make(widths, targets=None, labels=("a", "b"), channels=1, height=4):
        strips = [
            np.full((channels, height, w), i % 255 + 1, np.uint8) for i, w in enumerate(widths)
        ]
        return StripArrays(strips, [0] * len(widths) if targets is None else targets, labels)

    return make


@pytest.fixture
def png(noise):
    """Makes the bytes of a PNG of noise."""

    def encode(width=50, height=28):
        file = io.BytesIO()
        Image.fromarray(noise(height, width)).save(file, format="PNG")
        return file.getvalue()

    return encode


@pytest.fixture
def write_tar(tmp_path):
    """Writes a tar file of members, (name, bytes), under the test's folder; returns its path."""

    def write(name, members):
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for member, content in members:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write
