import struct

import pytest
from PIL import Image

from fastrnn.data.containers import cut_off

WRITERS = [
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.mp4", "mpeg4", "yuv420p"),
    ("a.mov", "png", "rgb24"),
    ("a.mkv", "ffv1", "yuv420p"),
    ("a.gif", "gif", "rgb8"),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), WRITERS)
def test_whole_files_are_told_from_cut_ones(write_clip, moving, name, codec, pixels):
    path = write_clip(name, moving(6), codec, pixels)
    assert cut_off(path) is None
    content = path.read_bytes()
    # up to the first size that the container states there is nothing to tell by
    for length in (len(content) // 3, len(content) // 2, len(content) * 9 // 10, len(content) - 1):
        path.write_bytes(content[:length])
        assert cut_off(path), length


@pytest.mark.parametrize(("name", "codec", "pixels"), WRITERS)
def test_what_follows_a_whole_file_does_not_matter(write_clip, moving, name, codec, pixels):
    path = write_clip(name, moving(6), codec, pixels)
    path.write_bytes(path.read_bytes() + b"\xff\xfe and some junk")
    assert cut_off(path) is None


def test_gif_of_pillow_is_whole_until_its_last_byte_is_missing(tmp_path):
    first, *others = [Image.new("P", (300, 200), level) for level in range(5)]
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=others, comment=b"x" * 700)
    assert cut_off(path) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert cut_off(path) == "its end mark is missing"


def box(name, size, content=b""):
    return struct.pack(">I4s", size, name) + content


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (box(b"ftyp", 8) + box(b"mdat", 1, struct.pack(">Q", 20)) + b"1234", True),
        (box(b"ftyp", 8) + box(b"mdat", 1, struct.pack(">Q", 21)) + b"1234", False),
        (box(b"ftyp", 8) + box(b"mdat", 0, b"up to the end"), True),
        (box(b"ftyp", 8) + box(b"mdat", 2**31), False),
        (b"RIFF" + struct.pack("<I", 0) + b"AVI never finished", True),
        (b"RIFF\x08\0\0\0AVI 1234RIFF\x08\0\0\0AVIX1234", True),
        (b"RIFF\x08\0\0\0AVI 1234RIFF\x09\0\0\0AVIX1234", False),
        (b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"live stream", True),
        (b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67\x01\0\0\0\0\0\0\x05" + b"12345", True),
        (b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67\x01\0\0\0\0\0\0\x06" + b"12345", False),
        (b"\x1a\x45\xdf\xa3", True),
        (b"GIF89a", False),
        (b"any other file", True),
        (b"", True),
    ],
)
def test_sizes_are_read_as_the_formats_define_them(tmp_path, content, whole):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert (cut_off(path) is None) == whole
