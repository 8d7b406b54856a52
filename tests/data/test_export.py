import numpy as np
import pytest

from fastrnn.data import (
    StripArrays,
    StripDigits,
    StripFiles,
    StripFolder,
    StripManifest,
    StripSubset,
    export_strips,
)


def test_exported_folder_and_manifest_give_the_strips_back(tmp_path):
    digits = StripDigits("test", size=40)
    manifest = export_strips(digits, tmp_path / "deep" / "strips")
    listed = StripManifest(manifest)
    assert listed.labels == digits.labels
    assert listed.targets.tolist() == digits.targets.tolist()
    assert all((listed[k][0] == digits[k][0]).all() for k in range(40))
    folder = StripFolder(tmp_path / "deep" / "strips")
    assert folder.labels == digits.labels
    assert np.bincount(folder.targets).tolist() == np.bincount(digits.targets).tolist()


def test_unlabelled_and_colour_strips_are_exported(tmp_path, noise):
    colour = StripArrays([noise(3, 28, 50), noise(3, 28, 60)], ["cat", ""])
    manifest = export_strips(colour, tmp_path / "strips")
    listed = StripManifest(manifest, channels=3)
    assert listed.targets.tolist() == [0, -1]
    assert listed.paths[1].parent.name == "unlabelled"
    assert (listed[1][0] == colour[1][0]).all()


def test_existing_content_is_never_overwritten(tmp_path, save):
    save("strips/a.png")
    with pytest.raises(FileExistsError, match="exists already and is not an empty folder"):
        export_strips(StripDigits("test", size=2), tmp_path / "strips")
    (tmp_path / "empty").mkdir()
    export_strips(StripDigits("test", size=2), tmp_path / "empty")
    assert (tmp_path / "empty" / "manifest.csv").exists()


def test_failure_leaves_nothing_behind(tmp_path, damage):
    strips = StripFiles([damage("bad/cut.png", "truncated")])
    with pytest.raises(ValueError, match=r"cut\.png"):
        export_strips(strips, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize("label", ["a/b", "..", ".hidden", "unlabelled"])
def test_label_that_cannot_name_a_folder_is_an_error(tmp_path, noise, label):
    with pytest.raises(ValueError, match="can't be the name of a class folder"):
        export_strips(StripArrays([noise(4, 9)], [label]), tmp_path / "out")


def test_channels_that_png_lacks_are_an_error(tmp_path, noise):
    with pytest.raises(ValueError, match="the strips have 2 channels, but PNG files need 1"):
        export_strips(StripArrays([noise(2, 4, 9)], [0]), tmp_path / "out")


def test_subset_keeps_its_own_targets(tmp_path):
    hidden = StripSubset(StripDigits("test", size=3), [0, 1, 2], targets=[-1, 5, -1])
    listed = StripManifest(export_strips(hidden, tmp_path / "out"), labels=hidden.labels)
    assert listed.targets.tolist() == [-1, 5, -1]
