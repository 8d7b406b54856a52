import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from fastrnn.data import StripDecodeError, StripFiles, StripFolder, StripManifest
from fastrnn.data.image import read_image, read_image_size
from fastrnn.data.image_array import to_bytes


@pytest.fixture
def npy(tmp_path):
    """Writes an array as ``a.npy``; returns the path."""

    def write(array, **options):
        np.save(tmp_path / "a.npy", array, **options)
        return tmp_path / "a.npy"

    return write


@pytest.mark.parametrize("shape", [(28, 90), (28, 90, 1), (28, 90, 3), (56, 90), (1, 1), (28, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_read_like_the_images_that_they_came_from(npy, tmp_path, noise, shape, channels):
    pixels = noise(*shape)
    Image.fromarray(pixels.squeeze(2) if shape[2:] == (1,) else pixels).save(tmp_path / "a.png")
    path = npy(pixels)
    assert read_image_size(path) == read_image_size(tmp_path / "a.png")
    assert (read_image(path, 28, channels) == read_image(tmp_path / "a.png", 28, channels)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "1", "I;16"])
def test_an_image_as_numpy_gives_it_is_read_like_its_file(npy, tmp_path, noise, mode):
    pixels = noise(28, 40, 4)
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1])
    image.save(tmp_path / "a.png")
    wanted = read_image(tmp_path / "a.png", 28, 3)
    assert (read_image(npy(np.asarray(image)), 28, 3) == wanted).all()


def test_order_of_bytes_and_axes_in_the_file_does_not_matter(npy):
    values = np.random.default_rng(0).integers(0, 65536, (28, 40, 3)).astype(np.uint16)
    wanted = read_image(npy(values), 28, 3)
    assert (wanted == values.transpose(2, 0, 1) // 256).all()
    assert (read_image(npy(np.asfortranarray(values)), 28, 3) == wanted).all()
    assert (read_image(npy(values.astype(">u2")), 28, 3) == wanted).all()


def test_value_range_maps_arrays_of_any_type(npy):
    for dtype in (np.float16, np.float32, np.float64, np.int16, np.uint16, np.int64, np.uint8):
        path = npy(np.array([[0, 50, 100, 120]], dtype))
        assert read_image(path, 1, 1, (0, 100)).tolist() == [[[0, 128, 255, 255]]], dtype


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int8])
def test_types_without_a_natural_range_need_one(npy, dtype):
    what = "floating-point" if dtype == np.float32 else np.dtype(dtype).name
    with pytest.raises(StripDecodeError, match=rf"a\.npy: .*has {what} pixels; give value_range="):
        read_image(npy(np.zeros((28, 40), dtype)), 28, 1)


def test_infinite_values_are_clipped_but_nan_is_an_error(npy):
    path = npy(np.array([[-np.inf, 0.5, np.inf]]))
    assert read_image(path, 1, 1, (0, 1)).tolist() == [[[0, 128, 255]]]
    with pytest.raises(StripDecodeError, match=r"a\.npy: .*not a number \(NaN\)"):
        read_image(npy(np.array([[np.nan, 0.5]])), 1, 1, (0, 1))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[{}]], object), "holds Python objects, which are never loaded"),
        (np.array([["a"]]), "has dtype <U1, but an image has numbers"),
        (np.zeros((4, 5), complex), "has dtype complex128"),
        (np.zeros((4, 5), [("a", "u1")]), "has dtype .*but an image has numbers"),
        (np.zeros((4, 5), [("ä", "u1")]), "has named fields|has dtype"),
        (np.zeros(4, np.uint8), r"has shape \(4,\), but an image has \[H, W\] or \[H, W, C\]"),
        (np.zeros((3, 28, 90), np.uint8), r"has shape \(3, 28, 90\)"),
        (np.zeros((28, 0), np.uint8), r"has shape \(28, 0\)"),
        (np.zeros((), np.uint8), r"has shape \(\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
def test_arrays_that_are_no_image_are_refused_by_their_header(npy, array, reason):
    path = npy(array)
    for read in (read_image_size, lambda path: read_image(path, 28, 1)):
        with pytest.raises(StripDecodeError, match=rf"a\.npy: can't be decoded \(.*{reason}"):
            read(path)


def test_alpha_of_more_than_bytes_is_refused(npy):
    with pytest.raises(StripDecodeError, match="has 4 channels of uint16; alpha is"):
        read_image(npy(np.zeros((4, 5, 4), np.uint16)), 4, 3)


@pytest.mark.parametrize("keep", [0, 4, 20, 100, 128, 140, 250])
def test_truncated_array_is_reported_by_its_header(npy, keep):
    path = npy(np.zeros((8, 16), np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    reason = "the file is empty" if not keep else r"can't be decoded \(.*"
    if keep >= 128:
        reason += f"takes 128 bytes, but the file holds {keep - 128}"
    with pytest.raises(StripDecodeError, match=rf"a\.npy: {reason}"):
        read_image_size(path)


def test_other_files_are_not_taken_for_arrays(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"this is no array at all")
    with pytest.raises(StripDecodeError, match=r"a\.npy: can't be decoded \(the magic string"):
        read_image(tmp_path / "a.npy", 28, 1)
    with pytest.raises(StripDecodeError, match=r"b\.npy: the file does not exist"):
        read_image_size(tmp_path / "b.npy")


def test_an_unknown_version_is_damage(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPYxx")
    with pytest.raises(StripDecodeError, match=r"a\.npy: .*damaged, or not an array of NumPy's"):
        read_image_size(tmp_path / "a.npy")


def test_arrays_and_value_ranges_work_in_every_dataset_of_files(tmp_path, noise):
    deep = noise(28, 60).astype(np.uint16) * 4
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "1.npy", deep)
    (tmp_path / "list.csv").write_text("path,label\ncat/1.npy,cat\ndog/1.npy,dog\n")
    wanted = np.clip(deep / 1000, 0, 1) * 255
    for strips in (
        StripFiles([tmp_path / "cat" / "1.npy"], value_range=(0, 1000)),
        StripFolder(tmp_path, value_range=(0, 1000)),
        StripManifest(tmp_path / "list.csv", value_range=(0, 1000)),
    ):
        assert strips.lengths[0] == 60
        assert abs(strips[len(strips) - 1][0][0].numpy() - wanted).max() <= 0.5


def test_arrays_that_need_a_value_range_are_skipped_without_one(tmp_path, save):
    np.save(tmp_path / "float.npy", np.zeros((28, 40)))
    strips = StripFiles([tmp_path / "float.npy", save("a.png")], on_error="skip")
    assert len(strips) == 1
    assert "give value_range" in strips.skipped[0][1]


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_mapping_is_monotonic_and_reaches_both_ends(values, low, width):
    mapped = to_bytes(values, (low, low + width)).astype(int)
    order = np.argsort(values, axis=None)
    assert (np.diff(mapped.ravel()[order]) >= 0).all()
    assert (mapped[values <= low] == 0).all()
    assert (mapped[values >= low + width] == 255).all()
