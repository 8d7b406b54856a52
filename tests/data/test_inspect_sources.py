import shutil

import numpy as np
import pytest
from PIL import Image

from fastrnn.data import StripArrays, StripFolder, detect_kind
from fastrnn.data.audio import SoundReader
from fastrnn.data.inspect import inspect_source
from fastrnn.data.shard_writing import write_shards


def names_of(group):
    return [copy.name.rpartition("/")[2] for copy in group]


def unreadable(part):
    return [(name.rpartition("/")[2], reason) for name, reason in part.unreadable]


class TestSounds:
    def test_widths_are_those_of_the_spectrogram(self, save_wav, tmp_path):
        save_wav("s/a/1.wav", 4000)
        save_wav("s/b/1.wav", 12000, rate=16000)
        (part,) = inspect_source(tmp_path / "s").parts
        widths = SoundReader().open_folder(tmp_path / "s").lengths
        assert part.width_percentiles[0] == min(widths)
        assert part.width_percentiles[100] == max(widths) > min(widths)
        assert part.heights == {40: 2}
        assert part.modes == {"16,000 Hz": 1, "8,000 Hz": 1}
        assert part.classes == {"a": 1, "b": 1}

    def test_copies_and_damage_are_found(self, save_wav, tmp_path):
        first = save_wav("s/a/1.wav")
        save_wav("s/b/1.wav")
        shutil.copy(first, tmp_path / "s/b/2.wav")
        (tmp_path / "s/a/bad.wav").write_bytes(b"no sound")
        report = inspect_source(tmp_path / "s")
        assert [names_of(group) for group in report.contradictions] == [["1.wav", "2.wav"]]
        assert unreadable(report.parts[0]) == [("bad.wav", "not a WAV file")]


def test_videos_are_read_frame_by_frame(write_clip, moving, tmp_path):
    first = write_clip("v/a/1.avi", moving(4))
    write_clip("v/b/1.avi", moving(6)[::-1].copy())
    shutil.copy(first, tmp_path / "v/b/2.avi")
    (tmp_path / "v/b/bad.avi").write_bytes(b"no video")
    report = inspect_source(tmp_path / "v")
    (part,) = report.parts
    assert (part.strips, part.classes) == (3, {"a": 1, "b": 2})
    columns = round(64 * 28 / 48)
    assert (part.width_percentiles[0], part.width_percentiles[100]) == (4 * columns, 6 * columns)
    assert part.modes == {"frames of 64 x 48": 3}
    assert [names_of(group) for group in report.contradictions] == [["1.avi", "2.avi"]]
    assert [name for name, _ in unreadable(part)] == ["bad.avi"]


class TestDepth:
    @pytest.fixture
    def rgbd(self, save, tmp_path):
        """Three pictures of two classes, each with a depth map."""
        for number, name in enumerate(("a/1", "a/2", "b/1")):
            save(f"d/{name}.png")
            depth = np.arange(28 * 50, dtype=np.uint16).reshape(28, 50) + number
            Image.fromarray(depth).save(tmp_path / f"d/{name}.depth.png")
        return tmp_path / "d"

    def test_a_depth_map_belongs_to_its_picture(self, rgbd):
        (part,) = inspect_source(rgbd).parts
        assert (part.strips, part.classes) == (3, {"a": 2, "b": 1})
        assert part.modes == {"L + depth": 3}

    def test_copies_have_the_same_depth_too(self, rgbd):
        shutil.copy(rgbd / "a/1.png", rgbd / "a/2.png")
        assert inspect_source(rgbd).copies == ()
        shutil.copy(rgbd / "a/1.depth.png", rgbd / "a/2.depth.png")
        assert [names_of(group) for group in inspect_source(rgbd).copies] == [["1.png", "2.png"]]

    def test_missing_and_unfitting_depth_maps_are_reported(self, rgbd):
        (rgbd / "a/1.depth.png").unlink()
        Image.fromarray(np.zeros((50, 28), np.uint16)).save(rgbd / "b/1.depth.png")
        (first, lost), (second, unfit) = unreadable(inspect_source(rgbd).parts[0])
        assert (first, second) == ("1.png", "1.png")
        assert lost.startswith("the depth map of 1.png does not exist")
        assert "does not cover 1.png" in unfit

    def test_a_blank_picture_with_depths_is_not_blank(self, rgbd):
        Image.new("L", (50, 28)).save(rgbd / "b/1.png")
        assert inspect_source(rgbd).parts[0].blank == ()
        Image.fromarray(np.full((28, 50), 9, np.uint16)).save(rgbd / "b/1.depth.png")
        assert len(inspect_source(rgbd).parts[0].blank) == 1


