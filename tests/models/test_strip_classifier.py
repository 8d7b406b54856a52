import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.models import StripClassifier, StripClassifierConfig
from fastrnn.nn.pooling import POOLINGS
from fastrnn.nn.scan import SCANS

POOLING_NAMES = tuple(POOLINGS)


def small_model(**settings) -> StripClassifier:
    """A classifier of 8-row strips, in evaluation mode, the same at each call."""
    defaults = {"in_channels": 1, "height": 8, "num_classes": 3, "hidden_size": 5}
    if settings.get("scan") == "channels":
        defaults["width"] = 12
    torch.manual_seed(0)
    return StripClassifier(**(defaults | settings)).eval()


def grey_strips(batch: int = 2, width: int = 12, height: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 1, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def strips_for(scan: str, batch: int = 2) -> torch.Tensor:
    strips = grey_strips(batch)
    return strips.transpose(2, 3) if scan == "rows" else strips


@pytest.mark.parametrize("pooling", POOLING_NAMES)
@pytest.mark.parametrize("scan", SCANS)
def test_gives_one_logit_per_class(scan, pooling):
    logits = small_model(scan=scan, pooling=pooling)(strips_for(scan), [12, 5])
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@settings(deadline=None)
@given(
    pooling=st.sampled_from(POOLING_NAMES),
    scan=st.sampled_from(["auto", "profile", "pixels", "channels"]),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    filler=st.sampled_from([0.0, 1.0, math.nan]),
)
def test_padding_makes_no_difference(pooling, scan, lengths, padding, filler):
    model = small_model(pooling=pooling, scan=scan)
    strips = torch.full((len(lengths), 1, 8, 9 + padding), filler)
    alone = []
    for b, length in enumerate(lengths):
        strip = torch.rand(1, 1, 8, max(length, 1))
        strips[b, ..., :length] = strip[0, ..., :length]
        alone.append(model(strip, [length]))
    torch.testing.assert_close(model(strips, lengths), torch.cat(alone))


@pytest.mark.parametrize("scan", SCANS)
def test_uint8_is_scaled_to_0_to_1(scan):
    model, strips = small_model(scan=scan), strips_for(scan)
    torch.testing.assert_close(model(strips, [12, 5]), model(strips / 255, [12, 5]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float_strips_are_converted_to_the_type_of_the_weights(dtype):
    model, strips = small_model(), (grey_strips() / 255).to(dtype)
    assert model(strips).dtype == torch.float32
    torch.testing.assert_close(model(strips), model(strips.float()))


def test_pixels_are_normalised():
    strips = grey_strips()
    raw = small_model(pixel_mean=0.0, pixel_std=1.0)
    expected = raw((strips / 255 - 0.3) / 0.2)
    torch.testing.assert_close(small_model(pixel_mean=0.3, pixel_std=0.2)(strips), expected)


def test_strips_are_left_as_they_were():
    strips = torch.rand(1, 1, 12, 8)  # of one strip that runs down, the sequence is a view
    before = strips.clone()
    small_model()(strips)
    assert torch.equal(strips, before)


def test_weights_may_be_float64():
    model = small_model(dtype=torch.float64)
    assert model(grey_strips(), [12, 5]).dtype == torch.float64


@pytest.mark.parametrize("pooling", POOLING_NAMES)
def test_gradients_are_finite_with_an_empty_strip(pooling):
    model = small_model(pooling=pooling).train()
    logits = model(grey_strips(3), [12, 0, 5])
    torch.testing.assert_close(logits[1], model.head.bias)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("scan", SCANS)
def test_a_strip_of_one_pixel_works(scan):
    width = 1 if scan == "channels" else None
    model = small_model(scan=scan, height=1, width=width)
    logits = model(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), [1])
    assert logits.isfinite().all()


def test_a_strip_of_one_column_works():
    assert small_model()(grey_strips(width=1), [1, 1]).isfinite().all()


def test_nan_pixels_show_in_their_own_strip_only():
    strips = grey_strips().float() / 255
    strips[0, 0, 3, 4] = math.nan
    logits = small_model()(strips, [12, 9])
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()


def test_auto_turns_strips_that_run_from_top_to_bottom():
    model, strips = small_model(), grey_strips()
    torch.testing.assert_close(model(strips.transpose(2, 3), [12, 5]), model(strips, [12, 5]))


def test_lengths_may_be_a_list_an_array_or_any_integer_tensor():
    model, strips = small_model(), grey_strips()
    expected = model(strips, torch.tensor([12, 5]))
    for lengths in ([12, 5], (12, 5), np.array([12, 5]), torch.tensor([12, 5]).int()):
        assert torch.equal(model(strips, lengths), expected)


def test_channels_fills_up_narrow_strips_and_blanks_padding():
    model = small_model(scan="channels", in_channels=2)
    strips = torch.rand(1, 2, 8, 9)
    expected = model(torch.nn.functional.pad(strips[..., :5], (0, 7)))
    torch.testing.assert_close(model(strips, [5]), expected)


class TestStack:
    @pytest.mark.parametrize("stack", [1, 2, 5])
    def test_a_step_is_so_many_columns(self, stack):
        model = small_model(stack=stack)
        _, weights = model(grey_strips(), [12, 5], return_attention=True)
        assert weights.shape == (2, math.ceil(12 / stack))
        assert (weights > 0).sum(1).tolist() == [math.ceil(width / stack) for width in (12, 5)]
        assert model.encoder.recurrence.lstm.input_size == stack * 8
        assert model.encoder.pixels_per_step == stack

    @pytest.mark.parametrize("scan", ["pixels", "channels"])
    def test_steps_that_do_not_follow_the_strip_stand_for_no_columns(self, scan):
        assert small_model(scan=scan, stack=2).encoder.pixels_per_step == 0

    def test_is_at_least_1(self):
        with pytest.raises(ValueError, match="stack must be from 1 to 16777216, got 0"):
            small_model(stack=0)


class TestAttention:
    def test_sums_to_1_along_the_strip_and_is_0_on_padding(self):
        model, strips = small_model(), grey_strips(3)
        logits, weights = model(strips, [12, 5, 0], return_attention=True)
        torch.testing.assert_close(logits, model(strips, [12, 5, 0]))
        assert weights.shape == (3, 12)
        torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0]))
        assert not weights[1, 5:].any()

    def test_needs_attention_pooling(self):
        with pytest.raises(ValueError, match="pooling='attention', this one has pooling='mean'"):
            small_model(pooling="mean")(grey_strips(), return_attention=True)


