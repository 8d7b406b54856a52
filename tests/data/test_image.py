import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data.image import (
    StripDecodeError,
    read_image,
    read_image_size,
    scale_strip,
    scaled_width,
)


@given(st.integers(1, 5000), st.integers(1, 500), st.integers(1, 100))
def test_scaling_keeps_the_aspect_to_within_half_a_column(width, image_height, height):
    scaled = scaled_width(width, image_height, height)
    assert scaled >= 1
    if scaled > 1:
        assert abs(scaled - width * height / image_height) <= 0.5


def test_image_of_the_right_height_is_read_unchanged(tmp_path, noise):
    grey, rgb = noise(28, 90), noise(28, 90, 3)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    assert (read_image(tmp_path / "grey.png", 28, 1) == grey).all()
    assert (read_image(tmp_path / "grey.png", 28, 3) == grey).all()
    assert (read_image(tmp_path / "rgb.png", 28, 3) == rgb.transpose(2, 0, 1)).all()
    assert read_image(tmp_path / "rgb.png", 28, 1).shape == (1, 28, 90)


@pytest.mark.parametrize("height", [7, 28, 61])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_is_scaled_to_the_width_that_its_header_promises(tmp_path, noise, height, channels):
    Image.fromarray(noise(40, 333)).save(tmp_path / "a.png")
    width = scaled_width(*read_image_size(tmp_path / "a.png"), height)
    assert read_image(tmp_path / "a.png", height, channels).shape == (channels, height, width)


def test_shrinking_averages_instead_of_dropping_rows(tmp_path):
    stripes = np.zeros((56, 100), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    middle = read_image(tmp_path / "a.png", 14, 1)[0, 3:-3]
    assert abs(middle.astype(int) - 128).max() < 10


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (1, 28)])
def test_strips_of_one_pixel_across_are_read(tmp_path, size):
    Image.new("L", size, 77).save(tmp_path / "a.png")
    strip = read_image(tmp_path / "a.png", 28, 1)
    assert strip.shape == (1, 28, scaled_width(*size, 28))
    assert (strip == 77).all()


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, suffix, orientation):
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:30, :45, 0] = 255  # top left red, bottom left green, so that every turn differs
    pixels[30:, :45, 1] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(
        path, exif=exif, **({"lossless": True} if suffix == "webp" else {})
    )

    # what each orientation means, from the EXIF standard: where row 0 and column 0 are seen
    seen = pixels
    if orientation in (5, 6, 7, 8):
        seen = seen.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        seen = seen[::-1]
    if orientation in (2, 3, 6, 7):
        seen = seen[:, ::-1]
    assert read_image_size(path) == (seen.shape[1], seen.shape[0])
    strip = read_image(path, seen.shape[0], 3)
    assert abs(strip.astype(int) - seen.transpose(2, 0, 1)).mean() < 3  # JPEG is not exact


def test_damaged_exif_is_ignored(tmp_path):
    Image.new("L", (50, 28), 9).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    assert (read_image(tmp_path / "a.png", 28, 1) == 9).all()


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path, noise):
    high = noise(28, 40)
    deep = high.astype(np.uint16) * 256 + noise(28, 40)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 28, 1) == high).all()


def test_transparent_parts_become_white(tmp_path):
    pixels = np.zeros((28, 40, 4), np.uint8)
    pixels[:, :20, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    strip = read_image(tmp_path / "a.png", 28, 1)
    assert (strip[..., :20] == 0).all()
    assert (strip[..., 20:] == 255).all()


def test_palette_and_bilevel_images_are_read(tmp_path):
    Image.new("1", (40, 28), 1).save(tmp_path / "bilevel.png")
    Image.new("P", (40, 28), 1).save(tmp_path / "palette.gif")
    assert (read_image(tmp_path / "bilevel.png", 28, 1) == 255).all()
    assert read_image(tmp_path / "palette.gif", 28, 3).shape == (3, 28, 40)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.new("F", (40, 28)).save(tmp_path / "a.tif")
    with pytest.raises(StripDecodeError, match=r"a\.tif: .*has floating-point pixels"):
        read_image(tmp_path / "a.tif", 28, 1)


@pytest.mark.parametrize("keep", [10, 33, 60, 300, 1000])
def test_truncated_png_is_reported_by_path(save, keep):
    path = save("broken.png")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StripDecodeError, match=r"broken\.png: ") as caught:
        read_image(path, 28, 1)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", r"can't be decoded \(image file is truncated"),
        ("text", "not an image, or in a format Pillow can't read"),
        ("empty", "the file is empty"),
    ],
)
def test_damaged_file_is_reported_with_its_reason(damage, how, reason):
    with pytest.raises(StripDecodeError, match=rf"bad\.png: {reason}"):
        read_image(damage("bad.png", how), 28, 1)


def test_missing_file_and_folder_are_reported(tmp_path):
    with pytest.raises(StripDecodeError, match=r"none\.png: the file does not exist"):
        read_image_size(tmp_path / "none.png")
    with pytest.raises(StripDecodeError, match="is a folder, but must be a file"):
        read_image_size(tmp_path)


def test_decode_error_survives_pickling_between_processes():
    error = pickle.loads(pickle.dumps(StripDecodeError("x/a.png", "the file is empty")))
    assert str(error) == "x/a.png: the file is empty"
    assert (error.path.name, error.reason) == ("a.png", "the file is empty")


def test_arrays_scale_like_files(tmp_path, noise):
    pixels = noise(50, 210)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (scale_strip(pixels[None], 28) == read_image(tmp_path / "a.png", 28, 1)).all()
    assert scale_strip(noise(5, 14, 100), 28).shape == (5, 28, 200)
