import json

import numpy as np
import pytest
from PIL import Image

from fastrnn.deploy import explain_file
from fastrnn.models import FusionClassifier


def test_draws_a_picture_for_each_file(run, model_folder, strips_folder, tmp_path):
    images = sorted(strips_folder.glob("0/*.png"))[:2]
    outcome = run("explain", model_folder, *images, "--output", "why")
    assert outcome.code == 0
    assert outcome.err == ""
    drawn = sorted((tmp_path / "why").iterdir())
    assert [path.name for path in drawn] == [f"{path.stem}-explained.png" for path in images]
    lines = outcome.out.splitlines()
    for image, line in zip(images, lines, strict=True):
        found = explain_file(model_folder, image, steps=1).explanation
        share = found.probabilities[found.label]
        assert line == f"{image}: {found.label}, {share:.1%}, see why/{image.stem}-explained.png"


def test_json_holds_the_numbers(run, model_folder, bad_files, tmp_path):
    image = bad_files["good"]
    outcome = run("explain", model_folder, image, "-o", "why", "--target", "3", "--json")
    assert outcome.code == 0
    row = json.loads((tmp_path / "why" / "good-explained.json").read_text())
    expected = explain_file(model_folder, image, target="3")
    assert row["path"] == str(image)
    assert row["target"] == "3"
    assert row["label"] == expected.explanation.label
    assert row["probabilities"] == pytest.approx(expected.explanation.probabilities, rel=1e-5)
    assert row["completeness"] == pytest.approx(expected.explanation.completeness, rel=1e-4)
    assert row["logit_change"] == pytest.approx(expected.explanation.logit_change, rel=1e-4)
    assert row["along"] == "columns"
    np.testing.assert_allclose(row["attention"], expected.attention, rtol=1e-5)
    np.testing.assert_allclose(row["saliency"], expected.along(), rtol=1e-5)


def test_steps_and_baseline_are_passed_on(run, model_folder, bad_files, tmp_path):
    options = ("--json", "--steps", 3, "--baseline", "white")
    run("explain", model_folder, bad_files["good"], "-o", "why", *options)
    row = json.loads((tmp_path / "why" / "good-explained.json").read_text())
    found = explain_file(model_folder, bad_files["good"], steps=3, baseline="white")
    assert row["logit_change"] == pytest.approx(found.explanation.logit_change, rel=1e-4)
    np.testing.assert_allclose(row["saliency"], found.along(), rtol=1e-5)


def test_neither_a_source_nor_a_namesake_is_overwritten(run, model_folder, bad_files, tmp_path):
    sources = [tmp_path / name for name in ("a.png", "a-explained.png", "b/a.png")]
    (tmp_path / "b").mkdir()
    for source in sources:
        source.write_bytes(bad_files["good"].read_bytes())
    outcome = run("explain", model_folder, *sources, "--output", ".", "--steps", 1)
    assert outcome.code == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "a.png",
        "a-explained.png",
        "a-explained-2.png",
        "a-explained-3.png",
        "a-explained-explained.png",
    }
    for source in sources:
        assert source.read_bytes() == bad_files["good"].read_bytes()


def test_finds_the_model_of_a_training_and_takes_folders(run, model_folder, bad_files, tmp_path):
    (tmp_path / "scans").mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "scans" / "dot.png")
    outcome = run("explain", model_folder.parent, tmp_path / "scans", "--steps", 1)
    assert outcome.code == 0
    assert (tmp_path / "runs" / "explain" / "dot-explained.png").exists()


def test_bad_files_are_named_and_all_others_explained(run, model_folder, bad_files, tmp_path):
    words = ("explain", model_folder, *bad_files.values(), "-o", "why", "--steps", 1)
    outcome = run(*words)
    assert outcome.code == 1
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["good-explained.png"]
    for name, reason in {
        "truncated": "can't be decoded",
        "text": "not an image",
        "empty": "the file is empty",
        "missing": "the file does not exist",
    }.items():
        assert f"error: {bad_files[name]}: {reason}" in outcome.err
    assert "4 of 5 files can't be read" in outcome.err
    assert run(*words, "--skip-bad").code == 0


def test_wrong_input_is_an_error_before_any_work(run, model_folder, bad_files, tmp_path):
    good = bad_files["good"]
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for words, message in (
        (("nothing", good), "error: cannot load a model from nothing: it does not exist"),
        (
            (model_folder, good, "--target", "x"),
            "error: --target is 'x', but the model knows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        ((model_folder, good, "-o", "file"), "error: --output 'file' can't be written"),
        ((model_folder, "empty"), "error: there are no images in empty"),
        ((model_folder, good, "--steps", 0), "than or equal to 1"),
        ((model_folder, good, "--baseline", "grey"), "'grey'"),
    ):
        outcome = run("explain", *words)
        assert outcome.code == 2
        assert message in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_model_that_reads_no_pictures(run, bad_files, tmp_path):
    FusionClassifier(4, 28, 2, hidden_size=3).save(tmp_path / "rgbd")
    outcome = run("explain", tmp_path / "rgbd", bad_files["good"])
    assert outcome.code == 2
    assert "does not say how files become its strips of 4 channels" in outcome.err