class TestLabels:
    def test_are_numbers_by_default(self):
        assert small_model().labels == ("0", "1", "2")

    def test_can_be_given(self):
        assert small_model(labels=["ä", "b", "c"]).labels == ("ä", "b", "c")

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (["a", "b"], ValueError, "name all 3 classes, got 2 names"),
            (["a", "b", "a"], ValueError, "differ, got 'a' twice"),
            ("abc", TypeError, "not the one string 'abc'"),
            ([0, 1, 2], TypeError, "must be strings, got 0"),
        ],
    )
    def test_are_checked(self, labels, error, message):
        with pytest.raises(error, match=message):
            small_model(labels=labels)


class TestConfig:
    def test_is_kept_by_the_model(self):
        model = small_model(scan="channels", num_layers=2, bidirectional=False)
        assert model.config == StripClassifierConfig(
            in_channels=1,
            height=8,
            num_classes=3,
            scan="channels",
            hidden_size=5,
            num_layers=2,
            bidirectional=False,
            width=12,
        )

    def test_builds_an_equal_model(self):
        model = small_model(num_layers=2, labels=["a", "b", "c"])
        torch.manual_seed(0)
        again = StripClassifier.from_config(model.config, labels=model.labels).eval()
        assert again.labels == model.labels
        assert torch.equal(again(grey_strips()), model(grey_strips()))

    def test_has_the_defaults_of_the_model(self):
        assert StripClassifier(1, 8, 3).config == StripClassifierConfig(1, 8, 3)

    def test_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            small_model().config.height = 9

    def test_takes_numpy_integers(self):
        config = StripClassifierConfig(1, 8, np.int64(3))
        assert type(config.num_classes) is int

    @pytest.mark.parametrize(
        ("field", "value", "error", "message"),
        [
            ("in_channels", 0, ValueError, "in_channels must be from 1 to 65536, got 0"),
            ("in_channels", "3", TypeError, "in_channels must be an integer, got '3'"),
            ("height", -1, ValueError, "height must be from 1 to 65536, got -1"),
            ("height", 8.0, TypeError, r"height must be an integer, got 8\.0"),
            ("num_classes", 1, ValueError, "num_classes must be from 2 to .*, got 1"),
            ("num_classes", True, TypeError, "num_classes must be an integer, got True"),
            ("hidden_size", 10**9, ValueError, "hidden_size must be from 1 to 65536, got 10"),
            ("num_layers", 10**9, ValueError, "num_layers must be from 1 to 256, got 10"),
            ("scan", "diagonal", ValueError, "scan must be one of auto, .*, got 'diagonal'"),
            ("scan", None, TypeError, "scan must be a string, got None"),
            ("pooling", "sum", ValueError, "pooling must be one of last, .*, got 'sum'"),
            ("bidirectional", 1, TypeError, "bidirectional must be True or False, got 1"),
            ("dropout", 1.0, ValueError, r"dropout must be in \[0, 1\), got 1\.0"),
            ("dropout", math.nan, ValueError, "dropout must be finite, got nan"),
            ("pixel_mean", 10**400, ValueError, "pixel_mean must be finite, got 10000"),
            ("pixel_mean", math.inf, ValueError, "pixel_mean must be finite, got inf"),
            ("pixel_std", 0, ValueError, r"pixel_std must be positive, got 0\.0"),
            ("dropout", "0", TypeError, "dropout must be a number, got '0'"),
            ("scan", "channels", ValueError, "scan='channels' needs width"),
            ("width", 12, ValueError, "width is for scan='channels' only, got 12"),
        ],
    )
    def test_refuses(self, field, value, error, message):
        with pytest.raises(error, match=message):
            StripClassifier(**({"in_channels": 1, "height": 8, "num_classes": 3} | {field: value}))


