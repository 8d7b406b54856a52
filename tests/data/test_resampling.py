import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data.resampling import AffineMaps, scratch

H = 28


def one_map(length, width=None, **changes):
    values = {"stretch": 1, "scale": 1, "slant": 0, "rotation": 0, "down": 0} | changes
    values.setdefault("centre", length / 2)
    arrays = {name: np.array([float(value)]) for name, value in values.items()}
    return AffineMaps(H, np.array([length]), np.array([width or length]), **arrays)


def smooth_strip(length, seed=0):
    """Float ``[1, H, length]`` without sharp edges, zero at the border."""
    small = np.random.default_rng(seed).integers(0, 256, (5, length // 6), dtype=np.uint8)
    small[[0, -1]] = small[:, [0, -1]] = 0
    image = Image.fromarray(small).resize((length, H), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)[None]


@settings(max_examples=25)
@given(
    st.integers(40, 90),
    st.floats(0.6, 1.6),
    st.floats(0.6, 1.6),
    st.floats(-0.6, 0.6),
    st.floats(-0.3, 0.3),
    st.floats(-6, 6),
    st.floats(-9, 9),
)
def test_map_is_the_product_of_its_parts(length, stretch, scale, slant, rotation, down, right):
    strip = smooth_strip(length)
    width = round(1.3 * length)
    centre = width / 2 + right
    cos, sin = np.cos(rotation), np.sin(rotation)
    forward = (
        np.array([[cos, -sin], [sin, cos]])
        @ np.array([[1, -np.tan(slant)], [0, 1]])
        @ np.diag([stretch, scale])
    )
    back = np.linalg.inv(forward)
    start = np.array([length / 2, H / 2]) - back @ [centre, H / 2 + down]
    expected = Image.fromarray(strip[0]).transform(
        (width, H),
        Image.Transform.AFFINE,
        (*back[0], start[0], *back[1], start[1]),
        Image.Resampling.BILINEAR,
    )
    parts = {"stretch": stretch, "scale": scale, "slant": slant, "rotation": rotation}
    got = one_map(length, width, centre=centre, down=down, **parts).resample(strip, 0)
    assert got.shape == (1, H, width)
    np.testing.assert_allclose(got[0], np.asarray(expected), atol=0.05)


def test_no_change_is_no_change():
    strip = np.random.default_rng(0).random((3, H, 50), dtype=np.float32)
    np.testing.assert_allclose(one_map(50).resample(strip, 0), strip, atol=1e-4)


def test_all_channels_move_alike():
    strip = smooth_strip(60)
    changes = one_map(60, 70, slant=0.3, rotation=0.1, stretch=1.2, down=2)
    three = changes.resample(np.concatenate([strip, 2 * strip, strip]), 0)
    alone = changes.resample(strip, 0)
    assert (three[0] == alone[0]).all()
    assert (three[2] == alone[0]).all()
    np.testing.assert_allclose(three[1], 2 * alone[0], rtol=1e-5, atol=1e-3)


def test_frames_side_by_side_are_mapped_each_for_itself():
    frames = [smooth_strip(48, seed) for seed in range(3)]
    changes = one_map(48, rotation=0.2, scale=0.9, down=1.5)
    together = changes.resample(np.concatenate(frames, axis=-1), 0)
    expected = [changes.resample(frame, 0) for frame in frames]
    assert (together == np.concatenate(expected, axis=-1)).all()


def test_each_strip_has_its_own_map():
    maps = AffineMaps(
        H,
        np.array([40, 50]),
        np.array([40, 50]),
        stretch=np.ones(2),
        scale=np.ones(2),
        slant=np.zeros(2),
        rotation=np.zeros(2),
        centre=np.array([20.0, 28.0]),
        down=np.zeros(2),
    )
    strip = smooth_strip(50)
    np.testing.assert_allclose(maps.resample(strip, 1)[..., 3:], strip[..., :-3], atol=1e-2)


@pytest.mark.parametrize("length", [1, 2])
def test_tiny_strips_are_mapped(length):
    strip = np.full((1, H, length), 9, np.float32)
    assert one_map(length, 3, stretch=3 / length, centre=1.5).resample(strip, 0).shape[-1] == 3


def test_scratch_memory_is_used_again_and_grows():
    first = scratch("test", 10, np.float32)
    assert np.shares_memory(first, scratch("test", 4, np.float32))
    assert len(scratch("test", 4, np.float32)) == 4
    assert len(scratch("test", 30, np.float32)) == 30
    assert not np.shares_memory(scratch("test", 30, np.float32), scratch("other", 30, np.float32))


def test_scratch_memory_belongs_to_one_thread():
    mine, theirs = scratch("test", 10, np.float32), []
    thread = threading.Thread(target=lambda: theirs.append(scratch("test", 10, np.float32)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
