import json

import pytest
import torch
from PIL import Image

from fastrnn.cli.evaluate import report
from fastrnn.data import StripFolder
from fastrnn.models import StripClassifier
from fastrnn.training import Evaluation, class_scores, evaluate


def test_reports_and_writes_the_figures_of_the_evaluation(
    run, model_folder, strips_folder, tmp_path
):
    outcome = run("evaluate", model_folder, strips_folder, "--output", "figures")
    assert outcome.code == 0
    model = StripClassifier.load(model_folder)
    expected = evaluate(model, StripFolder(strips_folder, labels=model.labels))
    assert f"Accuracy {expected.accuracy:.2%}" in outcome.out
    written = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert written["accuracy"] == pytest.approx(expected.accuracy)
    assert written["confusion"] == expected.confusion.tolist()
    assert written["strips"] == 40
    with Image.open(tmp_path / "figures" / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_manifest_rows_without_a_label_are_passed_over(run, model_folder, strips_folder, tmp_path):
    image = next(strips_folder.glob("0/*.png"))
    manifest = tmp_path / "some.csv"
    manifest.write_text(f"path,label\n{image},0\n{image},\n{image},\n")
    outcome = run("evaluate", model_folder, manifest)
    assert "2 strips without a label passed over" in outcome.err
    assert "1 strip" in outcome.out


def test_uses_the_test_part_of_a_built_in_source(run, model_folder):
    outcome = run("evaluate", model_folder, "strip-digits", "--test-size", 20)
    assert outcome.code == 0
    assert "20 strips" in outcome.out


def test_class_folder_that_the_model_does_not_know(run, model_folder, strips_folder, tmp_path):
    (tmp_path / "strips" / "zebra").mkdir(parents=True)
    outcome = run("evaluate", model_folder, tmp_path / "strips")
    assert outcome.code == 2
    assert "zebra is not among the labels" in outcome.err


def test_built_in_source_with_other_classes_than_the_model(run, tmp_path):
    StripClassifier(1, 28, 2, hidden_size=4, labels=["cat", "dog"]).save(tmp_path / "pets")
    outcome = run("evaluate", "pets", "strip-digits")
    assert outcome.code == 2
    assert "but the model knows cat, dog" in outcome.err


def test_many_classes_are_shown_as_their_largest_confusions(capsys):
    confusion = 5 * torch.eye(20, dtype=torch.int64)
    confusion[3, 7] = 2
    labels = tuple(f"class{k}" for k in range(20))
    report(Evaluation(0.9, 0.1, confusion, class_scores(confusion), labels))
    out = capsys.readouterr().out
    assert "Most frequent confusions" in out
    line = next(line for line in out.splitlines() if "class3 " in line and "class7 " in line)
    assert "2" in line


def test_output_that_is_a_file(run, model_folder, strips_folder, tmp_path):
    (tmp_path / "out").write_text("")
    outcome = run("evaluate", model_folder, strips_folder, "--output", "out")
    assert outcome.code == 2
    assert "error: --output 'out' can't be written" in outcome.err


def test_class_names_are_neither_markup_nor_formulas(run, strips_folder, tmp_path):
    images = sorted(strips_folder.glob("*/*.png"))[:4]
    names = ("a[/b]", r"$\frac$")
    rows = [f"{image},{names[k % 2]}" for k, image in enumerate(images)]
    (tmp_path / "some.csv").write_text("\n".join(["path,label", *rows]))
    StripClassifier(1, 28, 2, hidden_size=4, labels=sorted(names)).save(tmp_path / "odd")
    outcome = run("evaluate", "odd", "some.csv")
    assert outcome.code == 0
    assert all(name in outcome.out for name in names)


def test_strips_without_any_label(run, model_folder, strips_folder, tmp_path):
    image = next(strips_folder.glob("0/*.png"))
    (tmp_path / "some.csv").write_text(f"path,label\n{image},\n{image},\n")
    outcome = run("evaluate", model_folder, "some.csv")
    assert outcome.code == 2
    assert "none of the 2 strips has a label" in outcome.err
