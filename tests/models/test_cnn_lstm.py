"""Convolutions and an LSTM over strips, and over the frames of clips."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastrnn.models import CNNLSTMClassifier, CNNLSTMConfig

WIDTH = 6  # of a frame


def small(**settings: Any) -> CNNLSTMClassifier:
    """The same weights at each call, where the same are asked for; in evaluation mode."""
    torch.manual_seed(0)
    wanted = {"hidden_size": 4, "conv_channels": [4, 6], "conv_features": 8, "dtype": torch.float64}
    return CNNLSTMClassifier(2, 5, 3, **(wanted | settings)).eval()


def of_clips(**settings: Any) -> CNNLSTMClassifier:
    return small(frames=True, frame_width=WIDTH, **settings)


def clips(*counts: int, frames: int = 0) -> Tensor:
    """Random clips [B, T, C, H, w], NaN where there is no frame."""
    shape = (len(counts), max(*counts, frames), 2, 5, WIDTH)
    made = torch.rand(shape, dtype=torch.float64)
    for clip, count in zip(made, counts, strict=True):
        clip[count:] = math.nan
    return made


def side_by_side(frames: Tensor) -> Tensor:
    """Clips [B, T, C, H, w] as strips [B, C, H, T * w]."""
    return torch.stack([torch.cat(list(clip), dim=2) for clip in frames])


class TestStrips:
    @pytest.mark.parametrize("width_factor", [1, 2, 4])
    def test_a_step_is_so_many_columns(self, width_factor):
        model = small(width_factor=width_factor)
        strips = torch.rand(2, 2, 5, 13)
        _, weights = model(strips, [13, 6], return_attention=True)
        assert weights.shape == (2, math.ceil(13 / width_factor))
        assert (weights > 0).sum(1).tolist() == [math.ceil(w / width_factor) for w in (13, 6)]
        assert model.encoder.pixels_per_step == width_factor

    def test_the_lstm_reads_features(self):
        model = small(conv_features=7, hidden_size=3, num_layers=2)
        assert model.encoder.context.lstm.input_size == 7
        assert model.encoder.size == 2 * 3

    def test_pixels_are_normalised(self):
        strips = torch.rand(2, 2, 5, 13, dtype=torch.float64)
        model, raw = small(pixel_mean=0.3, pixel_std=0.2), small(pixel_mean=0.0, pixel_std=1.0)
        torch.testing.assert_close(model(strips), raw((strips - 0.3) / 0.2))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
    def test_strips_are_left_as_they_were(self, dtype):
        strips = (torch.rand(2, 2, 5, 13) * 255).to(dtype)
        before = strips.clone()
        small()(strips, [13, 5])
        assert torch.equal(strips, before)

    def test_what_is_far_counts(self):
        model, strips = small(pooling="last", bidirectional=False), torch.rand(1, 2, 5, 200)
        changed = strips.clone()
        changed[..., :4] += 1
        assert not torch.equal(model(strips), model(changed))

    def test_exports_with_any_batch_size_and_width(self):
        model = small(dtype=torch.float32)
        batch, width = torch.export.Dim("batch"), torch.export.Dim("width", min=8)
        strips, lengths = torch.rand(2, 2, 5, 12), torch.tensor([12, 5])
        exported = torch.export.export(
            model, (strips, lengths), dynamic_shapes=({0: batch, 3: width}, {0: batch})
        ).module()
        others = torch.rand(3, 2, 5, 31), torch.tensor([31, 0, 4])
        with torch.no_grad():
            torch.testing.assert_close(exported(*others), model(*others))


class TestClips:
    def test_frames_side_by_side_and_in_a_row_are_the_same(self):
        model, frames = of_clips(), clips(4, 0, 1, frames=5)
        in_a_row = model(frames, [4, 0, 1])
        strips = side_by_side(frames)
        assert strips.shape == (3, 2, 5, 5 * WIDTH)
        torch.testing.assert_close(model(strips, [4 * WIDTH, 0, WIDTH]), in_a_row)
        torch.testing.assert_close(model(frames[:1, :4]), in_a_row[:1])
        torch.testing.assert_close(model(strips[:1, ..., : 4 * WIDTH]), in_a_row[:1])

    def test_bytes_are_scaled_in_both_forms(self):
        model = of_clips()
        frames = torch.randint(0, 256, (2, 3, 2, 5, WIDTH), dtype=torch.uint8)
        expected = model(frames.double() / 255, [3, 1])
        torch.testing.assert_close(model(frames, [3, 1]), expected)
        torch.testing.assert_close(model(side_by_side(frames), [3 * WIDTH, WIDTH]), expected)

    def test_a_clip_may_end_inside_of_a_frame(self):
        model, frames = of_clips(), clips(2, 2)
        strips = side_by_side(frames)
        blank = strips.clone()
        blank[1, ..., WIDTH + 2 :] = 0
        strips[1, ..., WIDTH + 2 :] = math.nan
        got, weights = model(strips, [2 * WIDTH, WIDTH + 2], return_attention=True)
        torch.testing.assert_close(got, model(blank))
        assert (weights > 0).all()  # the frame that is begun is a step

    def test_features_of_a_frame_do_not_depend_on_other_frames(self):
        front = of_clips().encoder.front
        frames = clips(4)
        changed = frames.clone()
        changed[0, 2] += 1
        moved = (front(frames)[0] != front(changed)[0]).any(2)[:, 0]
        assert moved.tolist() == [False, False, True, False]

    def test_the_order_of_frames_counts(self):
        frames = clips(4)
        assert not torch.allclose(of_clips()(frames), of_clips()(frames.flip(1)))

    def test_only_valid_frames_are_convolved(self):
        model, seen = of_clips(), []
        for block in model.encoder.front.blocks:
            block.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        model(clips(4, 0, 1, frames=9), [4, 0, 1])
        assert seen == [5, 5]

    def test_attention_is_one_weight_a_frame(self):
        _, weights = of_clips()(clips(4, 1), [4, 1], return_attention=True)
        assert weights.shape == (2, 4)
        assert (weights > 0).sum(1).tolist() == [4, 1]

    def test_the_width_factor_is_not_asked_for(self):
        assert of_clips(conv_channels=[4]).config.width_factor == 4


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"frames": 1, "frame_width": 6}, TypeError, "frames must be True or False, got 1"),
            ({"frames": True}, ValueError, "frame_width must be given with frames=True, .*=None"),
            ({"frame_width": 6}, ValueError, "with that alone; got frames=False, frame_width=6"),
            (
                {"frames": True, "frame_width": 0},
                ValueError,
                "frame_width must be from 1 to 16777216, got 0",
            ),
        ],
    )
    def test_settings(self, changes, error, message):
        with pytest.raises(error, match=message):
            CNNLSTMConfig(1, 8, 3, **changes)

    @pytest.mark.parametrize(
        ("frames", "error", "message"),
        [
            (torch.rand(2, 3, 2, 5, 7), ValueError, r"must have 6 columns \(frame_width\), got 7"),
            (torch.rand(2, 3, 2, 4, 6), ValueError, r"must have 5 rows \(height\), got 4"),
            (torch.rand(2, 3, 1, 5, 6), ValueError, "must have 2 channels, got 1"),
            (torch.rand(2, 2, 5, 13), ValueError, "whole frames of 6 columns .*, got 13 columns"),
            (torch.rand(2, 0, 2, 5, 6), ValueError, "must not be empty"),
            (torch.zeros(2, 3, 2, 5, 6).long(), TypeError, r"got torch\.int64"),
            (np.zeros((2, 3, 2, 5, 6)), TypeError, "must be a torch.Tensor, got ndarray"),
        ],
    )
    def test_clips(self, frames, error, message):
        with pytest.raises(error, match=message):
            of_clips()(frames)

    @pytest.mark.parametrize(
        ("frames", "lengths", "message"),
        [
            (clips(4, 4), [4, 5], r"lengths\[1\] is 5; .* 4, the number of frames"),
            (side_by_side(clips(4, 4)), [24, 25], r"is 25; .* 24, the number of columns"),
        ],
        ids=["in a row", "side by side"],
    )
    def test_lengths(self, frames, lengths, message):
        with pytest.raises(ValueError, match=message):
            of_clips()(frames, lengths)
