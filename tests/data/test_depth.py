import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data import StripDecodeError, StripFiles, strip_batches
from fastrnn.data.depth import DepthReader, StripDepth


@pytest.fixture
def pair(tmp_path, noise):
    """Writes a picture and the depth map beside it; returns the picture's path."""

    def write(name="a.png", depth=None, size=(28, 50), ending=".depth.png", **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(*size, 3)).save(path, **options)
        beside = path.with_name(path.stem + ending)
        if depth is not None and ending.endswith(".npy"):
            np.save(beside, depth)
        elif depth is not None:
            Image.fromarray(depth).save(beside)
        return path

    return write


def millimetres(rows=28, columns=50):
    """A depth map in which every pixel has another depth."""
    return (500 + np.arange(rows * columns).reshape(rows, columns)).astype(np.uint16)


def mapped(depth, near, far):
    depth = np.asarray(depth, float)
    return np.where(depth == 0, 0, 1 + 254 * np.clip((depth - near) / (far - near), 0, 1))


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("ending", [".depth.png", ".depth.npy", "-range.tif"])
def test_depth_is_the_last_channel_after_the_picture(pair, channels, ending):
    depth = millimetres()
    depth[5:9, 20:30] = 0
    path = pair(depth=depth, ending=ending)
    strips = StripDepth(
        [path],
        depth_range=(600, 1800),
        channels=channels,
        depth_ending=ending,
        targets=[1],
        labels=["a", "b"],
    )
    strip, target = strips[0]
    assert target == 1
    assert strip.shape == (channels, 28, 50)
    picture = StripFiles([path], channels=channels - 1)[0][0]
    assert strip[:-1].equal(picture)
    assert abs(strip[-1].numpy() - mapped(depth, 600, 1800)).max() <= 0.5
    assert ((strip[-1].numpy() == 0) == (depth == 0)).all()
    assert strips.depth_paths == (path.with_name("a" + ending),)


@given(depth=st.integers(1, 65535), near=st.integers(0, 60_000), width=st.integers(1, 65_535))
def test_what_was_read_is_never_zero_and_grows_with_depth(pair, depth, near, width):
    path = pair(size=(1, 2), depth=np.array([[depth, max(depth - 1, 1)]], np.uint16))
    strips = StripDepth([path], depth_range=(near, near + width), height=1)
    farther, nearer = strips[0][0][-1, 0].tolist()
    assert 1 <= nearer <= farther <= 255
    assert abs(farther - mapped(depth, near, near + width)) <= 0.5 + 1e-9
    assert (farther == 255) >= (depth >= near + width)


def test_floats_without_a_reading_are_zero_or_nan(pair):
    depth = np.array([[0, np.nan, 0.2, 1, 3, np.inf]], np.float32)
    path = pair(size=(1, 6), depth=depth, ending=".depth.npy")
    strips = StripDepth([path], depth_range=(1, 5), height=1, depth_ending=".depth.npy")
    assert strips[0][0][-1, 0].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("size", [(7, 12), (14, 25), (55, 98), (56, 100), (280, 500)])
