import csv
import json

import pytest

from fastrnn.deploy import Predictor


def test_writes_csv_to_the_screen(run, model_folder, strips_folder):
    images = sorted(strips_folder.glob("0/*.png"))[:3]
    outcome = run("predict", model_folder, *images)
    assert outcome.code == 0
    assert outcome.err == ""
    rows = list(csv.DictReader(outcome.out.splitlines()))
    expected = Predictor(model_folder).predict(images)
    assert [row["path"] for row in rows] == [str(image) for image in images]
    assert [row["label"] for row in rows] == [prediction.label for prediction in expected]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(
        [prediction.confidence for prediction in expected], abs=1e-6
    )


def test_takes_folders_and_writes_json_lines_by_the_files_ending(
    run, model_folder, strips_folder, tmp_path
):
    outcome = run("predict", model_folder, strips_folder, "-o", "labels.jsonl", "--probabilities")
    assert outcome.code == 0
    assert outcome.out == ""
    assert "40 predictions written to labels.jsonl" in outcome.err
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    for row in rows:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert row["confidence"] == max(row["probabilities"].values())


def test_format_wins_over_the_ending(run, model_folder, bad_files, tmp_path):
    run("predict", model_folder, bad_files["good"], "-o", "labels.jsonl", "--format", "csv")
    assert (tmp_path / "labels.jsonl").read_text().startswith("path,label,confidence\n")


def test_csv_has_a_column_for_each_class_if_asked(run, model_folder, bad_files):
    outcome = run("predict", model_folder, bad_files["good"], "--probabilities")
    assert outcome.out.splitlines()[0] == "path,label,confidence,0,1,2,3,4,5,6,7,8,9"


def test_finds_the_model_in_the_folder_of_a_training(run, model_folder, bad_files):
    assert run("predict", model_folder.parent, bad_files["good"]).code == 0


def test_bad_files_are_named_and_all_others_predicted(run, model_folder, bad_files):
    outcome = run("predict", model_folder, *bad_files.values())
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 2
    for name, reason in {
        "truncated": "can't be decoded",
        "text": "not an image",
        "empty": "the file is empty",
        "missing": "the file does not exist",
    }.items():
        assert f"error: {bad_files[name]}: {reason}" in outcome.err
    assert "4 of 5 files can't be read" in outcome.err


def test_bad_files_can_be_tolerated(run, model_folder, bad_files):
    outcome = run("predict", model_folder, bad_files["good"], bad_files["text"], "--skip-bad")
    assert outcome.code == 0
    assert "1 of 2 files can't be read" in outcome.err


def test_a_strip_of_one_pixel_is_a_strip(run, model_folder, tmp_path):
    from PIL import Image

    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    assert run("predict", model_folder, tmp_path / "dot.png").code == 0


def test_an_old_output_stays_if_the_model_is_foreign(run, bad_files, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "other"}')
    (tmp_path / "labels.csv").write_text("precious")
    outcome = run("predict", tmp_path / "foreign", bad_files["good"], "-o", "labels.csv")
    assert outcome.code == 2
    assert "config.json does not describe a model saved by fastrnn" in outcome.err
    assert (tmp_path / "labels.csv").read_text() == "precious"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "error: --output . is a folder, but must be a file"),
        ("none/labels.csv", "error: --output none/labels.csv can't be written: No such file"),
    ],
)
def test_unwritable_output(run, model_folder, bad_files, output, message):
    outcome = run("predict", model_folder, bad_files["good"], "-o", output)
    assert outcome.code == 2
    assert message in outcome.err


def test_empty_folder(run, model_folder, tmp_path):
    outcome = run("predict", model_folder, tmp_path)
    assert outcome.code == 2
    assert f"error: there are no images in {tmp_path}" in outcome.err


def test_missing_model(run, bad_files):
    outcome = run("predict", "nothing", bad_files["good"])
    assert outcome.code == 2
    assert "error: cannot load a model from nothing: it does not exist" in outcome.err
