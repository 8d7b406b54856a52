"""Convolutions over strips of different lengths: padding and neighbours make no difference."""

import doctest
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastrnn.nn.conv import ConvContext, ConvFront, FrameFront

ROWS, FEATURES = 5, 4
FILLERS = (0.0, 1e30, math.nan)


def shaken(module: nn.Module) -> nn.Module:
    """A module in float64 whose normalisations, too, have other gains than 1 and shifts than 0."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module


def front_of(width_factor: int, blocks: int = 2) -> ConvFront:
    channels = [3, 4, 2][:blocks]
    return shaken(
        ConvFront(2, ROWS, channels=channels, width_factor=width_factor, out_features=FEATURES)
    )


def padded(strips: list[Tensor], width: int, filler: float) -> Tensor:
    """Strips [C, H, w] in one batch [B, C, H, width]."""
    batch = torch.full((len(strips), *strips[0].shape[:2], width), filler).double()
    for row, strip in zip(batch, strips, strict=True):
        row[..., : strip.shape[2]] = strip
    return batch


def gradients_of(module: nn.Module, result: Tensor) -> list[Tensor]:
    """Parameters' gradients of a loss that weighs all features and strips differently."""
    weights = torch.linspace(-1, 1, result[0].numel(), dtype=result.dtype).view(result.shape[1:])
    return list(torch.autograd.grad((result.sin() * weights).sum(), list(module.parameters())))


