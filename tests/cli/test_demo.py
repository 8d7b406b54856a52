import json

import pytest
from PIL import Image

from fastrnn.cli.demo import few_labels
from fastrnn.models import StripClassifier

QUICK = ["--train-size", 200, "--epochs", 2, "--round-epochs", 1, "--max-iter", 1]


@pytest.fixture
def demo(run, monkeypatch):
    monkeypatch.setattr("fastrnn.cli.demo._TEST_STRIPS", 50)
    return run("demo", *QUICK)


def test_leaves_a_model_a_picture_and_strips_to_try(demo, run, tmp_path):
    assert demo.code == 0
    output = tmp_path / "demo-output"
    assert StripClassifier.load(output / "model").labels == tuple("0123456789")
    with Image.open(output / "strips.png") as picture:
        assert min(picture.size) > 500
    assert run("predict", "demo-output", "demo-output/strips").out.count("\n") == 9


def test_says_what_it_does_and_what_came_out(demo, tmp_path):
    assert "learns from 10 labelled strips, and those of 10 more digits are held out" in " ".join(
        demo.out.split()
    )
    assert "Labels alone: " in demo.out
    assert "On 50 new strips" in demo.out
    assert "$ fastrnn predict demo-output demo-output/strips/0-is-" in demo.out
    assert "path,label,confidence" in demo.out
    assert "fastrnn evaluate demo-output strip-digits" in demo.out
    rounds = (tmp_path / "demo-output" / "rounds.jsonl").read_text().splitlines()
    accuracy = json.loads(rounds[0])["held_out_accuracy"]
    assert f"Labels alone: {accuracy:.1%} of the held-out strips right" in demo.out


def test_can_be_run_again_and_keeps_what_is_not_its_own(demo, run, tmp_path):
    (tmp_path / "demo-output" / "notes.txt").write_text("mine")
    assert run("demo", *QUICK).out.splitlines()[:3] == demo.out.splitlines()[:3]
    assert (tmp_path / "demo-output" / "notes.txt").read_text() == "mine"


def test_never_touches_another_training(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "self_training.pt").write_bytes(b"precious")
    outcome = run("demo", "--output", "out", *QUICK)
    assert outcome.code == 2
    assert "holds a training that is not a former demo's" in outcome.err
    assert (tmp_path / "out" / "self_training.pt").read_bytes() == b"precious"


def test_output_that_is_a_file(run, tmp_path):
    (tmp_path / "out").write_text("")
    outcome = run("demo", "--output", "out", *QUICK)
    assert outcome.code == 2
    assert outcome.err == "error: --output out is a file, but must be a folder\n"


def test_no_digit_is_in_two_parts():
    strips, judges, truth = few_labels(1297, seed=3)
    known = strips.targets >= 0
    assert (known.sum(), (~known).sum(), len(judges)) == (104, 1167, 130)
    assert (strips.targets[known] == truth[known]).all()
    positions = set(strips.dataset.indices)
    assert positions.isdisjoint(set(judges.dataset.indices % 1297))
    assert len(positions) == len(strips)
