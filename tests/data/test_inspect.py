import json
import shutil

import pytest
from PIL import Image

from fastrnn.data import StripArrays, StripFiles, StripMNIST, StripSubset
from fastrnn.data.inspect import inspect_dataset, inspect_source
from fastrnn.data.shard_writing import write_shards
from fastrnn.data.shards import StripShards


@pytest.fixture
def folder(save, tmp_path):
    """Class folders a (3 strips) and b (2 strips), 40 to 44 columns wide."""
    for number, name in enumerate(("a/1.png", "a/2.png", "a/deep/3.png", "b/1.png", "b/2.png")):
        save(f"data/{name}", 40 + number)
    return tmp_path / "data"


def test_sound_folder_is_counted_and_nothing_is_warned_of(folder):
    report = inspect_source(folder)
    (part,) = report.parts
    assert (part.name, part.strips, part.unlabelled) == ("data", 5, 0)
    assert part.classes == {"a": 3, "b": 2}
    assert part.imbalance == 1.5
    assert part.heights == {28: 5}
    assert part.modes == {"L": 5}
    assert part.width_percentiles == {0: 40, 5: 40.2, 25: 41, 50: 42, 75: 43, 95: 43.8, 100: 44}
    assert report.width_edges == (40, 41, 42, 43, 44, 45)
    assert part.width_counts == (1, 1, 1, 1, 1)
    assert (part.copies, part.blank, part.unreadable) == (0, (), ())
    assert (report.copies, report.shared, report.contradictions) == ((), (), ())
    assert report.warnings == ()


def test_report_goes_into_json(folder, damage):
    damage("data/a/bad.png", "text")
    shutil.copy(folder / "a/1.png", folder / "b/3.png")
    report = inspect_source(folder)
    stored = json.loads(json.dumps(report.as_json()))
    assert stored["parts"][0]["classes"] == {"a": 3, "b": 3}
    assert stored["warnings"] == list(report.warnings)
    assert stored["contradictions"][0][1]["label"] == "b"


def test_unreadable_files_are_listed_with_reasons(folder, damage):
    damage("data/a/cut.png", "truncated")
    damage("data/b/text.png", "text")
    report = inspect_source(folder)
    (part,) = report.parts
    assert part.strips == 5
    assert [path.rpartition("/")[2] for path, _ in part.unreadable] == ["cut.png", "text.png"]
    (warning,) = report.warnings
    assert warning.startswith("2 files in data can't be read, for instance ")
    assert "cut.png: can't be decoded (image file is truncated" in warning


