"""Every kind of file: a small folder is trained on, and the bundle alone evaluates and predicts."""

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastrnn.cli import main
from fastrnn.cli.reading import Reading, reader_for
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.data import StripDepth, StripSubset, write_shards
from fastrnn.data.files import ImageReader
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video import VideoReader
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    load_bundle,
)

from .kinds import (
    FILES,
    SPEAKERS,
    TINY,
    pattern,
    sound,
)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Nothing is drawn, which other tests look at."""
    monkeypatch.setattr("fastrnn.cli.train.write_run_report", lambda output, *rest: output)
    monkeypatch.setattr("fastrnn.cli.evaluate.draw_confusion", lambda path, *rest, **words: path)
    monkeypatch.setattr("fastrnn.cli.tune.draw_trials", lambda path, *rest: path)


OPTIONS = {
    "images": "--model lstm --height 14 --rgb --max-width 15 --keep tail",
    "sounds": "--model cnn --mels 12 --max-width 25",
    "videos": "--model cnn-lstm --max-frames 3 --frames-stride 2 --keep centre --augment light",
    "depth": "--model fusion --depth-range 900 1300 --augment light",
}
READERS = {
    "images": {"height": 14, "channels": 3, "max_width": 15, "keep": "tail"},
    "sounds": {"config": LogMel(n_mels=12).__dict__, "max_width": 25},
    "videos": {"frame_width": 40, "stride": 2, "max_frames": 3, "keep": "centre"},
    "depth": {"depth_range": [900, 1300], "channels": 2, "missing": "raise"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_train_then_evaluate_and_predict_by_the_bundle_alone(run, folder, tmp_path, kind):
    root = folder(kind)
    trained = run("train", root, "-o", "out", *OPTIONS[kind].split(), "--epochs", 1)
    assert trained.code == 0, trained.err
    reader = load_bundle(tmp_path / "out" / "model").config.reader
    assert reader.items() >= READERS[kind].items()
    (tmp_path / "out" / "model").rename(tmp_path / "bundle")

    judged = run("evaluate", "bundle", root, "-o", "judged")
    assert judged.code == 0, judged.err
    figures = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert figures["strips"] == 2 * FILES

    predicted = run("predict", "bundle", root / "a", *sorted((root / "b").iterdir()))
    assert predicted.code == 0, predicted.err
    rows = list(csv.DictReader(predicted.out.splitlines()))
    assert len(rows) == 2 * FILES
    assert not any(".depth." in row["path"] for row in rows)
    right = sum(row["path"].split("/")[-2] == row["label"] for row in rows)
    assert figures["accuracy"] == pytest.approx(right / len(rows))

    config = load_bundle(tmp_path / "bundle").config
    if kind == "videos":
        assert (config.frames, config.frame_width) == (True, 40)
    if kind == "depth":
        assert config.modalities == (("grey", 1), ("depth", 1))


def test_clips_need_not_be_read_frame_by_frame(run, folder, tmp_path):
    words = ["--model", "cnn-lstm", "--set", "frames=false", "--frame-width", 20]
    assert run("train", folder("videos"), "-o", "out", *words, *TINY).code == 0
    config = CNNLSTMClassifier.load(tmp_path / "out" / "model").config
    assert (config.frames, config.frame_width) == (False, None)
    assert config.reader["frame_width"] == 20


def test_gif_files_alone_are_images_unless_options_of_clips_are_given(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastrnn[video]'")
    for label in ("a", "b"):
        (tmp_path / "gif" / label).mkdir(parents=True)
        for number in range(2):
            first, *others = [Image.fromarray(pattern(label, k)) for k in range(3)]
            path = tmp_path / "gif" / label / f"{number}.gif"
            first.save(path, save_all=True, append_images=others)
    monkeypatch.chdir(tmp_path)
    images = reader_for(Path("gif"), Reading())
    assert images == ImageReader()
    assert "GIF files in gif are taken for images; for clips by" in capsys.readouterr().err
    clips = reader_for(Path("gif"), Reading(ReadingOptions(frames_stride=1)))
    assert clips == VideoReader()
    assert clips.open_folder("gif").lengths.tolist() == [120] * 4
    assert capsys.readouterr().err == ""


def test_pictures_without_a_depth_map_are_taken_if_that_is_allowed(run, folder, tmp_path):
    manifest = tmp_path / "some.csv"
    files = [path for path in sorted(folder("depth").rglob("*.png")) if ".depth" not in path.name]
    Image.open(files[0]).save(tmp_path / "alone.png")
    rows = [f"{path},{path.parent.name}" for path in files]
    manifest.write_text("\n".join(["path,label", *rows, "alone.png,a"]))
    train = ["train", manifest, "-o", "out", "--depth-range", 900, 1300, *TINY]
    outcome = run(*train)
    assert outcome.code == 2
    missing = "alone.depth.png: the depth map of alone.png does not exist"
    assert f"{missing}; --allow-missing-depth allows that" in outcome.err
    assert run(*train, "--allow-missing-depth").code == 0
    assert run("predict", "out", tmp_path / "alone.png").code == 0


@pytest.fixture(scope="module")
def fused(folder, tmp_path_factory):
    """A folder with a fusion model that was trained on pairs of grey pictures and depth maps."""
    out = tmp_path_factory.mktemp("fused")
    words = ["--model", "fusion", "--depth-range", 900, 1300, "--validation-share", 0, *TINY]
    assert main([str(word) for word in ("train", folder("depth"), "-o", out, *words)]) == 0
    return out


class TestAMissingModality:
    @pytest.fixture
    def half(self, folder, tmp_path):
        """Class folders with pictures that have no depth map, and the other way around."""
        for label in "ab":
            (tmp_path / "half" / label).mkdir(parents=True)
            files = sorted((folder("depth") / label).iterdir())
            for number, path in enumerate(files):
                if (".depth." in path.name) == (number // 2 % 2 == 0):  # they lie in pairs
                    shutil.copy(path, tmp_path / "half" / label)
        return tmp_path / "half"

    def test_is_an_error_by_default(self, run, fused, half):
        depth, *_ = sorted((half / "a").glob("*.depth.png"))
        picture = next(path for path in (half / "a").iterdir() if ".depth." not in path.name)
        outcome = run("predict", fused, depth, picture)
        assert outcome.code == 1
        assert len(outcome.out.splitlines()) == 1
        assert "--allow-missing-picture" in outcome.err
        assert "--allow-missing-depth allows" in outcome.err
        assert run("evaluate", fused, half, "-o", "judged").code == 2
        assert run("explain", fused, depth, "-o", "why").code == 1

    def test_may_be_allowed_and_is_one_for_the_model(self, run, fused, half, folder):
        allowed = ("--allow-missing-depth", "--allow-missing-picture")
        outcome = run("predict", fused, half, *allowed, "--probabilities")
        assert outcome.code == 0, outcome.err
        rows = list(csv.DictReader(outcome.out.splitlines()))
        assert len(rows) == 2 * FILES
        model = FusionClassifier.load(fused / "model").eval()
        whole = StripDepth.from_folder(folder("depth"), depth_range=(900, 1300), channels=2)
        strips = {(path.parent.name, path.stem): whole[k][0] for k, path in enumerate(whole.paths)}
        for row in rows:
            path = Path(row["path"])
            missing = "grey" if ".depth." in path.name else "depth"
            strip = strips[path.parent.name, path.name.partition(".")[0]]
            with torch.inference_mode():
                [said] = model(strip[None], missing=[missing]).softmax(1).tolist()
            assert [float(row["a"]), float(row["b"])] == pytest.approx(said, abs=1e-5)

    def test_evaluate_and_explain_allow_it_too(self, run, fused, half, tmp_path):
        allowed = ("--allow-missing-depth", "--allow-missing-picture")
        outcome = run("evaluate", fused, half, "-o", "judged", *allowed)
        assert outcome.code == 0, outcome.err
        figures = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
        assert figures["strips"] == 2 * FILES
        files = sorted((half / "a").iterdir())[:2]
        words = ("-o", "why", "--steps", 1, "--json")
        assert run("explain", fused, *files, *words, *allowed).code == 0
        assert len([*(tmp_path / "why").glob("*.png")]) == 2

    def test_is_allowed_by_what_is_named_alone(self, run, fused, half):
        for option, pictures in (
            ("--allow-missing-depth", True),
            ("--allow-missing-picture", False),
        ):
            outcome = run("predict", fused, *sorted((half / "a").iterdir()), option)
            assert outcome.code == 1
            paths = [row["path"] for row in csv.DictReader(outcome.out.splitlines())]
            assert len(paths) == (2 if pictures else 3)
            assert all((".depth." in path) != pictures for path in paths)

    @pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
    def test_is_refused_where_the_model_reads_no_depth(self, run, model_folder, folder, command):
        outcome = run(command, model_folder, folder("images"), "--allow-missing-depth")
        assert outcome.code == 2
        message = (
            "--allow-missing-depth is for pictures with depth maps, but the model reads images"
        )
        assert message in outcome.err


@pytest.mark.parametrize(("command", "kind"), [("self-train", "depth"), ("tune", "sounds")])
def test_the_other_commands_train_on_other_kinds_too(run, folder, tmp_path, command, kind):
    root = folder(kind)
    words = ["--epochs", 1]
    if command == "tune":
        words += ["--mels", 12, "--set", "hidden_size=2", "--set", "model=lstm,cnn-lstm"]
    else:
        words += ["--model", "fusion", "--depth-range", 900, 1300]
        words += ["--labelled", 6, "--unlabelled", root / "a", "--round-epochs", 1, "--max-iter", 1]
        words += ["--hidden-size", 2, "--threshold", 0.3]
    outcome = run(command, root, "-o", "out", *words)
    assert outcome.code == 0, outcome.err
    if command == "self-train":
        assert f"6 labelled, {3 * FILES - 6} not" in outcome.err
    assert EncoderClassifier.load(tmp_path / "out" / "model").config.reader["kind"] == kind


@pytest.mark.parametrize("form", ["tar", "npz"])
def test_shards_are_a_source(run, digits, tmp_path, form):
    shards = write_shards(digits, tmp_path / "shards", format=form, max_strips=25)
    outcome = run("train", "shards", "-o", "out", *TINY)
    assert outcome.code == 0
    assert "Training on 36 strips of 2 classes, 28 rows" in outcome.err
    pattern = f"shards/strips-{{000000..000001}}.{form}"
    outcome = run("evaluate", "out", pattern, "-o", "judged")
    assert outcome.code == 0
    assert "40 strips" in outcome.out
    if form == "tar":
        more = ["--unlabelled", shards[1], "--labelled", 10, "--round-epochs", 1, "--max-iter", 1]
        outcome = run("self-train", "shards", "-o", "self", *TINY, *more)
        assert "10 labelled, 45 not" in outcome.err

    outcome = run("predict", "out", shards[1])
    assert outcome.code == 0
    rows = list(csv.DictReader(outcome.out.splitlines()))
    assert len(rows) == 15
    assert rows[0]["path"].startswith(f"{shards[1]}/")
    (tmp_path / f"bad.{form}").write_bytes(b"words")
    outcome = run("predict", "out", f"bad.{form}", shards[0])
    assert outcome.code == 2
    assert f"bad.{form}" in outcome.err


def test_bad_samples_of_a_shard_are_reported_and_the_others_classified(
    run, digits, model_folder, tmp_path
):
    write_shards(StripSubset(digits, [0, 1]), tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "strips-000000.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("9.png"))
        tar.addfile(tarfile.TarInfo("9.txt"))
    outcome = run("predict", model_folder, "shards")
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 3
    assert "sample '9': its image is empty" in outcome.err
    assert "1 of 3 files can't be read" in outcome.err


def test_shards_of_other_channels_need_no_reader(run, folder, tmp_path):
    strips = StripDepth.from_folder(folder("depth"), depth_range=(900, 1300))
    write_shards(strips, tmp_path / "shards", format="npz")
    assert run("train", "shards", "-o", "out", "--model", "fusion", *TINY).code == 0
    assert FusionClassifier.load(tmp_path / "out" / "model").config.reader is None
    assert run("evaluate", "out", "shards", "-o", "judged").code == 0
    assert run("predict", "out", "shards").out.count("\n") == 1 + 2 * FILES
    for words in (("evaluate", "out", folder("depth")), ("predict", "out", folder("depth"))):
        outcome = run(*words)
        assert outcome.code == 2
        assert "does not say how files become its strips of 4 channels" in outcome.err


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """An archive of spoken digits: two recordings of two digits by each of three people."""
    root = tmp_path_factory.mktemp("fsdd")
    with tarfile.open(root / "recordings.tar.gz", "w:gz") as tar:
        for digit in (0, 1):
            for speaker in SPEAKERS:
                for take in (0, 1):
                    content = sound("ab"[digit], take)
                    member = tarfile.TarInfo(f"recordings/{digit}_{speaker}_{take}.wav")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return root


def test_a_speaker_is_left_for_testing(run, recordings, tmp_path):
    train = ["train", "spoken-digits", "--data-root", recordings, "--validation-share", 0, *TINY]
    outcome = run(*train, "-o", "out", "--mels", 12)
    assert outcome.code == 0, outcome.err
    assert "Training on 8 strips of 2 classes, 12 rows" in outcome.err
    outcome = run("evaluate", "out", "spoken-digits", "--data-root", recordings, "-o", "judged")
    assert "4 strips" in outcome.out
    outcome = run(*train, "-o", "bob", "--test-speaker", "bob")
    assert "fastrnn evaluate bob spoken-digits --test-speaker bob" in outcome.out
    outcome = run(*train, "-o", "eve", "--test-speaker", "eve")
    assert outcome.code == 2
    assert "--test-speaker is 'eve', who is not one of ann, bob, cay" in outcome.err
    (tmp_path / "yes.wav").write_bytes(sound("a", 0))
    assert run("predict", "out", "yes.wav").code == 0


def test_the_first_digit_is_a_task_of_its_own(run):
    words = ["--train-size", 40, "--max-width", 100, *TINY]
    outcome = run("train", "strip-digits:first", "-o", "out", *words)
    assert outcome.code == 0
    assert "100 to 100 columns" in outcome.err
    outcome = run("evaluate", "out", "strip-digits:first", "--test-size", 20, "-o", "judged")
    assert outcome.code == 0


def test_groups_are_judged_on_as_a_whole(run, folder):
    words = ["--group-regex", r"/([a-z]+)-\d+\.png$", "--validation-share", 0.4]
    outcome = run("train", folder("images"), "-o", "out", *words, *TINY)
    assert outcome.code == 0
    assert "Training on 6 strips of 2 classes" in outcome.err
    words += ["--labelled", 0.5, "--round-epochs", 1, "--max-iter", 1]
    outcome = run("self-train", folder("images"), "-o", "self", *words, *TINY)
    assert "3 labelled, 3 not" in outcome.err
