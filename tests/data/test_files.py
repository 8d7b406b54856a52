import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fastrnn.data import StripDecodeError, StripFiles


def test_files_are_read_as_unlabelled_strips_of_one_height(tmp_path, noise):
    for name, shape in (("a.png", (28, 100)), ("b.png", (56, 300))):
        Image.fromarray(noise(*shape)).save(tmp_path / name)
    strips = StripFiles([tmp_path / "a.png", str(tmp_path / "b.png")])
    assert strips.lengths.tolist() == [100, 150]
    assert strips.targets.tolist() == [-1, -1]
    assert [path.name for path in strips.paths] == ["a.png", "b.png"]
    strip, target = strips[1]
    assert strip.dtype == torch.uint8
    assert strip.shape == (1, 28, 150)
    assert target == -1


def test_opening_reads_headers_only(monkeypatch, save):
    decoded = []
    for reader in (ImageFile.ImageFile, PngImageFile, TiffImageFile):
        monkeypatch.setattr(reader, "load", lambda image: decoded.append(image))
    strips = StripFiles([save("a.png"), save("b.jpg"), save("c.tif")])
    assert strips.lengths.tolist() == [50, 50, 50]
    assert not decoded


def test_truncated_png_raises_when_asked_for(save, damage):
    strips = StripFiles([save("good.png"), damage("cut.png", "truncated")])
    assert strips[0][0].shape == (1, 28, 50)
    with pytest.raises(StripDecodeError, match=r"cut\.png: can't be decoded"):
        strips[1]


@pytest.mark.parametrize(
    ("how", "reason"), [("text", "not an image"), ("empty", "the file is empty")]
)
def test_file_without_a_header_raises_at_once(save, damage, how, reason):
    paths = [save("good.png"), damage("bad.png", how)]
    with pytest.raises(StripDecodeError, match=rf"bad\.png: {reason}"):
        StripFiles(paths)


def test_skip_leaves_out_what_cannot_be_decoded_and_says_so(tmp_path, save, damage):
    paths = [
        damage("0.png", "truncated"),
        save("1.png", 60),
        damage("2.png", "text"),
        save("3.png", 70),
        damage("4.png", "empty"),
        tmp_path / "5.png",
    ]
    strips = StripFiles(paths, targets=[0, 1, 0, 0, 1, 1], labels=["a", "b"], on_error="skip")
    assert strips.lengths.tolist() == [60, 70]
    assert strips.targets.tolist() == [1, 0]
    assert [strips[k][0].shape[-1] for k in range(2)] == [60, 70]
    assert [path.name for path, _ in strips.skipped] == ["0.png", "2.png", "4.png", "5.png"]
    assert "truncated" in strips.skipped[0][1]
    assert strips.skipped[2][1] == "the file is empty"


def test_nothing_readable_is_an_error_even_when_skipping(damage):
    with pytest.raises(ValueError, match=r"none of 1 file can be read; .*bad\.png: not an"):
        StripFiles([damage("bad.png", "text")], on_error="skip")


def test_one_pixel_strip_works(tmp_path):
    Image.new("L", (1, 1), 200).save(tmp_path / "dot.png")
    strips = StripFiles([tmp_path / "dot.png"], height=1)
    assert strips[0][0].tolist() == [[[200]]]


def test_channels_choose_grey_or_rgb(tmp_path, noise):
    pixels = noise(28, 40, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rgb = StripFiles([tmp_path / "a.png"], channels=3)[0][0]
    assert (rgb.numpy() == pixels.transpose(2, 0, 1)).all()
    grey = StripFiles([tmp_path / "a.png"], channels=1)[0][0].numpy()[0]
    luma = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert abs(grey - luma).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": []}, ValueError, "paths is empty; give at least one file"),
        ({"paths": "a.png"}, TypeError, "paths is 'a.png', but must be a sequence of files"),
        ({"paths": None}, TypeError, "paths is None, but must be a sequence of files"),
        ({"paths": [None]}, TypeError, r"paths\[0\] is None, but must be a path"),
        (
            {"on_error": "ignore"},
            ValueError,
            'on_error is \'ignore\', but must be "raise" or "skip"',
        ),
        ({"channels": 2}, ValueError, r"channels is 2, but must be 1 \(grey\) or 3 \(RGB\)"),
        ({"height": 0}, ValueError, "height is 0, but must be at least 1"),
        ({"height": 2.5}, TypeError, "height is 2.5, but must be an integer"),
        ({"targets": [0, 1]}, ValueError, "targets has 2 entries, but there are 1 files"),
        ({"targets": [3], "labels": ["a"]}, ValueError, r"targets\[0\] is 3, but must be in -1"),
    ],
)
def test_wrong_arguments_are_named(save, arguments, error, message):
    with pytest.raises(error, match=message):
        StripFiles(**({"paths": [save("a.png")]} | arguments))