class TestBadInput:
    @pytest.mark.parametrize(
        ("strips", "error", "message"),
        [
            (np.zeros((2, 1, 8, 12)), TypeError, "strips must be a torch.Tensor, got ndarray"),
            (torch.rand(2, 1, 8, 12) > 0, TypeError, r"got torch\.bool"),
            (torch.zeros(2, 1, 8, 12).long(), TypeError, r"got torch\.int64"),
            (torch.zeros(2, 1, 8, 12).cfloat(), TypeError, r"got torch\.complex64"),
            (torch.rand(1, 8, 12), ValueError, r"4 dimensions .*, got \(1, 8, 12\)"),
            (torch.rand(2, 3, 8, 12), ValueError, "must have 1 channels, got 3"),
            (torch.rand(2, 1, 9, 12), ValueError, "side of 8 pixels .* got 9 x 12"),
            (torch.rand(2, 1, 8, 0), ValueError, "must not be empty"),
            (torch.rand(0, 1, 8, 12), ValueError, "must not be empty"),
        ],
    )
    def test_strips(self, strips, error, message):
        for scan in ("auto", "channels"):
            if scan == "channels":
                message = message.replace("side of 8 pixels .*", "needs strips of 8 x 12 .*,")
            with pytest.raises(error, match=message):
                small_model(scan=scan)(strips)

    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            ([12, 13], ValueError, r"lengths\[1\] is 13.* 12, the number of columns"),
            ([-1, 12], ValueError, r"lengths\[0\] is -1"),
            ([12, 5, 3], ValueError, r"shape \[3\]; it should be \[2\]"),
            (torch.tensor([[12, 5]]), ValueError, r"shape \[1, 2\]; it should be \[2\]"),
            (torch.tensor([12.0, math.nan]), TypeError, r"dtype torch\.float32"),
            ([12, math.nan], TypeError, r"dtype torch\.float32"),
            (torch.tensor([True, True]), TypeError, r"dtype torch\.bool"),
            (["12", "5"], TypeError, "should be 2 integers"),
        ],
    )
    @pytest.mark.parametrize("scan", ["auto", "columns", "pixels", "profile", "channels"])
    def test_lengths(self, scan, lengths, error, message):
        with pytest.raises(error, match=message):
            small_model(scan=scan)(grey_strips(), lengths)

    def test_width_beyond_that_of_channels(self):
        with pytest.raises(ValueError, match=r"at most 12 columns .* got 13"):
            small_model(scan="channels")(grey_strips(width=13))


class TestUse:
    def test_learns_which_end_is_bright(self):
        torch.manual_seed(0)
        model = StripClassifier(1, 8, 2, hidden_size=8)
        targets = torch.arange(32) % 2
        lengths = torch.randint(6, 21, (32,))
        strips = torch.zeros(32, 1, 8, 20, dtype=torch.uint8)
        for b, length in enumerate(lengths.tolist()):
            bright = slice(0, 2) if targets[b] else slice(length - 2, length)
            strips[b, ..., bright] = 255
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        for _ in range(40):
            loss = torch.nn.functional.cross_entropy(model(strips, lengths), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert (model.eval()(strips, lengths).argmax(1) == targets).all()

    def test_dropout_is_active_in_training_only(self):
        model, strips = small_model(dropout=0.5, num_layers=2), grey_strips()
        assert torch.equal(model(strips), model(strips))
        model.train()
        assert not torch.equal(model(strips), model(strips))

    def test_probabilities_sum_to_1_and_carry_no_gradient(self):
        model = small_model()
        probabilities = model.predict_proba(grey_strips(), [12, 5])
        torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
        torch.testing.assert_close(probabilities, model(grey_strips(), [12, 5]).softmax(1))
        assert not probabilities.requires_grad

    def test_compiles_to_one_graph(self):
        model, strips, lengths = small_model(), grey_strips(), torch.tensor([12, 5])
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(strips, lengths), model(strips, lengths))

    def test_exports_with_any_batch_size_and_width(self):
        model = small_model()
        batch, width = torch.export.Dim("batch"), torch.export.Dim("width")
        exported = torch.export.export(
            model,
            (grey_strips(), torch.tensor([12, 5])),
            dynamic_shapes=({0: batch, 3: width}, {0: batch}),
        ).module()
        strips, lengths = grey_strips(3, width=31), torch.tensor([31, 0, 4])
        with torch.no_grad():
            torch.testing.assert_close(exported(strips, lengths), model(strips, lengths))
