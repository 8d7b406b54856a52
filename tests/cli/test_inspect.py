import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from fastrnn.data import write_shards


@pytest.fixture
def leaky(strips_folder, tmp_path):
    """A copy of the strips, and a folder with two of them beside it."""
    shutil.copytree(strips_folder, tmp_path / "strips")
    for label in "01":
        (tmp_path / "test" / label).mkdir(parents=True)
        shutil.copy(next((tmp_path / "strips" / label).glob("*.png")), tmp_path / "test" / label)


def test_shows_what_a_sound_folder_holds(run, strips_folder):
    outcome = run("inspect", strips_folder, "--strict")
    assert outcome.code == 0
    assert re.search(r"strips +│ +40 │", outcome.out)
    assert "Nothing to warn of" in outcome.out


def test_warns_of_strips_in_both_parts(run, leaky):
    outcome = run("inspect", "strips", "--against", "test")
    assert outcome.code == 0
    assert "warning: 2 strips are in both strips and test" in outcome.out
    assert "2 warnings" in outcome.out  # and classes of a single strip
    assert run("inspect", "strips", "--against", "test", "--strict").code == 1


def test_prints_nothing_but_json_where_that_is_asked_for(run, leaky):
    outcome = run("inspect", "strips", "--against", "test", "--json", "--output", "out")
    report = json.loads(outcome.out)
    assert report["shared"] == [["strips", "test", 2]]
    assert "Written" in outcome.err


def test_writes_report_and_picture(run, leaky, tmp_path):
    outcome = run("inspect", "strips", "--output", "out/deep")
    assert outcome.code == 0
    report = json.loads((tmp_path / "out/deep/report.json").read_text())
    assert report["parts"][0]["strips"] == 40
    with Image.open(tmp_path / "out/deep/report.png") as picture:
        assert min(picture.size) > 300


def test_damaged_files_are_warned_of_and_not_an_error(run, leaky, bad_files):
    shutil.copy(bad_files["truncated"], "strips/0/cut[b].png")
    outcome = run("inspect", "strips")
    assert outcome.code == 0
    assert "1 file in strips can't be read, for instance strips/0/cut[b].png: " in outcome.out


def test_of_many_classes_the_largest_and_smallest_are_shown(run, tmp_path):
    for number in range(50):
        (tmp_path / f"many/class{number:02d}").mkdir(parents=True)
        for copy in range(1 + (number == 30)):
            image = Image.new("L", (9, 9), number)
            image.putpixel((copy, 0), 255)
            image.save(tmp_path / f"many/class{number:02d}/{copy}.png")
    outcome = run("inspect", "many")
    assert "The largest and the smallest of 50 classes" in outcome.out
    assert "class30" in outcome.out
    assert "class25" not in outcome.out.partition("warning")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["test/0", "--against", "test/../test/0"], "test/../test/0 is given twice"),
        (["test", "--output", "test/0/000001.png"], "can't be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, leaky, tmp_path, words, message):
    (tmp_path / "test/0/000001.png").touch()
    outcome = run("inspect", *words)
    assert outcome.code == 2
    assert message in outcome.err


def test_manifests_and_shards_are_sources_too(run, digits, strips_folder, tmp_path):
    write_shards(digits, tmp_path / "shards", max_strips=25)
    manifest = strips_folder / "manifest.csv"
    outcome = run("inspect", manifest, "--against", "shards/strips-{000000..000001}.tar")
    assert outcome.code == 0
    assert f"40 strips are in both {manifest} and shards/strips-{{000000..000001}}" in outcome.out


def test_warnings_name_options(run, tmp_path):
    for label in "ab":
        (tmp_path / "deep" / label).mkdir(parents=True)
        np.save(tmp_path / "deep" / label / "1.npy", np.zeros((28, 40)))
    assert "give --value-range LOW HIGH, the values" in run("inspect", "deep").out
