import math

import numpy as np
import pytest
import torch
from torch import nn

from fastrnn.data import StripArrays
from fastrnn.data.windows import windows as windows_of
from fastrnn.models import (
    EncoderClassifier,
    ModelConfig,
    StripClassifier,
    StripCNN,
    explain,
)
from fastrnn.models.encoders.base import Encoded, Encoder
from fastrnn.training.evaluation import predict_probabilities

from .explained import (
    GREY,
    MODELS,
    SMALL,
    SMALL_CONV,
    is_complete,
    make,
    noise,
    strip_for,
)


class Lines(Encoder):
    """A step is a linear function of a column."""

    def __init__(self, height, device, dtype):
        super().__init__()
        self.size = 3
        self.layer = nn.Linear(height, self.size, device=device, dtype=dtype)

    def forward(self, strips, lengths=None, *, only_last=False):
        return Encoded(self.layer(strips[:, 0].permute(2, 0, 1)), lengths)


class LinearClassifier(EncoderClassifier):
    config_class = ModelConfig

    def make_encoder(self, *, device, dtype):
        return Lines(self.config.height, device, dtype)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("baseline", ["median", "black", "white"])
def test_attribution_of_a_linear_model_is_exact(steps, baseline):
    model = make(LinearClassifier, **GREY, pooling="mean").double()
    strip = noise().double() / 255
    ground = {"median": strip.median(), "black": 0, "white": 1}[baseline]
    explanation = explain(model, strip, target=1, steps=steps, baseline=baseline)
    weight = (model.head.weight[1] @ model.encoder.layer.weight)[:, None] / 12
    expected = (strip - ground) * weight
    np.testing.assert_allclose(explanation.attribution, expected.detach(), rtol=1e-6, atol=1e-9)
    assert explanation.completeness == pytest.approx(0, abs=1e-9)


def test_error_shrinks_with_steps():
    model = MODELS["lstm"](pooling="mean")
    for parameter in model.parameters():
        parameter.data *= 2  # as of a trained model, far from linear
    strip = noise(width=40)
    found = [explain(model, strip, steps=steps, baseline="black") for steps in (4, 16, 64)]
    errors = [abs(one.completeness / one.logit_change) for one in found]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    assert errors[2] < 1e-2


def test_completeness_is_the_sum_minus_the_difference_of_logits():
    model = MODELS["cnn"]()
    strip = noise()
    explanation = explain(model, strip, target=2, steps=2, baseline="white")
    with torch.no_grad():
        change = (model(strip[None]) - model(torch.full_like(strip[None], 255)))[0, 2]
    assert explanation.logit_change == pytest.approx(float(change), abs=1e-5)
    expected = float(explanation.attribution.sum()) - explanation.logit_change
    assert explanation.completeness == pytest.approx(expected, abs=1e-6)
    assert abs(explanation.completeness) > 1e-4  # of two steps


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_explained(name):
    model = MODELS[name]()
    strip = strip_for(model)
    explanation = explain(model, strip, steps=500)
    assert explanation.attribution.shape == tuple(strip.shape)
    assert explanation.attribution.dtype == np.float32
    assert explanation.saliency().shape == (8, 12)
    assert explanation.along().shape == (12,)
    assert is_complete(explanation)
    expected = model.predict_proba(strip[None])[0].tolist()
    assert list(explanation.probabilities) == list(model.labels)
    assert list(explanation.probabilities.values()) == pytest.approx(expected, abs=1e-6)
    assert explanation.label == explanation.target == model.labels[int(np.argmax(expected))]
    if name == "late":
        assert explanation.attention is None
    else:
        assert explanation.attention.shape == (12,)
        assert explanation.attention.dtype == np.float32
        assert explanation.attention.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_model_stays_as_it_is(name):
    model = MODELS[name](dropout=0.5).train()
    model.head = nn.Identity().eval() if name == "late" else model.head.eval()
    modes = [module.training for module in model.modules()]
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    strip = strip_for(model)
    first_call, again = (explain(model, strip, steps=4) for _ in range(2))
    assert np.array_equal(first_call.attribution, again.attribution)  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert [p.grad for p in model.parameters()][1:] == [None] * (len([*model.parameters()]) - 1)


def test_model_has_its_mode_after_an_error():
    model = MODELS["lstm"]().train()
    with pytest.raises(ValueError, match="7 x 12"):
        explain(model, noise(height=7))
    assert model.training


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context):
    model, strip = MODELS["cnn-lstm"](), noise()
    expected = explain(model, strip, steps=3)
    with context():
        found = explain(model, strip.clone(), steps=3)
    assert np.array_equal(found.attribution, expected.attribution)


def test_frozen_models_are_explained():
    model = MODELS["lstm"]()
    expected = explain(model, noise(), steps=3)
    found = explain(model.requires_grad_(False), noise(), steps=3)
    np.testing.assert_allclose(found.attribution, expected.attribution, atol=1e-6)