def test_copies_are_found_whatever_the_file_format(folder):
    with Image.open(folder / "a/1.png") as image:
        image.save(folder / "a/1.bmp")
        image.convert("RGB").save(folder / "a/rgb.png")
    turned = Image.open(folder / "a/2.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.transpose(Image.Transpose.ROTATE_180).save(folder / "a/turned.png", exif=exif)
    report = inspect_source(folder)
    groups = [[copy.name.rpartition("/")[2] for copy in group] for group in report.copies]
    assert groups == [["1.bmp", "1.png", "rgb.png"], ["2.png", "turned.png"]]
    assert report.parts[0].copies == 3
    assert report.parts[0].modes == {"L": 7, "RGB": 1}
    (warning,) = report.warnings
    assert warning.startswith("3 strips are copies of others in data, for instance ")
    assert warning.endswith(f"{folder}/a/1.png of {folder}/a/1.bmp")


def test_one_other_pixel_or_shape_is_no_copy(tmp_path, noise):
    pixels = noise(28, 30)
    (tmp_path / "a").mkdir()
    for number in range(3):
        changed = pixels.copy()
        changed[3, number] ^= 1
        Image.fromarray(changed).save(tmp_path / f"a/{number}.png")
    Image.fromarray(pixels.reshape(30, 28)).save(tmp_path / "a/turned.png")
    assert inspect_source(tmp_path).copies == ()


def test_copies_with_another_label_are_contradictions(folder):
    shutil.copy(folder / "a/1.png", folder / "b/other.png")
    report = inspect_source(folder)
    ((first, second),) = report.contradictions
    assert (first.label, second.label) == ("a", "b")
    assert report.warnings[1] == (
        f"1 strip with copies under another label, for instance {folder}/a/1.png ('a') and "
        f"{folder}/b/other.png ('b')"
    )


def test_unlabelled_copy_contradicts_nothing(noise):
    strip = noise(4, 9)
    report = inspect_dataset(StripArrays([strip, strip, noise(4, 9)], ["a", "", "b"]))
    assert report.contradictions == ()
    assert report.parts[0].unlabelled == 1
    assert report.parts[0].copies == 1


def test_blank_strips_are_of_one_colour(tmp_path, folder):
    Image.new("L", (50, 28), 0).save(folder / "a/black.png")
    Image.new("RGB", (50, 28), (9, 200, 0)).save(folder / "a/green.png")
    Image.new("L", (50, 28), 7).save(folder / "a/dot.png")
    with Image.open(folder / "a/dot.png") as image:
        image.putpixel((49, 27), 8)
        image.save(folder / "a/dot.png")
    report = inspect_source(folder)
    assert [name.rpartition("/")[2] for name in report.parts[0].blank] == ["black.png", "green.png"]
    assert report.warnings[0].startswith("2 strips are blank (all pixels alike) in data, for inst")


class TestParts:
    @pytest.fixture
    def parts(self, save, tmp_path):
        """Train, val and test folders of the classes a and b, two strips each."""
        for part in ("test", "train", "val"):
            for label in "ab":
                for number in range(2):
                    save(f"split/{part}/{label}/{number}.png")
        return tmp_path / "split"

    def test_folders_called_like_parts_are_parts_training_first(self, parts):
        report = inspect_source(parts)
        assert [part.name for part in report.parts] == ["train", "val", "test"]
        assert [part.classes for part in report.parts] == [{"a": 2, "b": 2}] * 3
        assert report.warnings == ()

    def test_strips_in_two_parts_are_found(self, parts):
        for number in range(2):
            shutil.copy(parts / f"train/a/{number}.png", parts / f"test/a/x{number}.png")
        report = inspect_source(parts)
        assert report.shared == (("train", "test", 2),)
        assert [part.copies for part in report.parts] == [0, 0, 0]
        (warning,) = report.warnings
        assert warning == (
            f"2 strips are in both train and test, for instance {parts}/train/a/0.png and "
            f"{parts}/test/a/x0.png"
        )

    def test_classes_of_one_part_only_are_named(self, parts, save):
        for number in range(2):
            save(f"split/test/zebra/{number}.png")
            save(f"split/train/yak/{number}.png")
        assert inspect_source(parts).warnings == (
            "class 'yak' has strips in train, but none in val",
            "class 'zebra' has strips in test, but none in train",
            "class 'yak' has strips in train, but none in test",
        )

    def test_other_folders_are_parts_too(self, parts, folder):
        (folder / "b/1.png").write_bytes((parts / "val/b/1.png").read_bytes())
        report = inspect_source(parts / "train", against=[parts / "val", folder])
        names = [str(path) for path in (parts / "train", parts / "val", folder)]
        assert [part.name for part in report.parts] == names
        assert report.shared == ((names[1], names[2], 1),)

    def test_parts_beside_other_folders_are_classes_with_a_warning(self, parts, save):
        save("split/zoo/1.png")
        report = inspect_source(parts)
        assert list(report.parts[0].classes) == ["test", "train", "val", "zoo"]
        assert report.warnings[0] == (
            f"'test', 'train', 'val' in {parts} look like parts of the data, but are taken for "
            "classes, since zoo lies beside them"
        )


def test_folder_of_images_alone_is_unlabelled(save, tmp_path):
    save("pool/1.png")
    save("pool/2.png")
    report = inspect_source(tmp_path / "pool")
    assert (report.parts[0].unlabelled, report.parts[0].classes) == (2, {})
    assert report.parts[0].imbalance is None
    assert report.warnings == ()


def test_what_training_passes_over_or_takes_for_a_class_is_warned_of(folder, save):
    save("data/stray.png")
    save("data/unlabelled/1.png")
    (folder / "empty").mkdir()
    report = inspect_source(folder)
    assert report.parts[0].classes == {"a": 3, "b": 2, "empty": 0}
    assert report.parts[0].unlabelled == 1
    assert report.warnings == (
        f"1 image directly in {folder}, beside the class folders, where training reads nothing",
        f"{folder}/unlabelled is a class of this name to whoever trains on the folder; train on a "
        "list of the images (a CSV file), or move it",
        "class 'empty' has no strips in data",
    )


@pytest.mark.parametrize(
    ("targets", "warnings"),
    [
        ([0, 0, 1, 1], []),
        ([0, 0, 0, 1], ["class 'b' has 1 strip in data"]),
        ([0, 1], ["classes 'a', 'b' have 1 strip in data"]),
        (
            [0, 0],
            [
                "class 'b' has no strips in data",
                "all labelled strips in data are of one class, 'a'",
            ],
        ),
        (
            [0] * 24 + [1] * 2,
            ["class 'a' has 12 times as many strips in data as 'b' (24 and 2)"],
        ),
        ([0] * 20 + [1] * 2, []),
        ([-1, -1], ["classes 'a', 'b' have no strips in data"]),
    ],
)
def test_classes_with_few_strips_are_named(noise, targets, warnings):
    strips = StripArrays([noise(4, 9) for _ in targets], targets, ["a", "b"])
    assert list(inspect_dataset(strips).warnings) == warnings


def test_datasets_are_inspected_as_they_are_read(tmp_path, save, damage, noise):
    damage("cut.png", "truncated")
    files = StripFiles([save("1.png", 50), tmp_path / "cut.png"], height=14)
    rgbd = StripArrays([noise(4, 6, 9)], [-1], ["x"])
    report = inspect_dataset({"files": files, "rgbd": rgbd})
    first, second = report.parts
    assert (first.heights, first.modes, first.width_percentiles[50]) == ({14: 1}, {"L": 1}, 25)
    assert first.unreadable[0][0] == str(tmp_path / "cut.png")
    assert (second.heights, second.modes) == ({6: 1}, {"4 channels": 1})


def test_what_was_skipped_when_opening_is_listed(save, damage):
    files = StripFiles([save("1.png"), damage("cut.png", "truncated")], on_error="skip")
    ((path, reason),) = inspect_dataset(files).parts[0].unreadable
    assert path.endswith("cut.png")
    assert "truncated" in reason


def test_strips_in_shards_are_named_by_shard_and_key(tmp_path, noise):
    strip = noise(28, 9)
    write_shards(StripArrays([strip, noise(28, 8), strip], [0, 0, 1]), tmp_path / "s")
    report = inspect_dataset(StripShards(tmp_path / "s"))
    shard = tmp_path / "s" / "strips-000000.tar"
    assert [copy.name for copy in report.copies[0]] == [f"{shard}: 00000000", f"{shard}: 00000002"]


def test_nothing_readable_is_a_report_too(damage, tmp_path):
    damage("data/a/1.png", "text")
    report = inspect_source(tmp_path / "data")
    assert (report.width_edges, report.parts[0].width_percentiles) == ((), {})
    assert report.parts[0].strips == 0


def test_progress_is_told(folder):
    steps = []
    inspect_source(folder, on_strip=lambda done, total: steps.append((done, total)))
    assert steps == [(number, 5) for number in range(1, 6)]


def test_sources_that_cannot_be_inspected_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: give a folder"):
        inspect_source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"1\.png is a file, but not a CSV file: give a folder"):
        inspect_source(folder / "a/1.png")
    with pytest.raises(FileNotFoundError, match=r"shard .*none\.tar does not exist"):
        inspect_source(tmp_path / "none.tar")
    with pytest.raises(TypeError, match="source is None, but must be a path"):
        inspect_source(None)
    with pytest.raises(ValueError, match=r"data/\.\./data is given twice"):
        inspect_source(folder, against=[folder / "../data"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder .*empty is empty"):
        inspect_source(tmp_path / "empty")
    with pytest.raises(ValueError, match="datasets is empty"):
        inspect_dataset({})


def test_real_digits_hold_no_copies_across_splits(mnist_root):
    train, test = (StripMNIST(mnist_root, split, size=150) for split in ("train", "test"))
    report = inspect_dataset({"train": train, "test": test})
    assert (report.shared, report.copies) == ((), ())
    leaky = inspect_dataset({"train": train, "test": StripSubset(train, [7, 8])})
    assert leaky.shared == (("train", "test", 2),)
