import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import StripDecodeError, StripDigits, write_png
from fastrnn.data.audio import SoundReader
from fastrnn.data.files import ImageReader
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video import VideoReader
from fastrnn.deploy import Prediction, Predictor, model_reader
from fastrnn.models import BundleError, CNNLSTMClassifier, StripClassifier

LABELS = ["cat", "dog", "eel"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return StripClassifier(1, 28, 3, hidden_size=4, labels=LABELS)


@pytest.fixture(scope="module")
def strips():
    digits = StripDigits("test", size=12)
    return [digits[i][0] for i in range(len(digits))]


def test_gives_the_models_own_probabilities_in_order(model, strips):
    predictions = Predictor(model).predict(strips)
    for strip, prediction in zip(strips, predictions, strict=True):
        expected = model.eval().predict_proba(strip[None])[0]
        assert list(prediction.probabilities) == LABELS
        assert list(prediction.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert prediction.label == LABELS[int(expected.argmax())]
        assert prediction.confidence == max(prediction.probabilities.values())


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(12)), budget=st.integers(1, 3000))
def test_neither_order_nor_batches_matter(model, strips, order, budget):
    one_by_one = [Predictor(model).predict([strip])[0] for strip in strips]
    shuffled = Predictor(model, max_padded_steps=budget).predict([strips[i] for i in order])
    for position, prediction in zip(order, shuffled, strict=True):
        assert prediction.confidence == pytest.approx(one_by_one[position].confidence, abs=1e-5)


def test_loads_a_bundle_and_takes_files_arrays_and_tensors(model, strips, tmp_path):
    model.save(tmp_path / "bundle")
    write_png(strips[0], tmp_path / "strip.png")
    predictor = Predictor(tmp_path / "bundle")
    array = strips[0].numpy()
    forms = [tmp_path / "strip.png", str(tmp_path / "strip.png"), array, array[0], strips[0]]
    forms.append(array.astype(np.float32) / 255)
    predictions = predictor.predict(forms)
    assert {prediction.label for prediction in predictions} == {predictions[0].label}
    assert predictor.labels == tuple(LABELS)


def test_arrays_are_scaled_to_the_models_height(model):
    assert len(Predictor(model).predict([np.zeros((56, 300), np.uint8), np.zeros((7, 9))])) == 2


def test_more_files_than_a_chunk(model, strips, tmp_path, monkeypatch):
    monkeypatch.setattr("fastrnn.deploy.predictor._CHUNK", 5)
    paths = [tmp_path / f"{number}.png" for number in range(len(strips))]
    for strip, path in zip(strips, paths, strict=True):
        write_png(strip, path)
    outcomes = list(Predictor(model).predict_files(paths))
    assert [path for path, _ in outcomes] == paths
    assert [outcome for _, outcome in outcomes] == Predictor(model).predict(paths)