@pytest.mark.parametrize("combine", ["mean", "vote"])
@pytest.mark.parametrize("name", ["lstm", "cnn-lstm", "frames", "late"])
def test_strips_are_explained_by_the_windows_that_predict_them(name, combine):
    whole = MODELS[name]()
    windows = {"window_size": 12, "window_stride": 8, "window_combine": combine}
    model = MODELS[name](**windows)
    model.load_state_dict(whole.state_dict())
    strip = strip_for(model, width=24)
    found = explain(model, strip, steps=3, baseline="black")
    parts = [slice(0, 12), slice(8, 20), slice(16, 24)]
    assert windows_of(strip, 12, 8)[1].tolist() == [part.stop - part.start for part in parts]
    number = model.labels.index(found.target)
    each = [
        explain(whole, strip[..., part], target=number, steps=3, baseline="black") for part in parts
    ]
    attribution, attention = np.zeros(strip.shape), np.zeros(24)
    for part, one in zip(parts, each, strict=True):
        attribution[..., part] += one.attribution / 3
        attention[part] += 0 if one.attention is None else one.attention / 3
    np.testing.assert_allclose(found.attribution, attribution, atol=1e-6)
    assert found.logit_change == pytest.approx(np.mean([one.logit_change for one in each]))
    assert found.completeness == pytest.approx(
        np.mean([one.completeness for one in each]), abs=1e-6
    )
    if found.attention is not None:
        np.testing.assert_allclose(found.attention, attention, atol=1e-6)
    [expected] = predict_probabilities(model, StripArrays([strip.numpy()], [0], model.labels))
    assert list(found.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert found.label == model.labels[int(expected.argmax())]


def test_a_strip_narrower_than_a_window_is_explained_whole():
    whole, windows = MODELS["cnn"](), MODELS["cnn"](window_size=12)
    windows.load_state_dict(whole.state_dict())
    strip = noise(width=9)
    expected = explain(whole, strip, steps=3)
    assert np.array_equal(
        explain(windows, noise(width=9), steps=3).attribution, expected.attribution
    )


@pytest.mark.parametrize("name", ["lstm", "cnn", "frames", "middle"])
def test_memory_is_bounded_and_batches_make_no_difference(name):
    model = MODELS[name]()
    strip = strip_for(model, width=20)
    sizes = []
    model.register_forward_pre_hook(lambda _, arguments: sizes.append(arguments[0].shape[0]))
    at_once = explain(model, strip, steps=7)
    assert max(sizes) == 7
    sizes.clear()
    piecewise = explain(model, strip, steps=7, max_padded_steps=41)
    assert max(sizes) == 2
    np.testing.assert_allclose(piecewise.attribution, at_once.attribution, atol=1e-6)
    sizes.clear()
    explain(model, strip, steps=3, max_padded_steps=1)
    assert max(sizes) == 1


def blocks(seed, count):
    """Noise with a block in columns 20 to 27; the class is its kind: above, below, or none."""
    random = np.random.default_rng(seed)
    strips = random.uniform(0, 0.2, (count, 1, 8, 48)).astype(np.float32)
    kinds = random.integers(0, 3, count)
    strips[kinds == 0, :, :4, 20:28] += 0.7
    strips[kinds == 1, :, 4:, 20:28] += 0.7
    return torch.from_numpy(strips), torch.from_numpy(kinds)


@pytest.mark.parametrize("kind", [StripClassifier, StripCNN])
def test_a_trained_model_looks_where_the_class_is(kind):
    torch.manual_seed(1)
    model = kind(**GREY, **(SMALL if kind is StripClassifier else SMALL_CONV))
    optimizer = torch.optim.Adam(model.parameters(), 0.015)
    strips, kinds = blocks(0, 48)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(strips), kinds).backward()
        optimizer.step()
    strips, kinds = blocks(1, 20)
    for strip, right in zip(strips, kinds.tolist(), strict=True):
        explanation = explain(model, strip)
        assert explanation.label == model.labels[right]
        at_block = explanation.along()[18:30].sum() / explanation.along().sum()
        if right == 2:  # there is none
            assert at_block < 0.4
        else:  # in 12 columns of 48
            assert at_block > 0.8
            assert explanation.attribution[..., 18:30].sum() > 1


def test_the_ground_gets_nothing_be_it_dark_or_light():
    model = MODELS["lstm"]()
    for ground in (3, 128, 250):
        strip = torch.full((1, 8, 30), ground, dtype=torch.uint8)
        strip[..., 10:15] = noise(width=5)
        explanation = explain(model, strip, steps=4)
        assert not explanation.along()[:10].any()
        assert not explanation.along()[15:].any()
        assert explanation.along()[10:15].all()


def test_median_is_taken_per_channel():
    model = MODELS["early"]()
    strip = noise(4)
    strip[2] = 77
    explanation = explain(model, strip, steps=4)
    assert not explanation.attribution[2].any()
    assert explanation.attribution[[0, 1, 3]].any()


