import pytest

from fastrnn.data.finding import depth_ending, detect_kind


@pytest.fixture
def touch(tmp_path):
    """Makes empty files under the test's folder, which is returned."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a/1.png", "b/2.JPG", "b/deep/3.npy", "notes.txt"], "images"),
        (["a/1.wav", "b/2.WAVE", "b/.hidden.png"], "sounds"),
        (["a/1.mp4", "b/2.mov"], "videos"),
        (["a/1.gif", "b/2.mp4"], "videos"),
        (["a/1.gif", "b/2.png"], "images"),
        (["a/1.gif", "b/2.gif"], "images"),
        (["a/1.png", "a/1.depth.png", "b/2.png"], "depth"),
        (["a/1.jpg", "a/1.depth.npy"], "depth"),
        (["a/1.depth.png", "b/2.png"], "images"),
    ],
)
def test_endings_tell_the_kind(touch, names, kind):
    assert detect_kind(touch(*names)) == kind


def test_gif_files_alone_may_be_wanted_as_videos(touch):
    assert detect_kind(touch("a/1.gif"), gif="videos") == "videos"
    assert detect_kind(touch("a/2.png"), gif="videos") == "images"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a/1.png", "b/2.wav"],
            r"images such as .*a/1\.png with sounds such as .*b/2\.wav; put",
        ),
        (
            ["a/1.png", "b/1.gif", "b/2.mp4"],
            r"mixes images such as .*1\.png with videos such as",
        ),
        (
            ["a/1.gif", "b/2.wav"],
            r"mixes images or videos such as .*1\.gif with sounds",
        ),
        (["a/notes.txt"], "holds no images, sounds or videos$"),
        ([], "is empty; it should hold one folder of files per class"),
    ],
)
def test_folder_of_several_kinds_or_of_none_is_an_error(touch, names, message):
    with pytest.raises(ValueError, match=message):
        detect_kind(touch(*names))


def test_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        detect_kind(tmp_path / "nowhere")


def test_a_manifest_has_a_kind_too(touch, tmp_path):
    manifest = tmp_path / "some.csv"
    touch("clips/1.mp4", "scans/1.png", "scans/1.depth.tif", "scans/2.png")
    for lines, kind in (
        ("clips/1.mp4,a", "videos"),
        ("scans/2.png,a", "images"),
        ("scans/2.png,a\nscans/1.png,", "depth"),
        ("scan.dat,a", "images"),
        ("missing/1.wav,a", "sounds"),
    ):
        manifest.write_text(f"path,label\n{lines}\n")
        assert detect_kind(manifest) == kind
    manifest.write_text("path,label\nclips/1.mp4,a\nscans/1.png,b\n")
    with pytest.raises(ValueError, match=r"some\.csv mixes videos such as .*1\.mp4 with images"):
        detect_kind(manifest)


def test_the_ending_of_depth_maps_is_found_and_must_be_one(touch):
    assert depth_ending(touch("a/1.png", "a/1.Depth.PNG", "a/2.depth.x")) == ".Depth.PNG"
    with pytest.raises(ValueError, match=r"end in '\.Depth\.PNG', '\.depth\.npy'; give all the"):
        depth_ending(touch("b/1.png", "b/1.depth.npy"))
    with pytest.raises(ValueError, match=r"there are no depth maps such as a\.depth\.png"):
        depth_ending(touch("c/1.png") / "c")
