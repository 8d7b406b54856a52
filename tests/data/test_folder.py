import pytest

from fastrnn.data import StripDecodeError, StripFolder, find_images, require_classes
from fastrnn.data.folder import StripAudioFolder, find_files
from fastrnn.data.spectrogram import LogMel


@pytest.fixture
def root(tmp_path, save):
    for number, name in enumerate(["dog/b.png", "cat/2.JPG", "cat/1.png", "cat/deep/0.png"]):
        save(name, 40 + number)
    return tmp_path


def test_class_folders_become_sorted_labels(root):
    strips = StripFolder(root)
    assert strips.labels == ("cat", "dog")
    found = [path.relative_to(root).as_posix() for path in strips.paths]
    assert found == ["cat/1.png", "cat/2.JPG", "cat/deep/0.png", "dog/b.png"]
    assert strips.targets.tolist() == [0, 0, 0, 1]
    assert strips.lengths.tolist() == [42, 41, 43, 40]
    require_classes(strips)


def test_files_that_are_no_images_and_hidden_ones_are_passed_over(root, save):
    (root / "notes.txt").write_text("x")
    (root / "cat" / "Thumbs.db").write_text("x")
    save(".hidden/1.png")
    save("cat/.trash/1.png")
    save("cat/._1.png")
    assert len(StripFolder(root)) == 4


def test_given_labels_set_the_order_and_may_lack_a_folder(root):
    strips = StripFolder(root, labels=["dog", "eel", "cat"])
    assert strips.labels == ("dog", "eel", "cat")
    assert strips.targets.tolist() == [2, 2, 2, 0]


def test_class_folder_that_is_not_among_the_labels_is_an_error(root):
    with pytest.raises(
        ValueError, match=r"class folder .*dog is not among the labels 'cat', 'eel'"
    ):
        StripFolder(root, labels=["cat", "eel"])


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        StripFolder(tmp_path / "nowhere")


def test_file_instead_of_a_folder_is_an_error(save):
    with pytest.raises(NotADirectoryError, match=r"a\.png is a file, but must be a folder"):
        StripFolder(save("a.png"))


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"folder .* is empty; it should hold one folder of images"
    ):
        StripFolder(tmp_path)


def test_folder_without_class_folders_is_an_error(tmp_path, save):
    save("a.png")
    with pytest.raises(ValueError, match=r"has no class folders \(only files such as a\.png\)"):
        StripFolder(tmp_path)


def test_class_folder_without_images_is_an_error(root):
    (root / "eel").mkdir()
    with pytest.raises(
        ValueError, match=r"there are no images in .*eel \(endings looked for: \.bmp"
    ):
        StripFolder(root)


def test_one_class_can_be_opened_but_not_trained_on(tmp_path, save):
    save("cat/1.png")
    save("cat/2.png")
    strips = StripFolder(tmp_path)
    with pytest.raises(ValueError, match=r"at least two classes, found one: 'cat' \(2 strips\)"):
        require_classes(strips)


@pytest.mark.parametrize("how", ["truncated", "text", "empty"])
def test_damaged_file_is_reported_by_path_or_skipped(root, damage, how):
    bad = damage("dog/bad.png", how)
    with pytest.raises(StripDecodeError, match=r"dog/bad\.png: "):
        [strip for strip, _ in StripFolder(root)]
    strips = StripFolder(root, on_error="skip")
    assert len(strips) == 4
    assert [path for path, _ in strips.skipped] == [bad]


def test_find_images_lists_a_folder_in_order(root):
    names = [path.name for path in find_images(root)]
    assert names == ["1.png", "2.JPG", "0.png", "b.png"]


@pytest.fixture
def sounds(tmp_path, save_wav):
    for number, name in enumerate(["yes/b.wav", "no/2.WAV", "no/1.wave", "no/deep/0.wav"]):
        save_wav(name, 4000 + 800 * number)
    (tmp_path / "no" / "notes.txt").write_text("x")
    return tmp_path


def test_class_folders_of_sounds_become_strips(sounds):
    strips = StripAudioFolder(sounds, config=LogMel(n_mels=32))
    assert strips.labels == ("no", "yes")
    assert strips.root == sounds
    found = [path.relative_to(sounds).as_posix() for path in strips.paths]
    assert found == ["no/1.wave", "no/2.WAV", "no/deep/0.wav", "yes/b.wav"]
    assert strips.targets.tolist() == [0, 0, 0, 1]
    assert strips.lengths.tolist() == [68, 58, 78, 48]
    assert strips[3][0].shape == (1, 32, 48)
    assert StripAudioFolder(sounds, labels=["yes", "no"]).targets.tolist() == [1, 1, 1, 0]


def test_damaged_sound_is_reported_by_path_or_skipped(sounds):
    bad = sounds / "yes" / "bad.wav"
    bad.write_bytes(b"RIFF")
    with pytest.raises(StripDecodeError, match=r"yes/bad\.wav: not a WAV file"):
        StripAudioFolder(sounds)
    strips = StripAudioFolder(sounds, on_error="skip")
    assert strips.skipped == ((bad, "not a WAV file"),)
    assert len(strips) == 4


@pytest.mark.parametrize(
    ("dataset", "kind", "other"),
    [
        (StripFolder, "images such as a.png", "sounds such as deep/b.wav"),
        (StripAudioFolder, "sounds such as deep/b.wav", "images such as a.png"),
    ],
)
def test_folder_that_mixes_images_and_sounds_is_an_error(
    tmp_path, save, save_wav, dataset, kind, other
):
    save("cat/a.png")
    save_wav("cat/deep/b.wav")
    with pytest.raises(ValueError, match=f"cat mixes {kind} with {other}; put each kind into a"):
        dataset(tmp_path)


def test_folder_of_the_other_kind_is_an_error_that_says_so(root, sounds):
    with pytest.raises(ValueError, match=r"no images in .*no \(.*\), but sounds such as 1\.wave$"):
        find_images(sounds / "no")
    with pytest.raises(
        ValueError, match=r"no sounds in .*cat \(.*: \.wav, \.wave\), but images such as 1\.png$"
    ):
        StripAudioFolder(root)


def test_empty_folder_of_sounds_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="it should hold one folder of sounds per class"):
        StripAudioFolder(tmp_path)


def test_unknown_kind_of_files_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="kind is 'films', but must be 'images' or 'sounds'"):
        find_files(tmp_path, "films")


def test_images_and_videos_are_kept_apart_but_gif_is_both(tmp_path, save):
    save("cat/1.gif")
    assert len(find_files(tmp_path, "images")) == len(find_files(tmp_path, "videos")) == 1
    (tmp_path / "cat" / "clip.mp4").touch()
    assert len(find_files(tmp_path, "videos")) == 2
    with pytest.raises(
        ValueError, match=r"mixes images such as cat/1\.gif with videos such as cat/c"
    ):
        find_files(tmp_path, "images")


@pytest.mark.parametrize("kind", [StripFolder, StripAudioFolder])
def test_a_folder_is_a_path(kind):
    with pytest.raises(TypeError, match="root is None, but must be a path"):
        kind(None)
