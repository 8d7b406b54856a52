"""Every kind of pixels that a file may hold, read through `read_image`."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data.image import StripDecodeError, read_image, read_values


@pytest.fixture
def deep_png(tmp_path):
    """Writes uint16 pixels as a PNG of 16 bits; Pillow can't, where there are several channels."""
    colour_types = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG specification, table 11.1

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    def write(pixels):
        rows, columns, channels = pixels.shape
        size = struct.pack(">IIBBBBB", columns, rows, 16, colour_types[channels], 0, 0, 0)
        lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        path = tmp_path / "deep.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", size)
            + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b"")
        )
        return path

    return write


@pytest.fixture
def pnm(tmp_path):
    """Writes integers as a PGM or PPM file with the given highest value."""

    def write(pixels, highest, *, plain=False):
        rows, columns, channels = pixels.shape
        magic = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[channels, plain]
        header = f"P{magic} {columns} {rows} {highest}\n".encode()
        if plain:
            content = " ".join(map(str, pixels.ravel())).encode()
        else:
            content = pixels.astype(">u2" if highest > 255 else "u1").tobytes()
        path = tmp_path / "a.pnm"
        path.write_bytes(header + content)
        return path

    return write


def deep_noise(*shape, highest=65535):
    return np.random.default_rng(3).integers(0, highest + 1, shape)


def test_very_long_strips_are_read_unchanged(tmp_path, noise):
    pixels = noise(28, 20_000)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 28, 1)[0] == pixels).all()


def test_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (40, 28), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 20, 28))
    image.save(tmp_path / "a.png", transparency=0)
    strip = read_image(tmp_path / "a.png", 28, 3)
    assert (strip[:, :, :20] == np.array([200, 100, 50])[:, None, None]).all()
    assert (strip[:, :, 20:] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_with_alpha_is_laid_on_white(tmp_path, channels):
    pixels = np.zeros((28, 3, 2), np.uint8)
    pixels[..., 1] = [255, 128, 0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    strip = read_image(tmp_path / "a.png", 28, channels)
    assert strip[:, 0].tolist() == [[0, 127, 255]] * channels


def test_cmyk_is_read_as_colours_of_ink(tmp_path):
    ink = {(255, 0, 0, 0): (0, 255, 255), (0, 0, 255, 0): (255, 255, 0), (0, 0, 0, 255): (0, 0, 0)}
    for number, (inks, colour) in enumerate(ink.items()):
        path = tmp_path / f"{number}.tif"
        Image.new("CMYK", (40, 28), inks).save(path)
        assert (read_image(path, 28, 3) == np.array(colour)[:, None, None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_high_byte_in_every_channel(deep_png, channels):
    pixels = deep_noise(28, 40, channels)
    strip = read_image(deep_png(pixels), 28, channels)
    assert (strip == pixels.transpose(2, 0, 1) // 256).all()


def test_sixteen_bits_with_alpha_are_laid_on_white(deep_png):
    pixels = np.zeros((28, 40, 4), int)
    pixels[:, :20, 3] = 65535
    strip = read_image(deep_png(pixels), 28, 1)
    assert (strip[..., :20] == 0).all()
    assert (strip[..., 20:] == 255).all()


@given(low=st.integers(-1000, 60_000), width=st.integers(1, 70_000), value=st.integers(0, 0xFFFF))
def test_value_range_maps_sixteen_bits_linearly_and_clips(tmp_path, low, width, value):
    Image.new("I;16", (1, 1), value).save(tmp_path / "a.png")
    [[[pixel]]] = read_image(tmp_path / "a.png", 1, 1, (low, low + width)).tolist()
    wanted = min(max((value - low) / width, 0), 1) * 255
    assert abs(pixel - wanted) <= 0.5 + 1e-9


def test_value_range_maps_floats_and_32_bits(tmp_path):
    values = np.array([[-1, 0, 0.5, 1, 1e9]], np.float32)
    Image.fromarray(values).save(tmp_path / "f.tif")
    Image.fromarray((values * 1000).clip(-1e6, 1e6).astype(np.int32)).save(tmp_path / "i.tif")
    for name, value_range in (("f.tif", (0, 1)), ("i.tif", (0, 1000))):
        strip = read_image(tmp_path / name, 1, 3, value_range)
        assert strip.tolist() == [[[0, 0, 128, 255, 255]]] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_value_range_applies_to_bytes_too(tmp_path, noise, channels):
    pixels = noise(28, 40, channels)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "a.png")
    strip = read_image(tmp_path / "a.png", 28, channels, (50, 150)).transpose(1, 2, 0)
    wanted = np.clip((pixels.astype(float) - 50) / 100, 0, 1) * 255
    assert abs(strip - wanted).max() <= 0.5


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("highest", [15, 255, 1023, 65535])
def test_value_range_of_a_pgm_file_is_in_its_own_units(pnm, highest, plain):
    pixels = deep_noise(28, 40, 1, highest=highest)
    path = pnm(pixels, highest, plain=plain)
    full = read_image(path, 28, 1, (0, highest))[0]
    assert abs(full - pixels[..., 0] * 255 / highest).max() <= 0.51
    assert (read_image(path, 28, 1, (-highest, 0)) == 255).all()
    assert (read_values(path) == pixels[..., 0]).all()


def test_sixteen_bits_of_several_channels_have_no_value_range(deep_png, pnm):
    pixels = deep_noise(4, 5, 3)
    for path in (deep_png(pixels), pnm(pixels // 16, 4095)):
        with pytest.raises(StripDecodeError, match=r"16 bits in several channels.*or a \.npy file"):
            read_image(path, 4, 3, (0, 4095))


@pytest.mark.parametrize(
    ("value_range", "error", "message"),
    [
        (5, TypeError, r"value_range is 5, but must be a pair of numbers \(low, high\)"),
        ((1, 2, 3), TypeError, r"value_range is \(1, 2, 3\), but must be a pair"),
        ((3, 3), ValueError, r"value_range is \(3, 3\), but must be finite numbers"),
        ((0, float("nan")), ValueError, "low < high"),
        ((0, float("inf")), ValueError, "must be finite"),
    ],
)
def test_wrong_value_range_is_named(save, value_range, error, message):
    with pytest.raises(error, match=message) as caught:
        read_image(save("a.png"), 28, 1, value_range)
    assert not isinstance(caught.value, StripDecodeError)


def test_values_are_read_as_they_are_stored(tmp_path):
    deep = deep_noise(6, 9).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep.astype(np.float32) / 7).save(tmp_path / "float.tif")
    np.save(tmp_path / "array.npy", deep[..., None])
    assert (read_values(tmp_path / "deep.png") == deep).all()
    assert (read_values(tmp_path / "float.tif") == deep.astype(np.float32) / 7).all()
    assert (read_values(tmp_path / "array.npy") == deep).all()


def test_values_of_several_channels_or_turned_ones_are_refused(tmp_path, noise):
    Image.fromarray(noise(4, 5, 3)).save(tmp_path / "rgb.png")
    np.save(tmp_path / "rgb.npy", noise(4, 5, 3))
    Image.fromarray(noise(4, 5)).save(tmp_path / "turned.png", exif=b"Exif\0\0" + turned_exif())
    for name, reason in (
        ("rgb.png", "has mode RGB, but should have one channel"),
        ("rgb.npy", "has 3 channels, but should have one"),
        ("turned.png", "has an EXIF orientation of its own"),
    ):
        with pytest.raises(StripDecodeError, match=reason):
            read_values(tmp_path / name)


def turned_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes().removeprefix(b"Exif\0\0")
