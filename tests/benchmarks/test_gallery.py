import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import gallery
from fastrnn.data import StripArrays, StripSubset
from fastrnn.models import StripClassifier
from fastrnn.training import TrainingConfig

LINK = re.compile(r"!\[([\w ]+), (?:correctly|taken for ([\w ]+))\]\((.*)\)")


def blocks(count):
    """Strips whose class is the place of a block."""
    random = np.random.default_rng(count)
    strips = random.integers(0, 90, (count, 8, 40), dtype=np.uint8)
    targets = random.integers(0, 3, count)
    for strip, target in zip(strips, targets, strict=True):
        strip[:, 10 * target : 10 * target + 8] += 160
    return StripArrays(list(strips), targets, ["a", "b", "c"])


@pytest.fixture(scope="module")
def task():
    return gallery.Task(
        "blocks",
        "Blocks",
        "Strips with a block.",
        lambda: (blocks(40), blocks(30)),
        StripClassifier,
        {"hidden_size": 6},
        TrainingConfig(epochs=1, learning_rate=1e-2),
    )


@pytest.fixture(scope="module")
def written(task, tmp_path_factory):
    """The folder of a gallery of one task, in which there were other files before."""
    folder = tmp_path_factory.mktemp("docs")
    images = folder / "images" / "gallery"
    images.mkdir(parents=True)
    for name in ("old-right-1.png", "notes.txt"):
        (images / name).write_text("x")
    gallery.write_gallery([task], {}, folder / "page.md", images)
    return folder


def test_shows_what_was_right_and_what_was_wrong(written):
    links = LINK.findall((written / "page.md").read_text())
    assert len({path for _, _, path in links}) == len(links) >= 2
    for true, named, path in links:
        assert ("-right-" in path) == (named == "")
        assert named != true
        with Image.open(written / path) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)[:40]
        coloured = pixels[pixels.max(-1) - pixels.min(-1) > 60]
        assert (coloured.argmax(-1) == (0 if named else 1)).mean() > 0.9


def test_pictures_that_it_no_longer_shows_are_deleted(written):
    shown = {
        path.rpartition("/")[2] for _, _, path in LINK.findall((written / "page.md").read_text())
    }
    names = {path.name for path in (written / "images" / "gallery").iterdir()}
    assert names == shown | {"notes.txt"}


def test_says_what_the_model_is_and_how_good(written, task):
    text = (written / "page.md").read_text()
    share = re.search(
        r"## Blocks\n\nStrips with a block\. The model is a `StripClassifier` of [\d,]+ "
        r"parameters, trained on 40 strips in 1 epoch\. It gets ([\d.]+)% of 30 test strips ",
        text,
    )
    assert share is not None
    assert 0 <= float(share[1]) <= 100


def test_a_given_model_is_not_trained(task, tmp_path):
    StripClassifier(1, 8, 3, hidden_size=3, labels=["a", "b", "c"]).save(tmp_path / "model")
    untrained = dataclasses.replace(task, training=None)
    models = {"blocks": tmp_path / "model"}
    gallery.write_gallery([untrained], models, tmp_path / "page.md", tmp_path / "images")
    assert "trained" not in (tmp_path / "page.md").read_text().partition("## Blocks")[2]


def test_chooses_the_first_strips_of_different_classes():
    targets = np.array([3, 3, 1, 1, 2, 2, 0, 4, 4, 5])
    predicted = np.array([3, 3, 0, 1, 2, 0, 0, 0, 1, 1])
    strips = StripArrays([np.zeros((2, 3), np.uint8)] * 10, targets, list("abcdef"))
    assert gallery.choose(strips, predicted) == {"right": [0, 3, 4], "wrong": [2, 5]}
    assert gallery.choose(strips, targets)["wrong"] == []


def test_strips_that_are_too_wide_to_be_shown_are_passed_over():
    widths = (gallery.WIDEST + 1, gallery.WIDEST, 1)
    pictures = [np.zeros((2, width), np.uint8) for width in widths]
    strips = StripArrays(pictures, [0, 1, 2], list("abc"))
    assert gallery.choose(strips, np.array([0, 1, 2]))["right"] == [1, 2]
    assert gallery.choose(strips, np.array([1, 0, 0]))["wrong"] == [1, 2]


@pytest.mark.parametrize("name", ["rgbd", "gestures"])
def test_strips_of_depth_and_of_frames_are_shown_too(name, tmp_path):
    """With models that are given, and hardly trained."""
    (task,) = (task for task in gallery.TASKS if task.name == name)
    train, test = (StripSubset(part, range(24)) for part in task.parts())
    tiny = {"conv_channels": (2, 2), "conv_features": 4, "hidden_size": 4}
    training = TrainingConfig(epochs=1, max_padded_steps=4096)
    small = dataclasses.replace(task, settings={**task.settings, **tiny}, training=training)
    small.train(train).save(tmp_path / "model")
    shown = dataclasses.replace(small, parts=lambda: (train, test), training=None)
    models = {name: tmp_path / "model"}
    gallery.write_gallery([shown], models, tmp_path / "page.md", tmp_path / "images")
    links = LINK.findall((tmp_path / "page.md").read_text())
    assert links
    assert all({true, named} <= {*test.labels, ""} for true, named, _ in links)
    assert all((tmp_path / path).stat().st_size > 2000 for _, _, path in links)


@pytest.mark.parametrize("word", ["strip-mnist", "digits=model"])
def test_a_model_of_no_task_is_a_usage_error(word, capsys):
    with pytest.raises(SystemExit) as stop:
        gallery.given_models(["--model", word])
    assert stop.value.code == 2
    assert f"--model {word} should be TASK=FOLDER" in capsys.readouterr().err


def test_the_stored_page_is_whole_and_small():
    text = gallery.PAGE.read_text()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [task.title for task in gallery.TASKS]
    paths = [gallery.PAGE.parent / path for _, _, path in LINK.findall(text)]
    assert len(paths) == text.count("![")
    assert {*paths} == {*gallery.IMAGES.glob("*.png")}
    assert sum(path.stat().st_size for path in paths) < 500_000