class TestManifests:
    def test_rows_are_named_by_their_line(self, save, damage, tmp_path):
        save("1.png", 40)
        damage("cut.png", "truncated")
        csv = tmp_path / "list.csv"
        csv.write_text("path,label\n1.png,a\ncut.png,a\nnone.png,b\n.,b\n")
        (part,) = inspect_source(csv).parts
        assert (part.name, part.classes) == ("list.csv", {"a": 1, "b": 0})
        cut, none, folder = part.unreadable
        assert cut[0] == f"{csv}, line 3: {tmp_path}/cut.png"
        assert none == (f"{csv}, line 4: {tmp_path}/none.png", "the file does not exist")
        assert folder == (f"{csv}, line 5: {tmp_path}", "is a folder, but must be a file")

    def test_a_file_listed_with_two_labels_contradicts_itself(self, save, tmp_path):
        save("1.png")
        csv = tmp_path / "list.csv"
        csv.write_text("path,label\n1.png,a\n1.png,b\n")
        report = inspect_source(csv)
        assert [copy.label for copy in report.contradictions[0]] == ["a", "b"]
        assert f"{csv}, line 2: {tmp_path}/1.png ('a') and {csv}, line 3:" in report.warnings[-1]

    def test_sounds_may_be_listed_and_rows_have_no_label(self, save_wav, tmp_path):
        save_wav("1.wav")
        save_wav("2.wav")
        (tmp_path / "list.csv").write_text("path,label\n1.wav,yes\n2.wav,\n")
        (part,) = inspect_source(tmp_path / "list.csv").parts
        assert (part.classes, part.unlabelled) == ({"yes": 1}, 1)


class TestShards:
    @pytest.fixture
    def images(self, save, tmp_path):
        """Class folders of two images each."""
        for label in "ab":
            for number in range(2):
                save(f"images/{label}/{number}.png", 40 + number)
        return tmp_path / "images"

    @pytest.mark.parametrize("form", ["tar", "npz"])
    def test_strips_are_those_of_the_folder_that_they_came_from(self, images, tmp_path, form):
        write_shards(StripFolder(images), tmp_path / form, format=form, max_strips=3)
        report = inspect_source(images, against=[tmp_path / form])
        folder, shards = report.parts
        assert (shards.strips, shards.classes) == (4, {"a": 2, "b": 2})
        assert (shards.heights, shards.width_counts) == (folder.heights, folder.width_counts)
        assert shards.modes == {"L": 4}
        assert report.shared == ((str(images), str(tmp_path / form), 4),)
        assert names_of(report.copies[0])[1].startswith(f"strips-000000.{form}: 0")

    def test_images_in_a_tar_are_seen_in_their_own_size(self, write_tar, png):
        members = [("1.png", png(50, 35)), ("1.cls", b"0"), ("2.png", b"no"), ("2.cls", b"1")]
        path = write_tar("a.tar", members)
        (part,) = inspect_source(path).parts
        assert (part.name, part.heights, part.classes) == ("a.tar", {35: 1}, {"0": 1, "1": 0})
        ((name, reason),) = part.unreadable
        assert name == f"{path}: 2"
        assert reason.startswith("sample '2': not an image")

    def test_a_damaged_shard_does_not_hide_the_others(self, tmp_path, noise):
        strips = StripArrays([noise(2, 28, 9 + k) for k in range(3)], [0, 1, -1])
        write_shards(strips, tmp_path / "s", format="npz")
        (tmp_path / "s/damaged.npz").write_bytes(b"words")
        (tmp_path / "s/damaged.tar").write_bytes(b"words")
        (part,) = inspect_source(tmp_path / "s").parts
        assert (part.strips, part.unlabelled, part.modes) == (3, 1, {"2 channels": 3})
        assert sorted(name for name, _ in unreadable(part)) == ["damaged.npz", "damaged.tar"]

    def test_folders_of_shards_may_be_parts(self, images, tmp_path):
        for part in ("test", "train"):
            write_shards(StripFolder(images), tmp_path / "split" / part)
        report = inspect_source(tmp_path / "split")
        assert [part.name for part in report.parts] == ["train", "test"]
        assert report.shared == (("train", "test", 4),)


def test_a_mixture_of_kinds_is_refused_as_by_a_training(save, save_wav, tmp_path):
    save("m/a/1.png")
    save_wav("m/b/1.wav")
    with pytest.raises(ValueError, match="mixes images") as of_training:
        detect_kind(tmp_path / "m")
    with pytest.raises(ValueError, match="mixes images") as of_inspection:
        inspect_source(tmp_path / "m")
    assert str(of_inspection.value) == str(of_training.value)


def test_what_lies_beside_class_folders_is_called_by_its_kind(save_wav, tmp_path):
    save_wav("s/a/1.wav")
    save_wav("s/stray.wav")
    assert inspect_source(tmp_path / "s").warnings[0].startswith("1 sound directly in ")
