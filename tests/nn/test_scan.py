import doctest
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.nn.scan import SCANS, Scan, scan_input_size, to_sequence

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def numbered(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Strips in which every pixel differs."""
    return torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)


def step_by_step(strip: np.ndarray, scan: str, along: str) -> np.ndarray:
    """The sequence [T, I] of one strip [C, H, W], put together pixel by pixel."""
    channels, height, width = strip.shape
    columns = [strip[:, :, w] for w in range(width)]
    rows = [strip[:, h, :] for h in range(height)]
    lines = columns if along == "columns" else rows
    if scan == "channels":
        return np.stack([strip[c].ravel() for c in range(channels)])
    if scan == "profile":
        return np.stack([line.mean(axis=1) for line in lines])
    if scan == "pixels":
        return np.stack([line[:, i] for line in lines for i in range(line.shape[1])])
    return np.stack([line.ravel() for line in lines])


sizes = st.integers(1, 7)


@settings(deadline=None)
@given(scan=st.sampled_from(SCANS), batch=sizes, channels=sizes, height=sizes, width=sizes)
def test_every_step_holds_the_pixels_it_should(scan, batch, channels, height, width):
    strips = numbered(batch, channels, height, width, dtype=torch.float64)
    along = {"rows": "rows", "columns": "columns"}.get(
        scan, "columns" if width >= height else "rows"
    )
    sequence, lengths = to_sequence(strips, scan=scan)
    assert lengths is None
    assert sequence.is_contiguous()
    for b in range(batch):
        expected = step_by_step(strips[b].numpy(), scan, along)
        np.testing.assert_allclose(sequence[:, b].numpy(), expected, rtol=1e-12)


@settings(deadline=None)
@given(
    scan=st.sampled_from(["auto", "columns", "pixels", "profile"]),
    padding=st.integers(0, 9),
    height=sizes,
    width=sizes,
    data=st.data(),
)
def test_valid_steps_come_first_whatever_the_padding(scan, padding, height, width, data):
    strips = numbered(1, 2, height, width)
    filler = data.draw(st.sampled_from([0.0, 9.0, float("nan")]))
    padded = torch.nn.functional.pad(strips, (0, padding), value=filler)
    alone, _ = to_sequence(strips, scan=scan, short_side=height)
    sequence, lengths = to_sequence(padded, [width], scan=scan, short_side=height)
    assert lengths.tolist() == [len(alone)]
    torch.testing.assert_close(sequence[: len(alone)], alone)


@pytest.mark.parametrize(
    ("scan", "shape", "given_lengths", "steps"),
    [
        ("rows", (2, 3, 10, 4), [10, 7], [10, 7]),
        ("columns", (2, 3, 4, 10), [10, 7], [10, 7]),
        ("auto", (2, 3, 10, 4), [10, 7], [10, 7]),
        ("auto", (2, 3, 4, 10), [10, 0], [10, 0]),
        ("pixels", (2, 3, 4, 10), [10, 7], [40, 28]),
        ("pixels", (2, 3, 10, 4), [10, 7], [40, 28]),
        ("profile", (2, 3, 10, 4), [10, 7], [10, 7]),
        ("channels", (2, 3, 4, 10), [3, 1], [3, 1]),
    ],
)
def test_lengths_count_steps(scan, shape, given_lengths, steps):
    for lengths in (given_lengths, torch.tensor(given_lengths, dtype=torch.int32)):
        _, result = to_sequence(torch.rand(shape), lengths, scan=scan)
        assert result.dtype == torch.int64
        assert result.tolist() == steps


def test_profile_of_a_narrow_48_row_rgb_image_is_48_steps_of_3():
    image = torch.rand(1, 3, 48, 20)
    sequence, _ = to_sequence(image, scan="profile")
    assert sequence.shape == (48, 1, 3)
    torch.testing.assert_close(sequence[:, 0], image[0].mean(2).t())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scan", SCANS)
def test_float_pixels_are_taken_as_they_are(scan, dtype):
    strips = torch.rand(2, 3, 4, 6).to(dtype)
    sequence, _ = to_sequence(strips, scan=scan)
    assert sequence.dtype == dtype
    if scan != "profile":
        assert torch.equal(sequence.flatten().sort().values, strips.flatten().sort().values)


@pytest.mark.parametrize("dtype", [None, *FLOATS])
@pytest.mark.parametrize("scan", SCANS)
def test_uint8_pixels_are_scaled_to_0_to_1(scan, dtype):
    strips = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    strips[0], strips[1] = 0, 255
    sequence, _ = to_sequence(strips, scan=scan, dtype=dtype)
    assert sequence.dtype == (dtype or torch.float32)
    assert torch.equal(sequence[:, 0], torch.zeros_like(sequence[:, 0]))
    assert torch.equal(sequence[:, 1], torch.ones_like(sequence[:, 1]))


@pytest.mark.parametrize("scan", SCANS)
def test_uint8_gives_what_its_scaled_floats_give(scan):
    strips = torch.randint(0, 256, (3, 2, 5, 8), dtype=torch.uint8)
    sequence, _ = to_sequence(strips, scan=scan)
    expected, _ = to_sequence(strips.double() / 255, scan=scan, dtype=torch.float32)
    torch.testing.assert_close(sequence, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scan", SCANS)
def test_strips_are_left_as_they_were(scan):
    for strips in (torch.rand(1, 1, 4, 6), torch.full((1, 1, 4, 6), 9, dtype=torch.uint8)):
        before = strips.clone()
        to_sequence(strips, scan=scan)
        assert torch.equal(strips, before)


@pytest.mark.parametrize("scan", SCANS)
def test_memory_layout_makes_no_difference(scan):
    strips = torch.rand(2, 3, 5, 8)
    expected, _ = to_sequence(strips, scan=scan)
    for other in (
        strips.to(memory_format=torch.channels_last),
        torch.nn.functional.pad(strips, (1, 2, 1, 1))[:, :, 1:-1, 1:-2],
        strips.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        sequence, _ = to_sequence(other, scan=scan)
        torch.testing.assert_close(sequence, expected)
        assert sequence.is_contiguous()


@pytest.mark.parametrize("scan", SCANS)
def test_gradient_reaches_the_pixels(scan):
    strips = torch.rand(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: to_sequence(s, scan=scan)[0], (strips,))


@pytest.mark.parametrize("scan", SCANS)
def test_one_pixel_is_one_step(scan):
    sequence, lengths = to_sequence(torch.ones(1, 1, 1, 1), [1], scan=scan)
    assert sequence.tolist() == [[[1.0]]]
    assert lengths.tolist() == [1]


class TestStack:
    @settings(max_examples=40)
    @given(
        scan=st.sampled_from(["auto", "columns", "pixels", "profile"]),
        stack=st.integers(2, 5),
        widths=st.lists(st.integers(0, 9), min_size=1, max_size=3),
        extra=st.integers(0, 4),
        filler=st.sampled_from([0.0, float("inf"), float("nan")]),
    )
    def test_joins_steps_of_a_strip_side_by_side(self, scan, stack, widths, extra, filler):
        strips = torch.full((len(widths), 2, 3, max(1, *widths) + extra), filler)
        for strip, width in zip(strips, widths, strict=True):
            strip[..., :width] = numbered(2, 3, width)
        options = {"scan": scan, "short_side": 3}
        single, counts = to_sequence(strips, widths, **options)
        sequence, lengths = to_sequence(strips, widths, stack=stack, **options)
        assert sequence.is_contiguous()
        assert sequence.shape == (-(-len(single) // stack), len(widths), stack * single.shape[2])
        for b, count in enumerate(counts.tolist()):
            steps = single[:count, b].tolist()
            steps += [[0.0] * single.shape[2]] * (-count % stack)
            groups = [steps[t : t + stack] for t in range(0, len(steps), stack)]
            joined = [[value for step in group for value in step] for group in groups]
            assert lengths[b] == len(joined)
            assert sequence[: len(joined), b].tolist() == joined
            assert not sequence[len(joined) :, b].any()

    @pytest.mark.parametrize("scan", SCANS)
    def test_fills_the_last_step_of_whole_strips_with_zeros(self, scan):
        strips = numbered(2, 5, 5, 5) + 1
        single, _ = to_sequence(strips, scan=scan)
        sequence, lengths = to_sequence(strips, scan=scan, stack=3)
        assert lengths is None
        filled = torch.nn.functional.pad(single, (0, 0, 0, 0, 0, -len(single) % 3))
        for t, step in enumerate(sequence):
            assert torch.equal(step, torch.cat(list(filled[3 * t : 3 * t + 3]), dim=1))

    def test_uint8_is_stacked_before_it_is_scaled(self):
        strips = torch.full((1, 1, 2, 3), 255, dtype=torch.uint8)
        sequence, lengths = to_sequence(strips, [2], stack=2)
        assert sequence.tolist() == [[[1.0] * 4], [[0.0] * 4]]
        assert lengths.tolist() == [1]

    @pytest.mark.parametrize("scan", SCANS)
    def test_gradient_reaches_the_valid_pixels_alone(self, scan):
        strips = torch.rand(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
        call = lambda s: to_sequence(s, [3, 1], scan=scan, stack=2)[0]  # noqa: E731
        assert torch.autograd.gradcheck(call, (strips,))

    @pytest.mark.parametrize("stack", [0, -1])
    def test_is_at_least_1(self, stack):
        with pytest.raises(ValueError, match=f"stack must be at least 1, got {stack}"):
            to_sequence(torch.rand(1, 1, 2, 2), stack=stack)
        with pytest.raises(ValueError, match=f"stack must be at least 1, got {stack}"):
            Scan(in_channels=1, short_side=2, stack=stack)


class TestShortSide:
    def test_decides_the_direction_against_the_longer_side(self):
        sequence, lengths = to_sequence(torch.rand(2, 1, 28, 5), [5, 1], short_side=28)
        assert sequence.shape == (5, 2, 28)
        assert lengths.tolist() == [5, 1]

    def test_takes_rows_where_the_width_has_it(self):
        assert to_sequence(torch.rand(2, 1, 100, 28), short_side=28)[0].shape == (100, 2, 28)

    def test_takes_columns_where_both_sides_have_it(self):
        strips = numbered(1, 1, 3, 3)
        assert torch.equal(to_sequence(strips, short_side=3)[0][:, 0], strips[0, 0].t())

    def test_needs_one_side_to_have_it(self):
        with pytest.raises(ValueError, match=r"side of 28 pixels .* got 30 x 100"):
            to_sequence(torch.rand(2, 1, 30, 100), short_side=28)

    def test_is_checked_for_columns_and_rows(self):
        with pytest.raises(ValueError, match=r"'columns' needs strips of height 28, got 30 x 28"):
            to_sequence(torch.rand(2, 1, 30, 28), scan="columns", short_side=28)
        with pytest.raises(ValueError, match=r"'rows' needs strips of width 28, got 28 x 30"):
            to_sequence(torch.rand(2, 1, 28, 30), scan="rows", short_side=28)


class TestBadInput:
    @pytest.mark.parametrize(
        ("strips", "error", "message"),
        [
            (np.zeros((1, 1, 2, 2)), TypeError, "strips must be a torch.Tensor, got ndarray"),
            (torch.zeros(1, 1, 2, 2, dtype=torch.bool), TypeError, "got torch.bool"),
            (torch.zeros(1, 1, 2, 2, dtype=torch.int64), TypeError, "got torch.int64"),
            (torch.zeros(1, 1, 2, 2, dtype=torch.complex64), TypeError, "got torch.complex64"),
            (torch.zeros(1, 2, 2), ValueError, r"4 dimensions .* got \(1, 2, 2\)"),
            (torch.zeros(0, 1, 2, 2), ValueError, r"must not be empty, got shape \(0, 1, 2, 2\)"),
            (torch.zeros(1, 1, 2, 0), ValueError, r"must not be empty, got shape \(1, 1, 2, 0\)"),
        ],
    )
    def test_strips(self, strips, error, message):
        with pytest.raises(error, match=message):
            to_sequence(strips)

    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            ([12, 13], ValueError, r"lengths\[1\] is 13.* 0 and 12, the number of columns"),
            ([-1, 12], ValueError, r"lengths\[0\] is -1"),
            ([12], ValueError, r"shape \[1\]; it should be \[2\]"),
            ([], ValueError, r"shape \[0\]; it should be \[2\]"),
            ([[12], [12]], ValueError, r"shape \[2, 1\]"),
            (torch.tensor(12), ValueError, r"shape \[\]"),
            ([12.0, 1.0], TypeError, "dtype torch.float32"),
            (torch.tensor([float("nan"), 1.0]), TypeError, "dtype torch.float32"),
            (torch.tensor([True, False]), TypeError, "dtype torch.bool"),
            ("ab", TypeError, "should be 2 integers, got 'ab'"),
            ([None, 3], TypeError, r"should be 2 integers, got \[None, 3\]"),
            (12, TypeError, "should be 2 integers, got 12"),
        ],
    )
    def test_lengths(self, lengths, error, message):
        with pytest.raises(error, match=message):
            to_sequence(torch.rand(2, 1, 4, 12), lengths)

    @pytest.mark.parametrize(
        ("scan", "unit"), [("rows", "4, the number of rows"), ("channels", "3, the number of chan")]
    )
    def test_lengths_beyond_the_scanned_axis(self, scan, unit):
        with pytest.raises(ValueError, match=unit):
            to_sequence(torch.rand(2, 3, 4, 12), [12, 12], scan=scan)

    def test_scan(self):
        with pytest.raises(ValueError, match=r"scan must be one of auto, .*, got 'diagonal'"):
            to_sequence(torch.rand(1, 1, 2, 2), scan="diagonal")

    def test_dtype(self):
        with pytest.raises(TypeError, match=r"floating-point type, got torch\.int64"):
            to_sequence(torch.rand(1, 1, 2, 2), dtype=torch.int64)


class TestScanModule:
    @pytest.mark.parametrize("stack", [1, 2])
    @pytest.mark.parametrize("scan", SCANS)
    def test_input_size_is_that_of_its_sequences(self, scan, stack):
        module = Scan(scan, in_channels=3, short_side=4, long_side=7, stack=stack)
        strips = torch.rand(2, 3, 7, 4) if scan == "rows" else torch.rand(2, 3, 4, 7)
        sequence, _ = module(strips)
        assert sequence.shape[2] == module.input_size
        assert torch.equal(sequence, to_sequence(strips, scan=scan, short_side=4, stack=stack)[0])

    def test_sequences_of_all_widths_have_one_size(self):
        module = Scan(in_channels=1, short_side=28)
        assert {module(torch.rand(1, 1, 28, w))[0].shape[2] for w in (1, 27, 28, 29)} == {28}

    def test_sides_are_optional_where_the_size_does_not_depend_on_them(self):
        assert Scan("profile", in_channels=3)(torch.rand(1, 3, 48, 20))[0].shape == (48, 1, 3)
        assert Scan("pixels", in_channels=3)(torch.rand(1, 3, 4, 5))[0].shape == (20, 1, 3)

    def test_refuses_other_channels(self):
        with pytest.raises(ValueError, match=r"must have 3 channels, got 1 in shape"):
            Scan(in_channels=3, short_side=4)(torch.rand(1, 1, 4, 9))

    def test_channels_refuses_other_sides(self):
        module = Scan("channels", in_channels=3, short_side=4, long_side=9)
        with pytest.raises(ValueError, match=r"needs strips of 4 x 9 .* got 4 x 8"):
            module(torch.rand(1, 3, 4, 8))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scan": "diagonal", "in_channels": 1}, "scan must be one of"),
            ({"scan": "auto", "in_channels": 1}, "scan='auto' needs short_side"),
            ({"scan": "channels", "in_channels": 1, "short_side": 4}, "needs long_side"),
            ({"scan": "pixels", "in_channels": 0}, "in_channels must be at least 1, got 0"),
        ],
    )
    def test_refuses_wrong_settings(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            scan_input_size(**arguments)

    def test_repr_shows_the_settings(self):
        text = repr(Scan("rows", in_channels=3, short_side=4))
        assert text == "Scan('rows', in_channels=3, short_side=4)"
        assert "short_side=4, stack=2)" in repr(Scan("rows", in_channels=3, short_side=4, stack=2))


class TestTracing:
    @pytest.mark.parametrize(
        ("scan", "stack"),
        [("auto", 1), ("columns", 1), ("pixels", 1), ("profile", 1), ("auto", 2)],
    )
    def test_exports_with_any_batch_size_and_width(self, scan, stack):
        module = Scan(scan, in_channels=3, short_side=4, stack=stack)
        # Torch takes a size of 1 for a constant, so more than one step is asked for.
        batch, width = torch.export.Dim("batch"), torch.export.Dim("width", min=stack + 1)
        strips = torch.randint(0, 256, (3, 3, 4, 11), dtype=torch.uint8)
        lengths = torch.tensor([11, 5, 0])
        exported = torch.export.export(
            module, (strips, lengths), dynamic_shapes=({0: batch, 3: width}, {0: batch})
        ).module()
        other = torch.randint(0, 256, (5, 3, 4, 23), dtype=torch.uint8)
        other_lengths = torch.tensor([23, 1, 2, 0, 9])
        for result, expected in zip(
            exported(other, other_lengths), module(other, other_lengths), strict=True
        ):
            assert torch.equal(result, expected)

    @pytest.mark.parametrize("scan", SCANS)
    def test_compiles_to_one_graph(self, scan):
        module = Scan(scan, in_channels=3, short_side=4, long_side=4)
        compiled = torch.compile(module, fullgraph=True, backend="eager")
        strips, lengths = torch.rand(2, 3, 4, 4), torch.tensor([3, 1])
        for result, expected in zip(
            compiled(strips, lengths), module(strips, lengths), strict=True
        ):
            assert torch.equal(result, expected)

    def test_clamps_lengths_that_it_cannot_read(self):
        # On the meta device values do not exist: nothing may try to look at them.
        sequence, lengths = to_sequence(
            torch.rand(2, 1, 4, 9, device="meta"), torch.tensor([1, 2], device="meta")
        )
        assert sequence.shape == (9, 2, 4)
        assert lengths.shape == (2,)


def test_examples_in_docstrings_run():
    assert doctest.testmod(sys.modules["fastrnn.nn.scan"]).failed == 0
