"""What holds for every model that bundles can hold, whatever its settings."""

import copy
import inspect
import math
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.models import EncoderClassifier, FusionClassifier, load_bundle
from fastrnn.models.config import ModelConfig

from .random_models import CLASSES, batch_of, models, random_strips, seed, settings_of, strips_for

FILLERS = (0.0, 1.0, 1e30, math.nan)

pytestmark = pytest.mark.parametrize("model_class", CLASSES, ids=lambda c: c.__name__)


def results(model: EncoderClassifier, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Logits, and the gradients of all parameters of a loss that weighs them differently."""
    logits = model(*batch)
    weights = torch.linspace(-1, 2, logits.numel(), dtype=logits.dtype).view_as(logits)
    parameters = list(model.parameters())
    grads = torch.autograd.grad((logits * weights).sum(), parameters, materialize_grads=True)
    return [logits.detach(), *grads]


def assert_same(model: EncoderClassifier, got: list[Tensor], want: list[Tensor]) -> None:
    names = ["logits", *(name for name, _ in model.named_parameters())]
    for name, a, b in zip(names, got, want, strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")
        assert a.isfinite().all(), name


class TestPadding:
    @settings(max_examples=12)
    @given(data=st.data(), extra=st.integers(0, 3), filler=st.sampled_from(FILLERS))
    def test_makes_no_difference(self, model_class, data, extra, filler):
        model = data.draw(models(model_class))
        strips = data.draw(strips_for(model))
        plain = results(model, batch_of(model, strips))
        assert_same(model, results(model, batch_of(model, strips, extra, filler)), plain)

    @settings(max_examples=6)
    @given(data=st.data(), filler=st.sampled_from(FILLERS))
    def test_makes_no_difference_in_training(self, model_class, data, filler):
        # Zoneout, and dropout between layers, draw for each step: there they differ.
        fixed = {"zoneout": 0.0, "num_layers": 1}
        known = inspect.signature(model_class).parameters
        fixed = {name: value for name, value in fixed.items() if name in known}
        model = data.draw(models(model_class, **fixed)).train()
        strips = data.draw(strips_for(model))
        seed(0)
        plain = results(model, batch_of(model, strips))
        seed(0)
        assert_same(model, results(model, batch_of(model, strips, 2, filler)), plain)

    @settings(max_examples=8)
    @given(data=st.data(), filler=st.sampled_from(FILLERS))
    def test_and_neighbours_make_no_difference(self, model_class, data, filler):
        model = data.draw(models(model_class))
        strips = data.draw(strips_for(model))
        together = model(*batch_of(model, strips, 1, filler))
        for strip, logits in zip(strips, together, strict=True):
            torch.testing.assert_close(model(*batch_of(model, [strip]))[0], logits)


@settings(max_examples=5)
@given(data=st.data())
def test_an_empty_strip_says_nothing(model_class, data):
    model = data.draw(models(model_class))
    assume(getattr(model.config, "scan", None) != "channels")  # there each channel is a step
    logits = model(*random_strips(model, 7, 0))[1]
    heads = [branch.head for branch in getattr(model, "branches", [model])]
    torch.testing.assert_close(logits, torch.stack([head.bias for head in heads]).mean(0))


@settings(max_examples=4)
@given(data=st.data())
def test_pixels_may_be_bytes(model_class, data):
    model = data.draw(models(model_class))
    strips, lengths = random_strips(model, 8, 3)
    pixels = (strips * 255).byte()
    torch.testing.assert_close(model(pixels, lengths), model(pixels.double() / 255, lengths))


def test_nan_pixels_stay_in_their_strip(model_class):
    model = small(model_class)
    strips, lengths = random_strips(model, 8, 8)
    strips[0, 0, 2, 4] = math.nan
    logits = model(strips.float(), lengths)
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()


def small(model_class: type[EncoderClassifier], **changes: Any) -> EncoderClassifier:
    """A model of few settings, the same at each call."""
    seed(0)
    wanted = {
        "in_channels": 4,
        "height": 5,
        "num_classes": 3,
        "hidden_size": 6,
        "conv_channels": [4, 4],
        "conv_features": 6,
    }
    known = inspect.signature(model_class).parameters
    return model_class(**{k: v for k, v in wanted.items() if k in known}, **changes).eval()


class TestCopies:
    @settings(max_examples=5)
    @given(data=st.data())
    def test_bundles_give_an_equal_model(self, model_class, data):
        model = data.draw(models(model_class))
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            loaded = load_bundle(Path(folder) / "model")
        assert type(loaded) is model_class
        assert loaded.config == model.config
        batch = random_strips(model, 8, 3)
        assert torch.equal(loaded(*batch), model(*batch))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_deepcopy_and_pickle_give_an_equal_model_of_its_own(self, model_class, copied):
        model = small(model_class)
        batch = random_strips(model, 8, 3)
        expected = model(*batch)
        other = copied(model)
        assert other.config == model.config
        for parameter in model.parameters():
            parameter.data.zero_()
        assert torch.equal(other(*batch), expected)

    @settings(max_examples=4)
    @given(data=st.data())
    def test_a_config_builds_an_equal_model(self, model_class, data):
        chosen = data.draw(settings_of(model_class))
        seed(3)
        model = model_class(**chosen)
        seed(3)
        again = model_class.from_config(model.config)
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name


class TestTypes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_may_have_any_floating_type(self, model_class, dtype):
        model = small(model_class, dtype=dtype)
        assert {p.dtype for p in model.parameters()} == {dtype}
        strips, lengths = random_strips(model, 8, 3)
        logits = model(strips, lengths)
        assert logits.dtype == dtype
        logits.float().square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        expected = model.float()(strips, lengths)
        torch.testing.assert_close(logits.float(), expected, rtol=0.03, atol=0.03)

    def test_autocast_computes_in_16_bits(self, model_class):
        model = small(model_class)
        strips, lengths = random_strips(model, 8, 3)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(strips.float(), lengths)
        logits.float().square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        expected = model(strips.float(), lengths)
        torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05)


class TestSettings:
    def test_the_signature_shows_them_all(self, model_class):
        parameters = inspect.signature(model_class).parameters
        config = inspect.signature(model_class.config_class).parameters
        assert [*parameters] == [*config, "labels", "device", "dtype"]
        assert list(parameters)[:3] == ["in_channels", "height", "num_classes"]
        for name, parameter in config.items():
            assert parameters[name].default == parameter.default
        kinds = [p.kind for p in parameters.values()]
        assert kinds[3:] == [inspect.Parameter.KEYWORD_ONLY] * (len(kinds) - 3)

    def test_unknown_ones_are_named(self, model_class):
        message = f"{model_class.__name__} has no setting 'colour'; it has in_channels, height, .*"
        with pytest.raises(TypeError, match=message):
            model_class(4, 5, 3, colour="red")

    def test_missing_ones_are_named(self, model_class):
        with pytest.raises(TypeError, match="'num_classes'"):
            model_class(4, 5)

    def test_reach_the_config(self, model_class):
        model = small(model_class, dropout=0.4, labels=["a", "b", "c"])
        assert isinstance(model.config, ModelConfig)
        assert (model.config.dropout, model.labels) == (0.4, ("a", "b", "c"))

    def test_dropout_acts_in_training_alone(self, model_class):
        model = small(model_class, dropout=0.5)
        batch = random_strips(model, 8, 3)
        assert torch.equal(model(*batch), model(*batch))
        assert not torch.equal(model.train()(*batch), model(*batch))

    def test_devices_without_memory_are_possible(self, model_class):
        model = small(model_class, device="meta")
        assert {p.device.type for p in model.parameters()} == {"meta"}


class TestAttention:
    @settings(max_examples=5)
    @given(data=st.data())
    def test_sums_to_1_over_the_steps_of_a_strip(self, model_class, data):
        late = {"fusion": "middle"} if model_class is FusionClassifier else {}
        model = data.draw(models(model_class, pooling="attention", **late))
        batch = random_strips(model, 9, 0, 4)
        logits, weights = model(*batch, return_attention=True)
        torch.testing.assert_close(logits, model(*batch))
        expected = torch.ones(3).double()
        if getattr(model.config, "scan", "") != "channels":  # where each channel is a step
            expected[1] = 0
        torch.testing.assert_close(weights.sum(1), expected)
        if per_step := model.encoder.pixels_per_step:
            assert weights.shape[1] == -(-max(batch[0].shape[2:]) // per_step)
            assert not weights[2, -(-4 // per_step) :].any()

    def test_needs_attention_pooling(self, model_class):
        model = small(model_class, pooling="max")
        batch = random_strips(model, 8, 3)
        with pytest.raises(ValueError, match="pooling='attention', this one has pooling='max'"):
            model(*batch, return_attention=True)


class TestBadInput:
    @pytest.mark.parametrize(
        ("strips", "error", "message"),
        [
            ([[0.0]], TypeError, "strips must be a torch.Tensor, got list"),
            (torch.zeros(2, 4, 5, 8).long(), TypeError, r"got torch\.int64"),
            (torch.rand(4, 5, 8), ValueError, r"4 dimensions .*, got \(4, 5, 8\)"),
            (torch.rand(2, 3, 5, 8), ValueError, "must have 4 channels, got 3"),
            (torch.rand(2, 4, 6, 8), ValueError, "got 6"),
            (torch.rand(2, 4, 5, 0), ValueError, "must not be empty"),
        ],
    )
    def test_strips(self, model_class, strips, error, message):
        with pytest.raises(error, match=message):
            small(model_class)(strips)

    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            ([8, 9], ValueError, r"lengths\[1\] is 9; .* 8, the number of columns"),
            ([8], ValueError, r"shape \[1\]; it should be \[2\]"),
            ([8.0, 1.0], TypeError, r"dtype torch\.float32"),
        ],
    )
    def test_lengths(self, model_class, lengths, error, message):
        with pytest.raises(error, match=message):
            small(model_class)(torch.rand(2, 4, 5, 8), lengths)
