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
    return _data_folder("mnist", "MNIST files")


@pytest.fixture(scope="session")
def fsdd_root():
    """The folder with the real recordings of spoken digits."""
    return _data_folder("fsdd", "recordings of spoken digits")


def _data_folder(name, content):
    beside_the_checkout = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("FASTRNN_DATA", beside_the_checkout)) / name
    if not root.is_dir():
        pytest.skip(f"no {content} in {root}; set FASTRNN_DATA to the folder that holds {name}/")
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
def save_wav(tmp_path):
    """Writes a WAV file of 16-bit noise under the test's folder; returns its path."""
    wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
    random = np.random.default_rng(3)

    def write(name, samples=4000, rate=8000, channels=1):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (samples, channels) if channels > 1 else samples
        wavfile.write(path, rate, random.integers(-9999, 9999, shape, dtype=np.int16))
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
def write_clip(tmp_path):
    """Writes uint8 frames ``[T, H, W, 3]`` as a video file; returns its path."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastrnn[video]'")

    def write(name, frames, codec="png", pixels="rgb24", options=None, prepare=lambda stream: None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as file:
            stream = file.add_stream(codec, rate=10, options=options or {})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixels
            prepare(stream)
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                file.mux(stream.encode(picture.reformat(format=pixels)))
            file.mux(stream.encode())
        return path

    return write


@pytest.fixture
def moving():
    """Makes frames ``[T, H, W, 3]`` of a coarse pattern that moves."""

    def make(frames, height=48, width=64):
        random = np.random.default_rng(5)
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        picture = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        return np.stack([np.roll(picture, 3 * number, 1) for number in range(frames)])

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