@pytest.mark.parametrize("height", [10, 28])
def test_scaled_depth_holds_only_depths_that_were_read(pair, size, height):
    depth = np.full(size, 1000, np.uint16)
    depth[:, size[1] // 2 :] = 4000
    path = pair(size=(56, 100), depth=depth)
    strips = StripDepth([path], depth_range=(0, 5000), height=height)
    strip = strips[0][0][-1]
    assert strip.shape == (height, strips.lengths[0])
    assert sorted(set(strip.flatten().tolist())) == [52, 204]
    edge = (strip[0] == 204).nonzero()[0].item()
    assert abs(edge - strip.shape[1] / 2) <= 0.5 * strip.shape[1] / size[1] + 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_depth_is_turned_like_its_picture(pair, tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = np.arange(28 * 50, dtype=np.uint16).reshape(28, 50) % 251 + 1
    path = pair(f"a.{suffix}", depth=grey)
    Image.fromarray(grey.astype(np.uint8)).save(path, exif=exif)
    height = 50 if orientation >= 5 else 28
    strip = StripDepth([path], depth_range=(1, 255), channels=2, height=height)[0][0]
    assert strip[1].equal(strip[0])


def test_sizes_may_differ_by_rounding_only(pair):
    fits = [(28, 50), (27, 50), (28, 51), (13, 25), (14, 24), (7, 13), (56, 101), (57, 100)]
    for size in fits:
        path = pair(depth=millimetres(*size))
        assert StripDepth([path], depth_range=(1, 9999))[0][0].shape == (4, 28, 50)
    for size in [(28, 53), (25, 50), (28, 25), (14, 50), (50, 28), (56, 108), (14, 30)]:
        path = pair(depth=millimetres(*size))
        message = rf"a\.depth\.png: .* {size[1]} x {size[0]} pixels does not cover a\.png"
        with pytest.raises(StripDecodeError, match=message):
            StripDepth([path], depth_range=(1, 9999))


def test_long_strips_are_held_to_the_same_width(pair):
    path = pair(size=(28, 5000), depth=millimetres(28, 4990))
    with pytest.raises(StripDecodeError, match="of 4990 x 28 pixels does not cover"):
        StripDepth([path], depth_range=(1, 9999))


def test_missing_depth_is_an_error_or_all_zero(pair):
    paths = [pair("a.png", millimetres()), pair("b.png")]
    message = r'b\.depth\.png: the depth map of b\.png does not exist; missing="zeros" '
    with pytest.raises(StripDecodeError, match=message):
        StripDepth(paths, depth_range=(1, 9999))
    strips = StripDepth(paths, depth_range=(1, 9999), missing="zeros")
    assert strips.depth_paths[1] is None
    assert strips[0][0][-1].min() > 0
    assert strips[1][0][-1].max() == 0
    assert strips[1][0][:-1].equal(StripFiles(paths, channels=3)[1][0])
    skipping = StripDepth(paths, depth_range=(1, 9999), on_error="skip")
    assert [path.name for path, _ in skipping.skipped] == ["b.depth.png"]


def test_a_depth_map_without_its_picture_is_an_error_or_without_colours(pair):
    path = pair("a.png", millimetres(56, 100), size=(56, 100))
    alone = path.with_name("b.depth.png")
    path.with_name("a.depth.png").rename(alone)
    with pytest.raises(StripDecodeError, match=r"b\.depth\.png: .* by missing_picture=\"zeros\""):
        StripDepth([alone], depth_range=(1, 9999))
    strips = StripDepth([alone], depth_range=(1, 9999), missing_picture="zeros")
    assert strips.lengths.tolist() == [50]
    assert strips.depth_paths == (alone,)
    strip = strips[0][0]
    assert strip[:-1].max() == 0
    path.rename(path.with_name("b.png"))
    whole = StripDepth([path.with_name("b.png")], depth_range=(1, 9999))
    assert strip[-1].equal(whole[0][0][-1])


def test_of_a_folder_only_depth_maps_without_a_picture_are_strips_of_their_own(pair, tmp_path):
    pair("cat/1.jpg", millimetres())
    pair("cat/2.png", millimetres()).unlink()
    pair("dog/1.png", millimetres()).unlink()
    strips = StripDepth.from_folder(tmp_path, depth_range=(1, 9999), missing_picture="zeros")
    assert [path.name for path in strips.paths] == ["1.jpg", "2.depth.png", "1.depth.png"]
    assert strips.targets.tolist() == [0, 0, 1]
    assert [bool(strips[k][0][:-1].any()) for k in range(3)] == [True, False, False]
    reader = strips.reader
    assert reader.strips_of(strips.paths[1]) == [strips.paths[1]]
    assert reader.strips_of(tmp_path / "cat" / "1.depth.png") == []


def test_the_picture_has_its_own_size_and_depth_is_scaled_to_it(pair):
    depth = millimetres(28, 50)
    path = pair(depth=depth, size=(56, 100))
    reader = DepthReader((1, 9999), height=14, max_width=7)
    picture = reader.picture(path)
    assert np.array_equal(picture[:-1], np.asarray(Image.open(path)).transpose(2, 0, 1))
    assert abs(picture[-1] - mapped(depth, 1, 9999).repeat(2, 0).repeat(2, 1)).max() <= 0.5
    assert reader.read(path).shape == (4, 14, 7)


@pytest.mark.parametrize("missing", ["raise", "zeros"])
def test_damaged_depth_is_an_error_or_skipped(pair, missing):
    paths = [pair("a.png", millimetres()), pair("b.png", millimetres())]
    bad = paths[1].with_name("b.depth.png")
    bad.write_bytes(bad.read_bytes()[:100])
    strips = StripDepth(paths, depth_range=(1, 9999), missing=missing)
    with pytest.raises(StripDecodeError, match=r"b\.depth\.png: can't be decoded"):
        strips[1]
    skipping = StripDepth(paths, depth_range=(1, 9999), missing=missing, on_error="skip")
    assert skipping.paths == (paths[0],)
    assert [path for path, _ in skipping.skipped] == [bad]


def test_depth_of_several_channels_or_with_an_orientation_is_refused(pair, noise):
    with pytest.raises(StripDecodeError, match=r"a\.depth\.png: .*has mode RGB, but should have"):
        StripDepth([pair(depth=noise(28, 50, 3))], depth_range=(1, 255))[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    path = pair()
    Image.fromarray(noise(28, 50)).save(path.with_name("a.depth.png"), exif=exif)
    with pytest.raises(StripDecodeError, match="has an EXIF orientation of its own"):
        StripDepth([path], depth_range=(1, 255))


def test_folder_of_class_folders_is_opened(pair, tmp_path):
    for name in ("dog/1.png", "cat/2.jpg", "cat/deep/0.png"):
        pair(name, millimetres())
    strips = StripDepth.from_folder(tmp_path, depth_range=(1, 9999), channels=2)
    assert strips.labels == ("cat", "dog")
    assert [path.name for path in strips.paths] == ["2.jpg", "0.png", "1.png"]
    assert strips.targets.tolist() == [0, 0, 1]
    ordered = StripDepth.from_folder(tmp_path, depth_range=(1, 9999), labels=["dog", "cat"])
    assert ordered.targets.tolist() == [1, 1, 0]


def test_folder_of_depth_maps_alone_is_an_error(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(millimetres()).save(tmp_path / "cat" / "1.depth.png")
    with pytest.raises(ValueError, match=r"there are depth maps, but no pictures of class .cat."):
        StripDepth.from_folder(tmp_path, depth_range=(1, 9999))


def test_strips_with_depth_are_batched_like_others(pair):
    paths = [pair("a.png", millimetres()), pair("b.png", millimetres(28, 80), size=(28, 80))]
    strips = StripDepth(paths, depth_range=(1, 9999))
    [batch] = strip_batches(strips, max_padded_steps=1000, shuffle=False)
    assert batch.strips.shape == (2, 4, 28, 80)
    assert sorted(batch.lengths.tolist()) == [50, 80]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 3}, ValueError, r"channels is 3, but must be 2 \(grey and depth\) or 4"),
        ({"missing": "ones"}, ValueError, 'missing is \'ones\', but must be "raise" or "zeros"'),
        ({"missing_picture": 1}, ValueError, "missing_picture is 1, but must be"),
        ({"depth_range": (5, 5)}, ValueError, r"depth_range is \(5, 5\), but must be finite"),
        ({"depth_range": None}, TypeError, "depth_range is None, but must be a pair"),
        ({"depth_ending": ".depth"}, ValueError, "depth_ending is '.depth', but must end with"),
        ({"depth_ending": ".png"}, ValueError, r"by which .*a\.png is its own depth map"),
        ({"height": 0}, ValueError, "height is 0, but must be at least 1"),
        ({"paths": []}, ValueError, "paths is empty; give at least one file"),
        ({"on_error": "ignore"}, ValueError, "on_error is 'ignore', but must be"),
    ],
)
def test_wrong_arguments_are_named(pair, arguments, error, message):
    paths = [pair(depth=millimetres())]
    with pytest.raises(error, match=message):
        StripDepth(**({"paths": paths, "depth_range": (1, 9999)} | arguments))
