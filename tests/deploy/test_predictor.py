import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import StripDecodeError, StripDigits, write_png
from fastrnn.deploy import Prediction, Predictor
from fastrnn.models import BundleError, StripClassifier

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


def test_value_range_maps_files_as_in_training(model, strips, tmp_path):
    dark = strips[0].numpy()[0].astype(np.uint16) * 10 + 300
    np.save(tmp_path / "dark.npy", dark)
    predictor = Predictor(model, value_range=(300, 2850))
    [wanted, mapped] = predictor.predict([strips[0], tmp_path / "dark.npy"])
    assert mapped.confidence == pytest.approx(wanted.confidence, abs=1e-5)
    [(_, one)] = predictor.predict_files([tmp_path / "dark.npy"])
    assert one.confidence == pytest.approx(wanted.confidence, abs=1e-5)
    [unmapped] = Predictor(model).predict([tmp_path / "dark.npy"])
    assert unmapped.confidence != pytest.approx(wanted.confidence, abs=1e-5)
    with pytest.raises(ValueError, match="value_range is"):
        Predictor(model, value_range=(1, 0))
