import doctest
import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from fastrnn.data import StripDecodeError
from fastrnn.data.audio import SoundReader
from fastrnn.data.depth import DepthReader
from fastrnn.data.files import ImageReader
from fastrnn.deploy import Predictor, explain_file
from fastrnn.explanation_plots import draw_explanation
from fastrnn.models import BundleError, FusionClassifier, StripClassifier, explain


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return StripClassifier(1, 28, 3, hidden_size=6, labels=["cat", "dog", "eel"]).eval()


@pytest.fixture(scope="module")
def scan():
    """A dark strip [1, 28, 200] with a few strokes on its left side."""
    strip = np.zeros((1, 28, 200), np.uint8)
    strip[0, 5:20, 30:34], strip[0, 17:20, 30:60], strip[0, 3:9, 70:75] = 255, 200, 120
    return strip


def save(pixels, path, orientation=None):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def test_a_picture_of_the_models_height_is_explained_as_its_strip(model, scan, tmp_path):
    path = save(scan[0], tmp_path / "a.png")
    found = explain_file(model, path, target="dog", steps=5, baseline="white")
    expected = explain(model, scan, target="dog", steps=5, baseline="white")
    assert found.path == path
    assert np.array_equal(found.picture, scan)
    np.testing.assert_allclose(found.heat, expected.saliency(), rtol=1e-5)
    np.testing.assert_allclose(found.attention, expected.attention, atol=1e-7)
    np.testing.assert_allclose(found.along(), expected.along(), rtol=1e-4, atol=1e-7)
    assert np.array_equal(found.explanation.attribution, expected.attribution)


@pytest.mark.parametrize("scale", [4, 2.5, 0.5])
def test_heat_and_attention_are_of_the_pictures_own_size(model, scan, tmp_path, scale):
    size = (round(scan.shape[2] * scale), round(28 * scale))
    large = np.asarray(Image.fromarray(scan[0]).resize(size))
    path = save(large, tmp_path / "a.png")
    found = explain_file(model, path)
    assert np.array_equal(found.picture[0], large)
    assert found.heat.shape == large.shape
    assert found.heat.dtype == found.attention.dtype == np.float32
    assert found.attention.shape == (large.shape[1],)
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)
    assert found.heat.sum() == pytest.approx(found.explanation.saliency().sum(), rel=1e-4)
    middle = np.average(
        np.arange(found.explanation.along().size), weights=found.explanation.along()
    )
    scaled = np.average(np.arange(found.along().size), weights=found.along())
    share = found.explanation.along().size / found.along().size
    assert (scaled + 0.5) * share == pytest.approx(middle + 0.5, abs=0.5)
    [prediction] = Predictor(model).predict([path])
    assert found.explanation.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_pictures_are_explained_as_they_are_seen(model, scan, tmp_path, orientation):
    seen = np.asarray(Image.fromarray(scan[0]).resize((300, 60)))
    turned = {2: seen[:, ::-1], 3: seen[::-1, ::-1], 4: seen[::-1], 5: seen.T}
    turned |= {6: np.rot90(seen), 7: seen[::-1, ::-1].T, 8: np.rot90(seen, -1)}
    path = save(np.ascontiguousarray(turned[orientation]), tmp_path / "a.png", orientation)
    upright = explain_file(model, save(seen, tmp_path / "upright.png"))
    found = explain_file(model, path)
    assert np.array_equal(found.picture, upright.picture)
    assert np.array_equal(found.heat, upright.heat)
    assert np.array_equal(found.attention, upright.attention)


