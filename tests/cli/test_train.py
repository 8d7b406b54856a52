import json
import signal
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from fastrnn.cli.runs import augmentation
from fastrnn.data import StripArrays
from fastrnn.models import StripClassifier
from fastrnn.training.progress import ProgressLines

TINY = ["--epochs", "1", "--hidden-size", "4"]


def test_trains_saves_and_says_what_to_do_next(run, strips_folder, tmp_path):
    outcome = run("train", strips_folder, "-o", "out", *TINY)
    assert outcome.code == 0
    assert "Training on 36 strips of 2 classes" in outcome.err
    assert "fastrnn evaluate out" in outcome.out
    model = StripClassifier.load(tmp_path / "out" / "model")
    assert model.labels == ("0", "1")
    assert model.config.hidden_size == 4
    record = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert record["epoch"] == 1
    assert record["validation_accuracy"] is not None


def test_every_option_reaches_the_model_and_the_training(run, strips_folder, tmp_path):
    words = (
        "--height 14 --rgb --hidden-size 5 --num-layers 2 --one-way --pooling max --scan profile"
    )
    training = "--dropout 0.3 --schedule plateau --patience 3 --ema-decay 0.9 --batch-columns 900"
    outcome = run(
        "train", strips_folder, "-o", "out", "--epochs", 1, *words.split(), *training.split()
    )
    assert outcome.code == 0
    config = StripClassifier.load(tmp_path / "out" / "model").config
    assert (config.height, config.in_channels, config.hidden_size) == (14, 3, 5)
    assert (config.num_layers, config.bidirectional, config.pooling) == (2, False, "max")
    assert (config.scan, config.dropout) == ("profile", 0.3)


def settings_of(folder):
    return json.loads((folder / "run.json").read_text())["training"]


def test_options_against_rare_classes_and_for_speed_reach_the_training(
    run, strips_folder, tmp_path
):
    words = "--schedule onecycle --augment strong --mixup 0.3 --balanced --accumulate 3"
    words += " --amp bfloat16 --label-smoothing 0.1"
    outcome = run("train", strips_folder, "-o", "out", *TINY, *words.split())
    assert outcome.code == 0
    settings = settings_of(tmp_path / "out")
    assert settings["schedule"] == "onecycle"
    assert settings["augment"]["cutouts"] > 0
    assert settings["augment"]["mixup"] == 0.3
    assert (settings["balanced_sampling"], settings["accumulate"]) == (True, 3)
    assert (settings["amp"], settings["label_smoothing"]) == ("bfloat16", 0.1)
    outcome = run("train", strips_folder, "-o", "plain", *TINY, "--class-weights", "sqrt")
    assert outcome.code == 0
    settings = settings_of(tmp_path / "plain")
    assert (settings["class_weights"], settings["augment"]) == ("sqrt", None)


def test_convolutions_learn_at_a_lower_rate_unless_one_is_given(run, strips_folder, tmp_path):
    for number, (words, rate) in enumerate(
        [
            (("--model", "lstm"), 5e-3),
            (("--model", "cnn-lstm", "--set", "conv_channels=(2,2)"), 1e-3),
            (("--model", "cnn", "--set", "conv_channels=(2,2)", "--learning-rate", 0.02), 0.02),
        ]
    ):
        folder = f"out{number}"
        assert run("train", strips_folder, "-o", folder, "--epochs", 1, *words).code == 0
        assert settings_of(tmp_path / folder)["learning_rate"] == rate


@pytest.mark.parametrize(("ink", "paper"), [(255, 0), (20, 250)])
def test_strips_are_moved_about_on_their_own_background(ink, paper):
    strips = np.full((3, 28, 90), paper, np.uint8)
    strips[:, 5:20, 30:60] = ink
    dataset = StripArrays(list(strips), [0, 1, 1], labels=("a", "b"))
    assert augmentation("light", 0.0, dataset).background == paper
    assert augmentation("none", 0.0, dataset) is None
    assert augmentation("none", 0.2, dataset).mixup == 0.2


def test_depth_has_no_brightness():
    strips = np.full((2, 4, 28, 90), 9, np.uint8)
    strips[:, 3] = 250
    changes = augmentation("strong", 0.0, StripArrays(list(strips), [0, 1], labels=("a", "b")))
    assert (changes.background, changes.geometric_only) == (9, (3,))


