"""Every kind of file, wrongly: mixed, missing, damaged, or asked for with others' options."""

import sys

import pytest

from fastrnn.data.audio import SoundReader
from fastrnn.data.files import ImageReader
from fastrnn.data.video import VideoReader
from fastrnn.models import StripClassifier

from .kinds import TINY


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
