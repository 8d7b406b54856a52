"""Several modalities: they meet early, in the middle or late, and each may be missing."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.models import CNNLSTMClassifier, FusionClassifier, FusionConfig, StripClassifier
from fastrnn.models.fusion import ENCODERS, FUSIONS

MODALITIES = {"rgb": slice(0, 3), "depth": slice(3, 4)}
LENGTHS = [12, 0, 1, 7]
SEEN = [0, 2, 3]  # strips that are not empty: nothing is missing in those that are


def small(**chosen: Any) -> FusionClassifier:
    """The same weights at each call, where the same are asked for; in evaluation mode."""
    torch.manual_seed(0)
    wanted = {
        "hidden_size": 4,
        "conv_channels": [4, 6],
        "conv_features": 8,
        "dropout": 0.0,
        "dtype": torch.float64,
    }
    return FusionClassifier(4, 5, 3, **(wanted | chosen)).eval()


def strips(padding: float = 0.0) -> Tensor:
    made = torch.rand(4, 4, 5, 12, dtype=torch.float64) + 0.01
    for strip, length in zip(made, LENGTHS, strict=True):
        strip[..., length:] = padding
    return made


def without(pixels: Tensor, name: str, filler: float = 0.0) -> Tensor:
    changed = pixels.clone()
    changed[:, MODALITIES[name]] = filler
    return changed


every_kind = pytest.mark.parametrize("fusion", FUSIONS)
every_modality = pytest.mark.parametrize("name", MODALITIES)


class TestMissing:
    @every_kind
    @every_modality
    def test_zeros_are_a_modality_left_out(self, fusion, name):
        model, pixels = small(fusion=fusion), strips(math.nan)
        left_out = model(pixels, LENGTHS, missing=[name])
        torch.testing.assert_close(model(without(pixels, name), LENGTHS), left_out)
        assert not torch.allclose(left_out[0], model(pixels, LENGTHS)[0])

    @every_kind
    @every_modality
    @pytest.mark.parametrize("held", [1e6, math.nan, math.inf])
    def test_what_it_held_makes_no_difference(self, fusion, name, held):
        model, pixels = small(fusion=fusion), strips()
        expected = model(pixels, LENGTHS, missing=[name])
        got = model(without(pixels, name, held), LENGTHS, missing=[name])
        assert torch.equal(got, expected)
        assert got.isfinite().all()

    @every_kind
    @every_modality
    def test_it_may_be_missing_in_some_strips_of_a_batch(self, fusion, name):
        model, pixels = small(fusion=fusion), strips()
        some = pixels.clone()
        some[2] = without(pixels, name)[2]
        expected = model(pixels, LENGTHS)
        expected[2] = model(pixels, LENGTHS, missing=[name])[2]
        torch.testing.assert_close(model(some, LENGTHS), expected)

    @pytest.mark.parametrize("fusion", ["middle", "late"])
    @every_modality
    def test_the_weights_that_read_it_are_not_needed(self, fusion, name):
        model, pixels = small(fusion=fusion), strips()
        expected = model(pixels, LENGTHS, missing=[name])
        parts = model.encoder.encoders if fusion == "middle" else model.branches
        for parameter in parts[list(MODALITIES).index(name)].parameters():
            parameter.data.uniform_(5, 9)
        got = model(pixels, LENGTHS, missing=[name])
        assert torch.equal(got[SEEN], expected[SEEN])

    def test_the_gate_weighs_those_that_are_there(self):
        model, pixels = small(modalities=[("a", 1), ("b", 1), ("c", 2)]), strips()
        pixels[:, 1] = 0
        parts = [pixels[:, :1], pixels[:, 1:2], pixels[:, 2:]]
        read = zip(model.encoder.encoders, parts, strict=True)
        steps = [encoder(part, LENGTHS).steps for encoder, part in read]
        steps[1] = torch.zeros_like(steps[1])
        scores = model.encoder.gate(torch.cat(steps, dim=2))[..., [0, 2]]
        weights = scores.softmax(2)[..., None]
        expected = steps[0] * weights[:, :, 0] + steps[2] * weights[:, :, 1]
        fused = model.encoder(pixels, LENGTHS).steps
        torch.testing.assert_close(fused[:, SEEN], expected[:, SEEN])

    @every_kind
    def test_pixels_in_the_padding_are_no_modality(self, fusion):
        model = small(fusion=fusion)
        padded = strips(padding=3.0)
        for strip, length in zip(padded, LENGTHS, strict=True):
            strip[3, :, :length] = 0  # no depth
        expected = model(torch.where(padded == 3, 0, padded), LENGTHS)
        torch.testing.assert_close(model(padded, LENGTHS), expected)

    @every_kind
    def test_black_strips_have_all_modalities(self, fusion):
        model = small(fusion=fusion)
        logits = model(torch.zeros(2, 4, 5, 12), [12, 5])
        assert logits.isfinite().all()
        assert not torch.equal(logits[0], logits[1])

    def test_strips_are_left_as_they_were(self):
        pixels = strips()
        before = pixels.clone()
        small()(pixels, LENGTHS, missing=["rgb"])
        assert torch.equal(pixels, before)

    @every_kind
    def test_bytes_may_be_missing_too(self, fusion):
        model, pixels = small(fusion=fusion), (strips() * 255).byte()
        left_out = model(pixels, LENGTHS, missing=("depth",))
        torch.testing.assert_close(model(without(pixels, "depth", 0), LENGTHS), left_out)


class TestKinds:
    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_late_is_the_mean_of_the_modalities_logits(self, encoder):
        model, pixels = small(fusion="late", encoder=encoder), strips()
        parts = zip(model.branches, MODALITIES.values(), strict=True)
        logits = [branch(pixels[:, channels], LENGTHS) for branch, channels in parts]
        torch.testing.assert_close(model(pixels, LENGTHS), sum(logits) / 2)
        alone = model(pixels, LENGTHS, missing=["depth"])
        torch.testing.assert_close(alone[SEEN], logits[0][SEEN])

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_early_is_one_encoder_of_all_channels(self, encoder):
        model, pixels = small(fusion="early", encoder=encoder), strips()
        shared = {"hidden_size": 4, "dtype": torch.float64}
        alone = (
            StripClassifier(4, 5, 3, layer_norm="output", **shared)
            if encoder == "lstm"
            else CNNLSTMClassifier(4, 5, 3, conv_channels=[4, 6], conv_features=8, **shared)
        )
        alone.eval().load_state_dict(model.state_dict())
        torch.testing.assert_close(model(pixels, LENGTHS), alone(pixels, LENGTHS))

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_middle_weighs_the_modalities_step_by_step(self, encoder):
        model, pixels = small(fusion="middle", encoder=encoder), strips()
        fused = model.encoder(pixels, LENGTHS)
        parts = [
            single(pixels[:, channels], LENGTHS).steps
            for single, channels in zip(model.encoder.encoders, MODALITIES.values(), strict=True)
        ]
        weights = model.encoder.gate(torch.cat(parts, dim=2)).softmax(2)
        expected = sum(part * weights[..., m : m + 1] for m, part in enumerate(parts))
        torch.testing.assert_close(fused.steps, expected)
        assert weights[:, 0].std(0).min() > 0  # no two steps alike

    @every_kind
    def test_attention_is_given_where_the_modalities_share_one(self, fusion):
        model, pixels = small(fusion=fusion), strips()
        if fusion == "late":
            with pytest.raises(ValueError, match="fusion='early' or 'middle', this is 'late'"):
                model(pixels, LENGTHS, return_attention=True)
            return
        logits, weights = model(pixels, LENGTHS, missing=["rgb"], return_attention=True)
        torch.testing.assert_close(logits, model(pixels, LENGTHS, missing=["rgb"]))
        torch.testing.assert_close(weights.sum(1).tolist(), [1.0, 0.0, 1.0, 1.0])

    @every_kind
    def test_every_kind_trains(self, fusion):
        """Which modality is brighter: neither alone can tell."""
        torch.manual_seed(0)
        model = FusionClassifier(
            2,
            4,
            2,
            modalities=[("a", 1), ("b", 1)],
            fusion=fusion,
            encoder="lstm",
            hidden_size=8,
            modality_dropout=0.0,
            dropout=0.0,
        )
        levels = torch.rand(64, 2, 1, 1)
        pixels, targets = levels.expand(-1, -1, 4, 6) + 0.05, (levels[:, 0] > levels[:, 1]).long()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        for _ in range(40):
            loss = torch.nn.functional.cross_entropy(model(pixels), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.35

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_settings_reach_every_encoder(self, encoder):
        chosen = {"hidden_size": 6, "coupled_gates": True, "layer_norm": "output", "num_layers": 2}
        model = small(encoder=encoder, **chosen)
        for single in model.encoder.encoders:
            recurrence = single.context if encoder == "cnn-lstm" else single.recurrence
            assert recurrence.lstm.coupled_gates
            assert (recurrence.lstm.hidden_size, recurrence.lstm.num_layers) == (6, 2)
            assert recurrence.norm is not None

    def test_plain_lstms_have_no_width_factor(self):
        assert small(encoder="lstm", conv_channels=[4]).config.width_factor == 4


class TestModalityDropout:
    @settings(max_examples=10)
    @given(
        chance=st.floats(0.05, 0.95),
        gone=st.lists(st.sampled_from([None, "rgb", "depth"]), min_size=4, max_size=4),
    )
    def test_never_hides_all_that_a_strip_has(self, chance, gone):
        model = small(modality_dropout=chance)
        pixels = strips(math.nan)
        for strip, name in zip(pixels, gone, strict=True):
            if name is not None:
                strip[MODALITIES[name]] = 0
        for _ in range(10):
            left = model._drop(pixels, torch.tensor(LENGTHS))
            for strip, length in zip(left, LENGTHS, strict=True):
                assert strip[..., :length].any() or not length

    def test_hides_the_share_that_it_says(self):
        model = small(modality_dropout=0.3)
        left = model._drop(torch.ones(4000, 4, 1, 1), None)
        hidden = torch.stack([left[:, 0, 0, 0] == 0, left[:, 3, 0, 0] == 0])
        # Both would be hidden in 9 of 100 strips, which keep one of them instead.
        assert hidden.double().mean(1).tolist() == pytest.approx([0.3 - 0.045] * 2, abs=0.03)
        assert torch.equal(left[:, 0], left[:, 2])

    @every_kind
    def test_acts_in_training_alone(self, fusion):
        model, pixels = small(fusion=fusion, modality_dropout=0.5), strips()
        assert torch.equal(model(pixels, LENGTHS), model(pixels, LENGTHS))
        model.train()
        seen = torch.stack([model(pixels, LENGTHS)[0] for _ in range(16)]).detach()
        kinds = [
            model.eval()(pixels, LENGTHS, missing=gone)[0] for gone in ([], ["rgb"], ["depth"])
        ]
        matches = torch.stack([torch.isclose(seen, kind).all(1) for kind in kinds])
        assert matches.any(0).all()  # every draw is one of the three
        assert matches.any(1).all()  # and each of them was drawn

    @every_kind
    def test_is_off_at_zero(self, fusion):
        model, pixels = small(fusion=fusion, modality_dropout=0.0), strips()
        assert torch.equal(model.train()(pixels, LENGTHS), model.eval()(pixels, LENGTHS))


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"fusion": "deep"}, ValueError, "fusion must be one of early, middle, late, got"),
            ({"encoder": "cnn"}, ValueError, "encoder must be one of cnn-lstm, lstm, got 'cnn'"),
            ({"modality_dropout": 1}, ValueError, r"modality_dropout must be in \[0, 1\), got 1"),
            (
                {"modalities": "rgb"},
                TypeError,
                "pairs of a name and a number of channels, got 'rgb'",
            ),
            ({"modalities": [("rgb", 3), "d1"]}, TypeError, r"modalities\[1\] must be a name and"),
            (
                {"modalities": [("rgb", 3), ("", 1)]},
                TypeError,
                r"\[1\] must begin with a name, got ''",
            ),
            ({"modalities": [("a", 3), ("b", 0)]}, ValueError, r"\[1\]'s channels must be from 1"),
            ({"modalities": [("a", 4)]}, ValueError, r"at least two, .*, got \['a'\]"),
            ({"modalities": [("a", 3), ("a", 1)]}, ValueError, "with different names"),
            (
                {"modalities": [("a", 3), ("b", 2)]},
                ValueError,
                "5 channels together, but .* 4",
            ),
            (
                {"stack": 2},
                ValueError,
                "stack is for encoder='lstm' only, got 2 with encoder='cnn-",
            ),
            ({"width_factor": 16}, ValueError, "width_factor must be one of 1, 2, 4, 8 with 3"),
        ],
    )
    def test_settings(self, changes, error, message):
        with pytest.raises(error, match=message):
            FusionConfig(4, 8, 3, **changes)

    @pytest.mark.parametrize(
        ("missing", "error", "message"),
        [
            ("rgb", TypeError, "missing must be a sequence of names, not the one string 'rgb'"),
            (["sound"], ValueError, "missing must name some of rgb, depth, got 'sound'"),
            (["depth", "rgb"], ValueError, "missing names all modalities; one must be there"),
        ],
    )
    def test_missing(self, missing, error, message):
        with pytest.raises(error, match=message):
            small()(strips(), LENGTHS, missing=missing)
