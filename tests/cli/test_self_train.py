import json

import pytest

from fastrnn.cli.errors import CommandError
from fastrnn.cli.self_train import hide_labels
from fastrnn.models import StripClassifier

TINY = ["--epochs", 1, "--round-epochs", 1, "--max-iter", 1, "--hidden-size", 4]


def rounds(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_hides_labels_and_reports_what_the_pseudo_labels_are_worth(run, strips_folder, tmp_path):
    words = ["--labelled", 20, "--threshold", 0.3, "--test", strips_folder, "-o", "out"]
    outcome = run("self-train", strips_folder, *words, *TINY)
    assert outcome.code == 0
    assert "20 labelled, 20 not" in outcome.err
    assert "Self-training" in outcome.out
    assert "right" in outcome.out
    assert "with the labels alone" in outcome.out
    supervised, first = rounds(tmp_path / "out")
    assert supervised["precision"] is None
    assert first["selected"] == 20
    assert 0 <= first["precision"] <= 1
    for name in ("model", "supervised"):
        assert StripClassifier.load(tmp_path / "out" / name).labels == ("0", "1")


def test_rows_without_a_label_and_further_folders_are_the_unlabelled_strips(
    run, strips_folder, tmp_path
):
    rows = (strips_folder / "manifest.csv").read_text().splitlines()[1:]
    rows = [f"{strips_folder}/{row}" for row in rows]
    rows[-5:] = [f"{row.rpartition(',')[0]}," for row in rows[-5:]]
    (tmp_path / "some.csv").write_text("\n".join(["path,label", *rows]))
    more = ["--unlabelled", strips_folder / "0", "--unlabelled", strips_folder / "manifest.csv"]
    outcome = run("self-train", "some.csv", *more, *TINY)
    assert outcome.code == 0
    zeros = len(list((strips_folder / "0").iterdir()))
    assert f"35 labelled, {5 + zeros + 40} not" in outcome.err


def test_resume_goes_on_with_more_rounds(run, strips_folder, tmp_path):
    words = ["self-train", strips_folder, "--labelled", 0.5, "--threshold", 0.3, "-o", "out"]
    assert run(*words, *TINY).code == 0
    assert run(*words, *TINY).code == 2
    outcome = run(*words, *TINY, "--resume", "--max-iter", 2)
    assert outcome.code == 0
    assert rounds(tmp_path / "out")[0]["round"] == 0


def test_a_built_in_source_is_measured_on_its_test_part(run):
    words = ["--train-size", 40, "--labelled", 30, *TINY]
    outcome = run("self-train", "strip-digits", *words)
    assert outcome.code == 0
    assert "Accuracy on 500 test strips: " in outcome.out


def test_shares_and_counts_keep_labels_of_every_class(digits):
    for labelled, kept in (("0.25", 10), ("10", 10), ("40", 40)):
        strips, truth = hide_labels(digits, labelled, seed=0)
        known = strips.targets >= 0
        assert known.sum() == kept
        assert set(strips.targets[known]) == {0, 1}
        assert (truth == digits.targets).all()


@pytest.mark.parametrize("labelled", ["many", "0", "-3", "2.5", "nan", "inf"])
def test_share_that_is_none(digits, labelled):
    with pytest.raises(CommandError, match="--labelled is "):
        hide_labels(digits, labelled, seed=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "all 40 strips of {folder} have a label: give others by --unlabelled"),
        (["--labelled", 41], "--labelled is 41, but only 40 strips have a label"),
        (["--labelled", 20, "--threshold", 1.5], "--threshold is 1.5, it should be at least 0"),
        (["--unlabelled", "nowhere"], "folder nowhere does not exist"),
    ],
)
def test_bad_input(run, strips_folder, words, message):
    outcome = run("self-train", strips_folder, *words, *TINY)
    assert outcome.code == 2
    assert f"error: {message.format(folder=strips_folder)}" in outcome.err