class TestConvFront:
    @settings(max_examples=40)
    @given(
        widths=st.lists(st.integers(0, 11), min_size=1, max_size=4),
        width_factor=st.sampled_from([1, 2, 4]),
        extra=st.integers(0, 5),
        filler=st.sampled_from(FILLERS),
    )
    def test_a_padded_strip_gives_the_steps_it_gives_alone(
        self, widths, width_factor, extra, filler
    ):
        front = front_of(width_factor)
        strips = [torch.rand(2, ROWS, width, dtype=torch.float64) for width in widths]
        lengths = torch.tensor(widths)
        batch = padded(strips, max(1, *widths) + extra, filler)
        steps, counts = front(batch, lengths)
        assert counts.tolist() == [-(-width // width_factor) for width in widths]
        assert len(steps) == -(-batch.shape[3] // width_factor)
        for b, (strip, count) in enumerate(zip(strips, counts.tolist(), strict=True)):
            assert not steps[count:, b].any()
            if count:
                alone, none = front(strip[None])
                assert none is None
                torch.testing.assert_close(steps[:count, b], alone[:, 0])

    @pytest.mark.parametrize("width_factor", [1, 2, 4])
    @pytest.mark.parametrize("filler", FILLERS)
    def test_padding_makes_no_difference_to_gradients(self, width_factor, filler):
        front, lengths = front_of(width_factor), torch.tensor([7, 0, 1, 4])
        strips = [torch.rand(2, ROWS, width, dtype=torch.float64) for width in lengths.tolist()]
        plain = front(padded(strips, 7, 0.0), lengths)[0]
        wide = front(padded(strips, 12, filler), lengths)[0][: len(plain)]
        for got, want in zip(gradients_of(front, wide), gradients_of(front, plain), strict=True):
            torch.testing.assert_close(got, want)

    @pytest.mark.parametrize("width_factor", [1, 2, 4])
    def test_a_step_sees_its_own_columns_and_their_neighbours(self, width_factor):
        front = front_of(width_factor)
        strip = torch.rand(1, 2, ROWS, 48, dtype=torch.float64)
        before = front(strip)[0]
        changed = strip.clone()
        changed[..., 24] += 1
        steps = (front(changed)[0] != before).any(2)[:, 0].nonzero().flatten()
        own = 24 // width_factor
        assert own in steps
        # 5 x 5, then 3 x 3: two columns to each side, and one of those that the first block gives.
        reach = 2 + (1 if width_factor == 1 else 2)
        assert (steps * width_factor - 24).abs().max() <= reach

    def test_every_row_and_channel_counts(self):
        front = front_of(2)
        strip = torch.rand(1, 2, ROWS, 6, dtype=torch.float64, requires_grad=True)
        front(strip)[0].sin().sum().backward()
        assert (strip.grad != 0).all()

    @pytest.mark.parametrize("rows", [1, 2, 7, 8, 9])
    def test_any_height_is_taken_down(self, rows):
        front = ConvFront(1, rows, channels=(2, 2, 2), width_factor=8, out_features=3)
        assert front.project.in_features == 2 * -(-rows // 8)
        assert front(torch.rand(2, 1, rows, 17))[0].shape == (3, 2, 3)

    @pytest.mark.parametrize("width_factor", [0, 3, 8, -2])
    def test_refuses_factors_that_the_blocks_do_not_give(self, width_factor):
        message = f"width_factor must be one of 1, 2, 4 with 2 convolutions, got {width_factor}"
        with pytest.raises(ValueError, match=message):
            front_of(width_factor)


def frame_front() -> FrameFront:
    return shaken(FrameFront(2, ROWS, 6, channels=(3, 2), out_features=FEATURES))


class TestFrameFront:
    @settings(max_examples=30)
    @given(
        counts=st.lists(st.integers(0, 4), min_size=1, max_size=3),
        extra=st.integers(0, 2),
        filler=st.sampled_from(FILLERS),
    )
    def test_a_frame_gives_what_it_gives_alone(self, counts, extra, filler):
        front = frame_front()
        clips = torch.full((len(counts), max(1, *counts) + extra, 2, ROWS, 6), filler).double()
        for clip, count in zip(clips, counts, strict=True):
            clip[:count] = torch.rand(count, 2, ROWS, 6)
        steps, lengths = front(clips, torch.tensor(counts))
        assert steps.is_contiguous()
        assert lengths.tolist() == counts
        for b, count in enumerate(counts):
            assert not steps[count:, b].any()
            for t in range(count):
                alone, _ = front(clips[b : b + 1, t : t + 1])
                torch.testing.assert_close(steps[t, b], alone[0, 0])

    def test_all_frames_are_valid_without_lengths(self):
        front, clips = frame_front(), torch.rand(3, 4, 2, ROWS, 6, dtype=torch.float64)
        torch.testing.assert_close(front(clips)[0], front(clips, torch.tensor([4, 4, 4]))[0])

    @pytest.mark.parametrize("counts", [[3, 0, 2], [0, 0, 0]])
    def test_only_valid_frames_are_convolved(self, counts):
        front, seen = frame_front(), []
        front.blocks[0].conv.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
        front(torch.rand(3, 4, 2, ROWS, 6, dtype=torch.float64), torch.tensor(counts))
        assert seen == [sum(counts)]

    def test_gradients_exist_where_no_frame_is_valid(self):
        front = frame_front()
        steps, _ = front(torch.rand(2, 3, 2, ROWS, 6, dtype=torch.float64), torch.tensor([0, 0]))
        steps.sum().backward()
        assert not any(parameter.grad.any() for parameter in front.parameters())

    def test_has_the_type_that_autocast_computes_in(self):
        front, clips = frame_front().float(), torch.rand(2, 3, 2, ROWS, 6)
        with torch.autocast("cpu", torch.bfloat16):
            steps, _ = front(clips, torch.tensor([3, 1]))
        assert steps.dtype == torch.bfloat16
        expected, _ = front(clips, torch.tensor([3, 1]))
        torch.testing.assert_close(steps.float(), expected, rtol=0.05, atol=0.05)


class TestConvContext:
    @settings(max_examples=30)
    @given(
        lengths=st.lists(st.integers(0, 7), min_size=1, max_size=3),
        kernel_size=st.sampled_from([1, 3, 5, 19]),
        extra=st.integers(0, 3),
    )
    def test_padding_makes_no_difference(self, lengths, kernel_size, extra):
        context = shaken(ConvContext(FEATURES, kernel_size))
        steps = torch.zeros(max(1, *lengths) + extra, len(lengths), FEATURES).double()
        for b, length in enumerate(lengths):
            steps[:length, b] = torch.rand(length, FEATURES)
        result = context(steps, torch.tensor(lengths))
        for b, length in enumerate(lengths):
            assert not result[length:, b].any()
            if length:
                alone = context(steps[:length, b : b + 1])
                torch.testing.assert_close(result[:length, b], alone[:, 0])

    def test_a_step_sees_so_many_steps_as_the_kernel_has(self):
        context = shaken(ConvContext(FEATURES, 5))
        steps = torch.rand(20, 1, FEATURES, dtype=torch.float64)
        changed = steps.clone()
        changed[10, 0, 1] += 1
        difference = (context(changed) != context(steps)).any(2)[:, 0].nonzero().flatten()
        assert difference.tolist() == [8, 9, 10, 11, 12]

    def test_adds_to_what_was_there(self):
        context = ConvContext(FEATURES, 3)
        with torch.no_grad():
            context.conv.weight.zero_()
            context.conv.bias.fill_(-1)  # stopped by ReLU
        steps = torch.randn(6, 2, FEATURES)
        assert torch.equal(context(steps), steps)

    @pytest.mark.parametrize("kernel_size", [0, 4, -1])
    def test_refuses_kernels_without_a_middle(self, kernel_size):
        message = f"kernel_size must be odd and positive, got {kernel_size}"
        with pytest.raises(ValueError, match=message):
            ConvContext(FEATURES, kernel_size)


def test_examples_in_docstrings_run():
    assert doctest.testmod(sys.modules["fastrnn.nn.conv"]).failed == 0