def test_rgb_pictures_and_bundles(tmp_path):
    torch.manual_seed(0)
    StripClassifier(3, 10, 2, hidden_size=3, pooling="mean").save(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    found = explain_file(tmp_path / "model", save(pixels, tmp_path / "a.png"), target=1)
    assert np.array_equal(found.picture, pixels.transpose(2, 0, 1))
    assert found.explanation.attribution.shape == (3, 10, 30)
    assert found.heat.shape == (20, 60)
    assert found.attention is None
    assert found.explanation.target == "1"


def test_values_beyond_bytes_are_mapped_as_for_prediction(model, scan, tmp_path):
    np.save(tmp_path / "a.npy", scan[0] * np.float32(4))
    reader = ImageReader(28, 1, value_range=(0, 1020))
    found = explain_file(model, tmp_path / "a.npy", reader=reader)
    assert np.array_equal(found.picture, scan)
    [expected] = Predictor(model, reader=reader).predict([tmp_path / "a.npy"])
    assert found.explanation.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_a_sound_is_explained_as_its_strip(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
    wavfile.write(tmp_path / "a.wav", 8000, (9999 * np.sin(np.arange(4000))).astype(np.int16))
    reader = SoundReader()
    model = StripClassifier(1, reader.height, 2, hidden_size=3, reader=reader.as_json())
    found = explain_file(model, tmp_path / "a.wav", steps=3)
    assert np.array_equal(found.picture, reader.read(tmp_path / "a.wav"))
    assert found.heat.shape == found.picture.shape[1:]


@pytest.fixture
def rgbd(tmp_path):
    """A bundle that reads RGB and depth 28 rows high, and a picture with depth twice as high."""
    reader = DepthReader((0, 255)).as_json()
    FusionClassifier(4, 28, 2, hidden_size=3, reader=reader).save(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(1, 256, (56, 80, 3), dtype=np.uint8)
    path = save(pixels, tmp_path / "a.png")
    save(pixels[..., 0], tmp_path / "a.depth.png")
    return tmp_path / "model", path, pixels


def test_depth_beside_a_picture_is_explained_in_the_pictures_size_and_drawn(rgbd, tmp_path):
    model, path, pixels = rgbd
    found = explain_file(model, path, steps=3)
    assert np.array_equal(found.picture[:3], pixels.transpose(2, 0, 1))
    assert abs(found.picture[3].astype(int) - pixels[..., 0]).max() <= 1
    assert found.explanation.attribution.shape == (4, 28, 40)
    assert found.heat.shape == (56, 80)
    assert found.heat.sum() == pytest.approx(found.explanation.saliency().sum(), rel=1e-4)
    assert draw_explanation(tmp_path / "why.png", found).stat().st_size > 5000


def test_without_one_of_picture_and_depth_the_other_is_drawn_alone(rgbd, tmp_path):
    model = rgbd[0]
    reader = DepthReader((0, 255), missing="zeros", missing_picture="zeros")
    heights = []
    for kept in (("a.png", "a.depth.png"), ("a.png",), ("a.depth.png",)):
        folder = tmp_path / f"{len(heights)}"
        folder.mkdir()
        for name in kept:
            (folder / name).write_bytes((tmp_path / name).read_bytes())
        found = explain_file(model, folder / kept[0], steps=1, reader=reader)
        matters = found.explanation.attribution.any((1, 2))
        assert matters[:3].any() == ("a.png" in kept)
        assert matters[3] == ("a.depth.png" in kept)
        with Image.open(draw_explanation(folder / "why.png", found)) as drawing:
            heights.append(drawing.height)
    assert heights[0] > heights[1] == heights[2]


@pytest.mark.parametrize(("keep", "first"), [("head", 0), ("centre", 75), ("tail", 150)])
def test_of_an_image_that_is_shortened_the_whole_picture_is_shown(
    model, scan, tmp_path, keep, first
):
    large = scan[0].repeat(2, 0).repeat(2, 1)
    large[:, first * 2 + 20 : first * 2 + 30] = 255  # a bar in the part that is kept
    path = save(large, tmp_path / "a.png")
    found = explain_file(model, path, steps=3, reader=ImageReader(max_width=50, keep=keep))
    assert np.array_equal(found.picture[0], large)
    assert found.explanation.attribution.shape == (1, 28, 50)
    assert found.seen == (2 * first, 2 * first + 100)
    inside = slice(2 * first, 2 * first + 100)
    for along in (found.along(), found.attention):
        outside = np.ones(400, bool)
        outside[max(0, inside.start - 2) : inside.stop + 2] = False
        assert not along[outside].any()
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)
    expected = found.explanation.along().repeat(2) / 2
    assert np.abs(found.along()[inside] - expected).sum() < 0.3 * expected.sum()
    assert draw_explanation(tmp_path / "why.png", found).stat().st_size > 5000


def test_heat_of_windows_lies_where_they_are(scan, tmp_path):
    torch.manual_seed(1)
    model = StripClassifier(1, 28, 3, hidden_size=6, window_size=64, window_stride=32).eval()
    found = explain_file(model, save(scan[0].repeat(2, 0).repeat(2, 1), tmp_path / "a.png"))
    expected = found.explanation.along().repeat(2) / 2
    assert found.along().shape == (400,)
    assert np.abs(found.along() - expected).sum() < 0.3 * expected.sum()


def test_steps_from_top_to_bottom_lie_along_the_rows(tmp_path):
    model = StripClassifier(1, 8, 2, hidden_size=3, scan="rows")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    found = explain_file(model, save(pixels, tmp_path / "a.png"))
    assert found.explanation.vertical
    assert found.attention.shape == found.along().shape == (16,)
    np.testing.assert_allclose(found.along(), found.heat.sum(1))


def test_a_picture_in_which_nothing_stands_out(model, tmp_path):
    found = explain_file(model, save(np.full((40, 90), 7, np.uint8), tmp_path / "a.png"))
    assert found.heat.shape == (40, 90)
    assert not found.heat.any()


def test_files_that_cannot_be_read_are_named(model, tmp_path):
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(StripDecodeError, match=r"a\.png: not an image"):
        explain_file(model, tmp_path / "a.png")
    with pytest.raises(StripDecodeError, match="does not exist"):
        explain_file(model, tmp_path / "b.png")


def test_a_model_of_other_channels_reads_no_files(scan, tmp_path):
    path = save(scan[0], tmp_path / "a.png")
    with pytest.raises(ValueError, match="does not say how files become its strips of 4 channels"):
        explain_file(FusionClassifier(4, 28, 2, hidden_size=3), path)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        explain_file(tmp_path / "nothing", "a.png")


@pytest.mark.parametrize("name", ["fastrnn.deploy.explainer", "fastrnn.explanation_plots"])
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
