"""Small folders of every kind of file that shows its class."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = ("--epochs", 1, "--set", "hidden_size=3")
FILES = 5  # of each class
SPEAKERS = ("ann", "bob", "cay")


def pattern(label, number):
    """A picture of 28 x 40 that shows its class."""
    picture = np.random.default_rng(number).integers(0, 60, (28, 40), dtype=np.uint8)
    picture[(slice(5, 12) if label == "a" else slice(20, 26))] += 150
    return picture


def write_image(path, label, number):
    Image.fromarray(pattern(label, number)).save(path.with_suffix(".png"))


def write_depth(path, label, number):
    picture = pattern(label, number)
    Image.fromarray(np.stack([picture] * 3, -1)).save(path.with_suffix(".png"))
    Image.fromarray(1000 + picture.astype(np.uint16)).save(path.with_suffix(".depth.png"))


def write_clip(path, label, number):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastrnn[video]'")
    with av.open(str(path.with_suffix(".avi")), "w") as file:
        stream = file.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = 28, 40, "rgb24"
        for frame in range(4 + number % 3):
            picture = np.stack([pattern(label, frame)] * 3, -1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def sound(label, number):
    """The bytes of a WAV file of a third of a second."""
    wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
    file = io.BytesIO()
    wave = np.sin(np.arange(2400 + 80 * number) * (0.3 if label == "a" else 1.2))
    wavfile.write(file, 8000, (9000 * wave).astype(np.int16))
    return file.getvalue()


def write_sound(path, label, number):
    path.with_suffix(".wav").write_bytes(sound(label, number))


WRITERS = {
    "images": write_image,
    "depth": write_depth,
    "videos": write_clip,
    "sounds": write_sound,
}


def make_folder(root: Path, kind: str) -> None:
    """Write the class folders "a" and "b" of a kind of files."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(FILES):
            WRITERS[kind](root / label / f"{SPEAKERS[number % 3]}-{number}", label, number)
