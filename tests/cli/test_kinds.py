"""Every kind of file: a small folder is trained on, and the bundle alone evaluates and predicts."""

import csv
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastrnn.cli import main
from fastrnn.cli.reading import Reading, reader_for
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.data import StripDepth, StripSubset, write_shards
from fastrnn.data.audio import SoundReader
from fastrnn.data.files import ImageReader
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video import VideoReader
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    StripClassifier,
    load_bundle,
)

TINY = ("--epochs", 1, "--set", "hidden_size=3")
FILES = 5  # of each class
SPEAKERS = ("ann", "bob", "cay")


def pattern(label, number):
    """A picture of 28 x 40 that shows its class."""
    picture = np.random.default_rng(number).integers(0, 60, (28, 40), dtype=np.uint8)
    picture[(slice(5, 12) if label == "a" else slice(20, 26))] += 150
    return picture


def write_image(path, label, number):
    Image.fromarray(pattern(label, number)).save(path.with_suffix(".png"))


def write_depth(path, label, number):
    picture = pattern(label, number)
    Image.fromarray(np.stack([picture] * 3, -1)).save(path.with_suffix(".png"))
    Image.fromarray(1000 + picture.astype(np.uint16)).save(path.with_suffix(".depth.png"))


def write_clip(path, label, number):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastrnn[video]'")
    with av.open(str(path.with_suffix(".avi")), "w") as file:
        stream = file.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = 28, 40, "rgb24"
        for frame in range(4 + number % 3):
            picture = np.stack([pattern(label, frame)] * 3, -1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def sound(label, number):
    """The bytes of a WAV file of a third of a second."""
    wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
    file = io.BytesIO()
    wave = np.sin(np.arange(2400 + 80 * number) * (0.3 if label == "a" else 1.2))
    wavfile.write(file, 8000, (9000 * wave).astype(np.int16))
    return file.getvalue()


def write_sound(path, label, number):
    path.with_suffix(".wav").write_bytes(sound(label, number))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Makes a folder with the class folders "a" and "b" of a kind of files, once."""
    made = {}
    writers = {
        "images": write_image,
        "depth": write_depth,
        "videos": write_clip,
        "sounds": write_sound,
    }

    def make(kind):
        if kind not in made:
            root = tmp_path_factory.mktemp("kinds") / kind
            for label in ("a", "b"):
                (root / label).mkdir(parents=True)
                for number in range(FILES):
                    speaker = SPEAKERS[number % 3]
                    writers[kind](root / label / f"{speaker}-{number}", label, number)
            made[kind] = root
        return made[kind]

    return make


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


class TestWrongInput:
    def expect(self, run, *words, message, code=2):
        outcome = run(*words)
        assert outcome.code == code
        assert message in outcome.err
        assert outcome.err.splitlines()[-1].startswith("error: ")

    def test_a_folder_of_two_kinds(self, run, folder, tmp_path):
        for kind, label in (("images", "a"), ("sounds", "b")):
            (tmp_path / "both" / label).mkdir(parents=True)
            for path in (folder(kind) / label).iterdir():
                (tmp_path / "both" / label / path.name).symlink_to(path)
        self.expect(run, "train", "both", message="both mixes images such as both/a/ann-0.png with")

    def test_a_manifest_of_two_kinds(self, run, folder, tmp_path):
        files = [next(folder(kind).rglob("*.*")) for kind in ("images", "sounds")]
        text = f"path,label\n{files[0]},a\n{files[1]},b\n"
        (tmp_path / "some.csv").write_text(text)
        self.expect(run, "train", "some.csv", message="some.csv mixes images such as ")

    @pytest.mark.parametrize(
        ("kind", "words", "message"),
        [
            ("images", "--value-range 9 1", "--value-range is (9.0, 1.0), but must be finite"),
            ("depth", "--depth-range 9 9", "--depth-range is (9.0, 9.0), but must be finite"),
            ("depth", "", "depth by --depth-range NEAR FAR"),
            ("images", "--depth-range 1 9", "--depth-range is for pictures with depth maps, but"),
            ("images", "--mels 9", "--mels is for sounds and spoken digits, but"),
            ("sounds", "--mels 400", "--mels is 400, but a window"),
            ("sounds", "--height 30", "--height is for images, videos, pictures with depth maps a"),
            ("images", "--max-frames 9", "--max-frames is for videos, but"),
            ("images", "--keep tail", "--keep says which part is taken, but neither"),
            ("images", "--test-speaker ann", "--test-speaker is for spoken digits, but"),
            ("images", "--model fusion", "--model fusion is for pictures with depth, of 2 or 4 c"),
            ("images", "--group-regex (", "--group-regex: pattern '(' is no regular expression"),
            ("images", "--group-regex (a|b) --validation-share 0", "but none are"),
            ("images", "--group-regex (png)", "--group-regex: groups has 1 different values"),
        ],
    )
    def test_an_option_that_is_wrong_or_for_other_files(self, run, folder, kind, words, message):
        root = folder(kind)
        outcome = run("train", root, *words.split(), *TINY)
        assert outcome.code == 2
        if message.startswith("depth by"):
            message = "the units of these, by --depth-range NEAR FAR"
        assert message in outcome.err

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("strip-digits:last", "strip-digits:last: the task should be one of find, first"),
            ("spoken-digits:first", "spoken-digits has no tasks"),
            ("none.npz", "shard none.npz does not exist"),
            ("shards-{0..1}.tar", "shard shards-0.tar does not exist"),
        ],
    )
    def test_a_source_that_is_none(self, run, source, message):
        self.expect(run, "train", source, message=message)

    @pytest.fixture
    def model_of(self, tmp_path):
        """Saves an untrained model that reads files as it is told, as "model"."""

        def save(reader, **changes):
            shape = (reader.channels, reader.height, 2)
            kept = reader.as_json() | changes
            model = StripClassifier(*shape, hidden_size=2, labels=["a", "b"], reader=kept)
            model.save(tmp_path / "model")

        return save

    def test_files_of_another_kind_than_the_models(self, run, folder, model_of):
        sounds = folder("sounds")
        model_of(ImageReader())
        for words, message in (
            (("evaluate", sounds), "but sounds such as ann-0.wav"),
            (("predict", sounds), "but sounds such as a/ann-0.wav"),
            (("evaluate", "spoken-digits"), "has sounds, but the model reads images"),
        ):
            self.expect(run, words[0], "model", words[1], message=message)

    def test_an_image_for_a_model_of_clips(self, run, folder, model_of):
        folder("videos")
        image = next((folder("images") / "a").iterdir())
        model_of(VideoReader(frame_width=40))
        outcome = run("predict", "model", image)
        assert outcome.code == 1
        assert f"error: {image}: is an image by its ending, not a video" in outcome.err
        message = "has images, but the model reads videos"
        self.expect(run, "evaluate", "model", "strip-digits", message=message)

    def test_a_damaged_reader_in_the_bundle(self, run, folder, model_of):
        model_of(ImageReader(), kind="smells")
        for command in ("evaluate", "predict"):
            message = "the model's files can't be read: a reader's kind is 'smells'"
            self.expect(run, command, "model", folder("images"), message=message)

    @pytest.mark.parametrize(
        ("kind", "module", "extra"),
        [("sounds", "scipy.io.wavfile", "audio"), ("videos", "av", "video")],
    )
    def test_a_library_is_missing(self, run, folder, model_of, monkeypatch, kind, module, extra):
        root = folder(kind)
        model_of(SoundReader() if kind == "sounds" else VideoReader(frame_width=40))
        monkeypatch.setitem(sys.modules, module, None)
        for words in (("train", root), ("evaluate", "model", root), ("predict", "model", root)):
            self.expect(run, *words, message=f"pip install 'fastrnn[{extra}]'", code=1)
