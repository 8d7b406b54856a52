import pytest

from fastrnn.data import StripDecodeError, StripManifest, require_classes
from fastrnn.data.manifest import StripAudioManifest
from fastrnn.data.spectrogram import LogMel


@pytest.fixture
def manifest(tmp_path, save):
    """Writes a CSV beside three images."""
    for name in ("s/1.png", "s/2.png", "s/3.png"):
        save(name)

    def write(text, encoding="utf-8"):
        path = tmp_path / "strips.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_manifest_gives_paths_labels_and_unlabelled_strips(manifest):
    strips = StripManifest(manifest("path,label\ns/1.png,dog\ns/2.png,\ns/3.png,cat\n"))
    assert strips.labels == ("cat", "dog")
    assert strips.targets.tolist() == [1, -1, 0]
    assert [path.name for path in strips.paths] == ["1.png", "2.png", "3.png"]
    assert strips[1][1] == -1


def test_spreadsheet_habits_are_understood(manifest):
    text = '\ufeffpath, label ,id\r\ns/1.png,"dog, big",1\r\n\r\n s/2.png ,cat,2\r\n'
    strips = StripManifest(manifest(text))
    assert strips.labels == ("cat", "dog, big")
    assert strips.targets.tolist() == [1, 0]


def test_root_moves_the_paths(manifest, tmp_path):
    path = manifest("path,label\n1.png,a\n")
    assert len(StripManifest(path, root=tmp_path / "s")) == 1


def test_given_labels_set_the_order(manifest):
    path = manifest("path,label\ns/1.png,a\ns/2.png,b\n")
    assert StripManifest(path, labels=["b", "x", "a"]).targets.tolist() == [2, 0]


def test_manifest_without_labels_is_a_pool_of_unlabelled_strips(manifest):
    path = manifest("path,label\ns/1.png,\ns/2.png,\n")
    assert StripManifest(path).targets.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="found none: all 2 strips are unlabelled"):
        require_classes(StripManifest(path, labels=["a", "b"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\ns/1.png,a\n", r"column label missing; .* path,label but is 'path,class'"),
        ("path;label\ns/1.png;a\n", r"columns path and label missing; .* is 'path;label'"),
        ("", "columns path and label missing"),
        ("path,label\n", r"strips\.csv lists no strips"),
        ("path,label\ns/1.png,a\n,b\n", "line 3: the path is empty"),
        ("path,label\ns/1.png\n", "line 2: 1 fields, but the first line has 2"),
        ("path,label\ns/1.png,a,b\n", "line 2: 3 fields, but the first line has 2"),
        ('path,label\n"s/1.png,a\n', "is not a CSV file in UTF-8"),
    ],
)
def test_malformed_manifest_is_an_error_that_names_the_place(manifest, text, message):
    with pytest.raises(ValueError, match=message):
        StripManifest(manifest(text))


def test_other_encodings_are_refused(manifest):
    with pytest.raises(ValueError, match=r"strips\.csv is not a CSV file in UTF-8: "):
        StripManifest(manifest("path,label\ns/1.png,größe\n", encoding="latin-1"))


def test_unknown_label_is_an_error(manifest):
    path = manifest("path,label\ns/1.png,a\ns/2.png,mouse\n")
    with pytest.raises(ValueError, match=r"csv, line 3: label 'mouse' is not among 'a', 'b'"):
        StripManifest(path, labels=["a", "b"])


def test_missing_file_is_an_error_or_skipped(manifest):
    path = manifest("path,label\ns/1.png,a\ns/nine.png,b\n")
    with pytest.raises(FileNotFoundError, match=r"csv, line 3: .*nine\.png does not exist"):
        StripManifest(path)
    strips = StripManifest(path, on_error="skip")
    assert len(strips) == 1
    assert strips.skipped[0][1] == "the file does not exist"


def test_a_file_with_two_labels_is_an_error_that_names_both_lines(manifest):
    rows = "path,label\ns/1.png,a\ns/2.png,b\n./s/1.png,b\n"
    message = r"csv, lines 2 and 4: .*1\.png is labelled 'a' and 'b'; a file has one label"
    with pytest.raises(ValueError, match=message):
        StripManifest(manifest(rows))


def test_a_file_may_be_listed_again_with_its_label_or_without(manifest):
    strips = StripManifest(manifest("path,label\ns/1.png,a\ns/1.png,a\ns/1.png,\n"))
    assert strips.targets.tolist() == [0, 0, -1]


def test_a_row_that_is_a_folder_is_an_error_that_names_the_line_or_skipped(manifest):
    path = manifest("path,label\ns/1.png,a\ns,b\n")
    with pytest.raises(IsADirectoryError, match=r"csv, line 3: .*s is a folder, but must be a fil"):
        StripManifest(path)
    assert StripManifest(path, on_error="skip").skipped[0][1] == "is a folder, but must be a file"


def test_a_manifest_is_a_path():
    for kind in (StripManifest, StripAudioManifest):
        with pytest.raises(TypeError, match="csv_path is None, but must be a path"):
            kind(None)


def test_missing_manifest_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest .*none\.csv does not exist"):
        StripManifest(tmp_path / "none.csv")


def test_manifest_of_sounds_gives_strips(manifest, save_wav, tmp_path):
    save_wav("t/1.wav", 4000)
    save_wav("t/2.wav", 8000)
    path = manifest("path,label\nt/1.wav,yes\nt/2.wav,\n")
    strips = StripAudioManifest(path, config=LogMel(hop=0.02), labels=["no", "yes"])
    assert strips.csv_path == path
    assert strips.targets.tolist() == [1, -1]
    assert strips.lengths.tolist() == [24, 49]
    moved = StripAudioManifest(manifest("path,label\n1.wav,yes\n"), root=tmp_path / "t")
    assert moved[0][0].shape == (1, 40, 48)


def test_image_in_a_manifest_of_sounds_is_an_error_or_skipped(manifest, save_wav):
    save_wav("t/1.wav")
    path = manifest("path,label\nt/1.wav,yes\ns/1.png,no\n")
    with pytest.raises(StripDecodeError, match=r"s/1\.png: not a WAV file"):
        StripAudioManifest(path)
    strips = StripAudioManifest(path, on_error="skip")
    assert [skipped.name for skipped, _ in strips.skipped] == ["1.png"]