def test_baseline_may_be_any_picture():
    model, strip = MODELS["lstm"](), noise()
    other = noise(seed=5)
    expected = explain(model, strip, baseline=other, steps=4).attribution
    for same in (other.numpy(), other / 255, (other / 255).double().numpy()):
        found = explain(model, strip, baseline=same, steps=4).attribution
        np.testing.assert_allclose(found, expected, atol=1e-6)
    grey = explain(model, strip, baseline=np.full((1, 1, 1), 0.25), steps=4).attribution
    np.testing.assert_allclose(
        explain(model, strip, baseline=0.25, steps=4).attribution, grey, atol=1e-7
    )
    itself = explain(model, strip, baseline=strip, steps=4)
    assert not itself.attribution.any()
    assert itself.completeness == 0


@pytest.mark.parametrize("fusion", ["middle", "late"])
@pytest.mark.parametrize("ground", [0, 90])
@pytest.mark.parametrize("baseline", ["median", "black", "white"])
def test_missing_modality_stays_missing_on_the_way(fusion, ground, baseline):
    model = MODELS[fusion](encoder="lstm")
    strip = torch.full((4, 8, 24), ground, dtype=torch.uint8)
    strip[:, :, 4:9] = noise(4, width=5)
    whole = explain(model, strip, steps=64, baseline=baseline)
    strip[3] = 0
    without = explain(model, strip, steps=64, baseline=baseline)
    assert not without.attribution[3].any()
    assert without.attribution[:3].any()
    for found in (whole, without):
        assert is_complete(found)


def test_modality_that_is_there_counts_from_a_black_baseline_on():
    """At the baseline itself the depth would be missing: the path must not begin there."""
    model = MODELS["late"](encoder="lstm")
    strip = torch.full((4, 8, 24), 90, dtype=torch.uint8)
    strip[3] = 0
    strip[:, :, 4:9] = noise(4, width=5)  # the median of the depth is 0, of the colours 90
    found = explain(model, strip, steps=64)
    assert found.attribution[3].any()
    assert is_complete(found)


def test_bytes_floats_arrays_and_wider_models_agree():
    model, strip = MODELS["cnn"](), noise()
    expected = explain(model, strip, steps=3).attribution
    for same in (strip.numpy(), strip / 255, (strip / 255).numpy(), (strip / 255).double()):
        found = explain(model, same, steps=3).attribution
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        explain(model.double(), strip, steps=3).attribution, expected, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_of_16_bits(dtype):
    model, strip = MODELS["lstm"](), noise()
    expected = explain(model, strip).attribution
    found = explain(model.to(dtype), strip)
    assert np.abs(found.attribution - expected).max() < 0.1 * np.abs(expected).max()
    assert found.attention.sum() == pytest.approx(1, abs=1e-6)


def test_strips_of_one_column_and_of_many():
    for width in (1, 5000):
        explanation = explain(MODELS["lstm"](), noise(width=width), steps=2)
        assert explanation.attention.shape == explanation.along().shape == (width,)


def test_target_is_named_by_label_or_number():
    model = make(StripClassifier, **GREY, **SMALL, labels=["cat", "dog", "2"])
    for number, label in enumerate(model.labels):
        by_number, by_label = (explain(model, noise(), target=t, steps=2) for t in (number, label))
        assert by_number.target == by_label.target == label
        assert np.array_equal(by_number.attribution, by_label.attribution)
    assert explain(model, noise(), target=1, steps=2).label != "dog"  # what it takes it for stays


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "eel"}, ValueError, "target must be one of the labels 0, 1, 2, got 'eel'"),
        ({"target": 3}, ValueError, "target must be from 0 to 2, got 3"),
        ({"target": 1.0}, TypeError, "target must be an integer, got 1.0"),
        ({"steps": 0}, ValueError, "steps must be from 1 to 1048576, got 0"),
        ({"max_padded_steps": 0}, ValueError, "max_padded_steps must be from 1"),
        ({"baseline": "grey"}, ValueError, "baseline must be one of median, black, white, got"),
        ({"baseline": np.zeros((1, 8, 5))}, ValueError, r"broadcasts to the strip's \(1, 8, 12\)"),
        ({"baseline": np.zeros((2, 1, 8, 12))}, ValueError, "baseline must have a shape"),
        ({"baseline": [0, 1]}, TypeError, "baseline must hold uint8 or floating-point pixels"),
        ({"baseline": math.nan}, ValueError, "baseline must have finite pixels"),
        ({"strip": torch.zeros(8, 12)}, ValueError, r"strip must have 3 dimensions .* \(8, 12\)"),
        ({"strip": torch.zeros(1, 8, 0)}, ValueError, "must not be empty"),
        ({"strip": torch.zeros(1, 8, 12, dtype=torch.int32)}, TypeError, "uint8 or floating"),
        ({"strip": torch.full((1, 8, 12), math.inf)}, ValueError, "strip must have finite pixels"),
        ({"strip": "a.png"}, TypeError, "strip must be a tensor or an array, got str"),
        ({"strip": torch.zeros(3, 8, 12)}, ValueError, "strips must have 1 channels, got 3"),
        ({"model": nn.Linear(1, 1)}, TypeError, "model must be an EncoderClassifier, got Linear"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        explain(**({"model": MODELS["lstm"](), "strip": noise()} | arguments))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_gives_the_same(name):
    model = MODELS[name]()
    strip = strip_for(model)
    expected = explain(model, strip).attribution
    found = explain(model.cuda(), strip).attribution
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