def test_a_report_to_open_is_written_and_named(run, strips_folder, tmp_path):
    outcome = run("train", strips_folder, "-o", "out", *TINY)
    assert "Report: out/report.html" in outcome.out
    text = (tmp_path / "out" / "report.html").read_text()
    assert "of 4 validation strips right" in text
    # The model is still found in the folder.
    assert run("evaluate", "out", strips_folder).code == 0
    assert run("train", strips_folder, "-o", "out", *TINY, "--overwrite").code == 0


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_curves_for_tensorboard(run, strips_folder, tmp_path):
    train = ["train", strips_folder, "-o", "out", *TINY, "--tensorboard"]
    assert run(*train).code == 0
    files = set((tmp_path / "out" / "tensorboard").rglob("events*"))
    assert {file.parent.name for file in files} == {"steps", "epochs"}
    assert run(*train, "--overwrite").code == 0
    assert not files & set((tmp_path / "out" / "tensorboard").rglob("events*"))


def test_tensorboard_that_is_not_installed(run, strips_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    outcome = run("train", strips_folder, "-o", "out", *TINY, "--tensorboard")
    assert outcome.code == 1
    assert "error: TensorBoardCallback needs TensorBoard: pip install" in outcome.err
    assert not (tmp_path / "out").exists()


def test_the_seed_decides_everything(run, strips_folder, tmp_path):
    weights = []
    for output in ("a", "b"):
        run("train", strips_folder, "-o", output, "--seed", 3, *TINY)
        weights.append((tmp_path / output / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_validation_strips_of_its_own(run, strips_folder):
    outcome = run("train", strips_folder, "--validation", strips_folder, *TINY)
    assert "Training on 40 strips" in outcome.err
    assert "accuracy on the validation strips" in outcome.out


def test_no_validation(run, strips_folder):
    outcome = run("train", strips_folder, "--validation-share", 0, *TINY)
    assert "Training on 40 strips" in outcome.err
    assert "accuracy in training" in outcome.out


def test_train_size_takes_some_of_each_class(run, strips_folder):
    outcome = run("train", strips_folder, "--train-size", 10, "--validation-share", 0, *TINY)
    assert "Training on 10 strips of 2 classes" in outcome.err


def test_unlabelled_rows_are_passed_over(run, strips_folder, tmp_path):
    manifest = tmp_path / "some.csv"
    lines = (strips_folder / "manifest.csv").read_text().splitlines()
    rows = [f"{strips_folder}/{line}" for line in lines[1:]]
    rows += [f"{row.rpartition(',')[0]}," for row in rows[:3]]
    manifest.write_text("\n".join(["path,label", *rows]))
    outcome = run("train", manifest, *TINY)
    assert outcome.code == 0
    assert "3 strips without a label passed over" in outcome.err


def test_ctrl_c_leaves_a_model_and_resume_goes_on(run, strips_folder, tmp_path, monkeypatch):
    train = ["train", strips_folder, "-o", "out", "--epochs", 3, "--hidden-size", 4]
    with monkeypatch.context() as patch:
        patch.setattr(
            ProgressLines, "on_epoch", lambda self, record: signal.raise_signal(signal.SIGINT)
        )
        outcome = run(*train)
    assert outcome.code == 130
    assert "To go on, run the same train command with --resume" in outcome.err
    assert StripClassifier.load(tmp_path / "out" / "model").labels == ("0", "1")
    assert len((tmp_path / "out/metrics.jsonl").read_text().splitlines()) == 1

    assert run(*train, "--resume").code == 0
    resumed = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    assert run(*train[:2], "-o", "whole", *train[4:]).code == 0
    assert (tmp_path / "whole" / "model" / "model.safetensors").read_bytes() == resumed


def test_a_former_training_is_kept_unless_told_otherwise(run, strips_folder, tmp_path):
    train = ["train", strips_folder, "-o", "out", *TINY]
    run(*train)
    outcome = run(*train)
    assert outcome.code == 2
    assert "already holds a training" in outcome.err
    assert "--resume" in outcome.err
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert run("train", "no-such-folder", "-o", "out", "--overwrite", *TINY).code == 2
    assert (tmp_path / "out" / "checkpoint.pt").exists()
    assert run(*train, "--overwrite").code == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_class_with_one_strip_is_trained_on(run, strips_folder, tmp_path):
    images = sorted(strips_folder.rglob("*.png"))
    rows = [f"{images[0]},rare", *(f"{image},common" for image in images[1:12])]
    (tmp_path / "some.csv").write_text("\n".join(["path,label", *rows]))
    outcome = run("train", "some.csv", "--validation-share", 0.3, *TINY)
    assert outcome.code == 0
    assert "strips of 2 classes" in outcome.err


class TestBadInput:
    def expect(self, run, *words, message, code=2):
        outcome = run("train", *words, *TINY)
        assert outcome.code == code
        assert message in outcome.err
        assert outcome.err.splitlines()[-1].startswith("error: ")

    def test_missing_folder(self, run):
        self.expect(run, "nowhere", message="error: nowhere does not exist: give a folder")

    def test_misspelt_built_in_name(self, run):
        self.expect(
            run, "strip-mnsit", message="built-in one: strip-mnist, strip-digits, spoken-digits"
        )

    def test_image_in_place_of_a_folder(self, run, bad_files):
        self.expect(run, bad_files["good"], message="good.png is a file, but not a CSV file")

    def test_empty_folder(self, run, tmp_path):
        (tmp_path / "none").mkdir()
        self.expect(run, "none", message="folder none is empty")

    def test_one_class_only(self, run, strips_folder, tmp_path):
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "a").symlink_to(strips_folder / "0")
        self.expect(run, "one", message="at least two classes, found one: 'a'")

    def test_one_strip_of_each_class(self, run, strips_folder, tmp_path):
        images = sorted(strips_folder.rglob("*.png"))[:2]
        (tmp_path / "few.csv").write_text(f"path,label\n{images[0]},a\n{images[1]},b\n")
        self.expect(run, "few.csv", message="every class has a single labelled strip")

    @pytest.mark.parametrize(
        ("kind", "message"),
        [("truncated", "can't be decoded"), ("text", "not an image"), ("empty", "is empty")],
    )
    def test_damaged_file(self, run, bad_files, strips_folder, tmp_path, kind, message):
        rows = [f"{image},{image.parent.name}" for image in strips_folder.rglob("*.png")]
        rows.append(f"{bad_files[kind]},1")
        (tmp_path / "some.csv").write_text("\n".join(["path,label", *rows]))
        self.expect(run, "some.csv", message=f"{bad_files[kind]}: ")
        outcome = run("train", "some.csv", "-o", "out", "--skip-bad", *TINY)
        assert outcome.code == 0
        assert f"skipped {bad_files[kind]}: " in outcome.err
        assert message in outcome.err

    def test_manifest_without_its_columns(self, run, tmp_path):
        (tmp_path / "some.csv").write_text("file,class\na.png,b\n")
        self.expect(run, "some.csv", message="columns path and label missing")

    def test_output_that_is_a_file(self, run, strips_folder, tmp_path):
        (tmp_path / "out").write_text("")
        message = "--output out is a file, but must be a folder"
        self.expect(run, strips_folder, "-o", "out", message=message)

    def test_output_that_can_t_be_written(self, run, strips_folder):
        self.expect(run, strips_folder, "-o", "/proc/out", message="can't be written")

    def test_nothing_to_resume(self, run, strips_folder):
        self.expect(run, strips_folder, "--resume", message="holds no training to go on with")

    def test_resume_and_overwrite(self, run, strips_folder):
        words = [strips_folder, "--resume", "--overwrite"]
        self.expect(run, *words, message="exclude each other")

    def test_two_ways_against_rare_classes(self, run, strips_folder):
        words = [strips_folder, "--balanced", "--class-weights", "balanced"]
        self.expect(run, *words, message="both make up for rare classes, choose one")

    def test_impossible_setting(self, run, strips_folder):
        words = [strips_folder, "--learning-rate", 0]
        self.expect(
            run, *words, message="error: --learning-rate is 0.0, it should be greater than 0"
        )

    def test_other_height_than_the_built_in_strips_have(self, run):
        self.expect(run, "strip-digits", "--height", 30, message="grey strips of 28 rows")

    def test_value_out_of_range_is_a_usage_error(self, run, strips_folder):
        outcome = run("train", strips_folder, "--epochs", 0)
        assert outcome.code == 2
        assert "--epochs" in outcome.err


def test_a_failed_command_leaves_no_folder_and_deletes_nothing(run, strips_folder, tmp_path):
    assert run("train", "no-such-folder", *TINY).code == 2
    assert not (tmp_path / "runs").exists()
    train = ["train", strips_folder, "-o", "out", *TINY]
    assert run(*train).code == 0
    outcome = run(*train, "--overwrite", "--schedule", "plateau", "--validation-share", 0)
    assert outcome.code == 2
    assert "--schedule plateau needs validation strips: give --validation" in outcome.err
    assert (tmp_path / "out" / "checkpoint.pt").exists()


def test_another_model_or_foreign_files_in_the_place_of_the_model(run, strips_folder, tmp_path):
    model = tmp_path / "out" / "model"
    StripClassifier(1, 28, 2, hidden_size=4).save(model)
    outcome = run("train", strips_folder, "-o", "out", *TINY)
    assert outcome.code == 2
    assert "already holds a model of something else" in outcome.err
    (model / "notes.txt").write_text("mine")
    outcome = run("train", strips_folder, "-o", "out", "--overwrite", *TINY)
    assert outcome.code == 2
    assert "the folder holds other files (notes.txt)" in outcome.err