def test_bad_files_are_reported_in_their_place(model, strips, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    write_png(strips[0], good)
    bad.write_text("words")
    outcomes = dict(Predictor(model).predict_files([bad, good]))
    assert isinstance(outcomes[good], Prediction)
    assert isinstance(outcomes[bad], StripDecodeError)
    with pytest.raises(StripDecodeError, match=r"bad\.png: not an image"):
        Predictor(model).predict([good, bad])


def test_nothing_to_predict(model):
    assert Predictor(model).predict([]) == []


def test_a_single_path_is_refused(model):
    with pytest.raises(TypeError, match="must be a sequence of files or arrays"):
        Predictor(model).predict("strip.png")


def test_wrong_number_of_channels(model):
    with pytest.raises(ValueError, match="3 channels, but the model needs 1"):
        Predictor(model).predict([np.zeros((3, 28, 50), np.uint8)])


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        Predictor(tmp_path / "nothing")


def test_files_are_read_as_the_model_says(strips, tmp_path):
    dark = strips[0].numpy()[0].astype(np.uint16) * 10 + 300
    np.save(tmp_path / "dark.npy", dark)
    reader = ImageReader(28, 1, value_range=(300, 2850))
    torch.manual_seed(1)
    model = StripClassifier(1, 28, 3, hidden_size=4, labels=LABELS, reader=reader.as_json())
    model.save(tmp_path / "bundle")
    predictor = Predictor(tmp_path / "bundle")
    assert predictor.reader == reader
    [wanted, mapped] = predictor.predict([strips[0], tmp_path / "dark.npy"])
    assert mapped.confidence == pytest.approx(wanted.confidence, abs=1e-5)
    [(_, one)] = predictor.predict_files([tmp_path / "dark.npy"])
    assert one.confidence == pytest.approx(wanted.confidence, abs=1e-5)
    [unmapped] = Predictor(model, reader=ImageReader()).predict([tmp_path / "dark.npy"])
    assert unmapped.confidence != pytest.approx(wanted.confidence, abs=1e-5)


def test_a_sound_is_read_by_a_model_of_sounds(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
    path = tmp_path / "a.wav"
    wavfile.write(path, 8000, (9999 * np.sin(np.arange(4000))).astype(np.int16))
    reader = SoundReader(LogMel(n_mels=12))
    predictor = Predictor(StripClassifier(1, 12, 2, hidden_size=4, reader=reader.as_json()))
    [from_file, from_array] = predictor.predict([path, reader.read(path)])
    assert from_file == from_array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "smells"}, "the model's files can't be read: a reader's kind is 'smells'"),
        ({"gamma": 2}, "the setting 'gamma' is not known"),
        ({"height": 14}, "reader of images gives strips of 14 rows, but the model needs 28"),
        ({"channels": 3}, "gives strips of 3 channels, but the model needs 1"),
    ],
)
def test_a_model_whose_reader_is_damaged_or_does_not_fit(changes, message):
    reader = ImageReader().as_json() | changes
    model = StripClassifier(1, 28, 2, hidden_size=4, reader=reader)
    with pytest.raises(BundleError, match=message):
        Predictor(model)


def test_frames_must_be_as_wide_as_the_model_needs_them():
    reader = VideoReader(28, 1, frame_width=20)
    model = CNNLSTMClassifier(1, 28, 2, frames=True, frame_width=20, reader=reader.as_json())
    assert model_reader(model) == reader
    with pytest.raises(BundleError, match=r"gives strips of None columns a frame, but .* needs 20"):
        Predictor(model, reader=VideoReader(28, 1))
    with pytest.raises(BundleError, match="the reader of images gives strips of None columns"):
        Predictor(model, reader=ImageReader())
    silent = CNNLSTMClassifier(1, 28, 2, frames=True, frame_width=20)
    assert model_reader(silent) == reader


def test_without_a_reader_other_channels_than_an_images_come_from_arrays_only(strips, tmp_path):
    predictor = Predictor(StripClassifier(4, 28, 2, hidden_size=4))
    assert predictor.reader is None
    assert len(predictor.predict([np.zeros((4, 28, 90), np.uint8)])) == 1
    write_png(strips[0], tmp_path / "a.png")
    with pytest.raises(ValueError, match="does not say how files become its strips of 4 channels"):
        predictor.predict([tmp_path / "a.png"])


def test_all_strips_of_a_dataset(model, strips):
    dataset = StripDigits("test", size=12)
    assert Predictor(model).predict_dataset(dataset) == Predictor(model).predict(strips)
    with pytest.raises(ValueError, match="the strips have 28 rows, but the model needs 14"):
        Predictor(StripClassifier(1, 14, 10)).predict_dataset(dataset)


@pytest.mark.parametrize("limit", ["_CHUNK", "_CHUNK_BYTES"])
def test_large_files_are_read_a_few_at_a_time(model, strips, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(f"fastrnn.deploy.predictor.{limit}", 1)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for strip, path in zip(strips, paths, strict=False):
        write_png(strip, path)
    predictor = Predictor(model)
    expected = predictor.predict(paths)
    held = []
    read = ImageReader.read
    monkeypatch.setattr(ImageReader, "read", lambda *a: held.append(a) or read(*a))
    for number, (_, outcome) in enumerate(predictor.predict_files(paths)):
        assert len(held) == number + 1
        assert outcome == expected[number]
