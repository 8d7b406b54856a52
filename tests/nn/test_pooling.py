import doctest
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.nn.pooling import (
    POOLINGS,
    AttentionPooling,
    LastPooling,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    make_pooling,
)

NAMES = tuple(POOLINGS)
FILLERS = (0.0, 1e30, -1e30, math.inf, math.nan)


@st.composite
def batches(draw, min_length=0):
    """Sequences of various lengths in a padded batch: y [T, B, F], lengths."""
    lengths = draw(st.lists(st.integers(min_length, 9), min_size=1, max_size=5))
    steps = max(1, max(lengths)) + draw(st.integers(0, 3))
    size = 2 * draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    y = torch.randn(steps, len(lengths), size, generator=generator, dtype=torch.float64)
    return y, lengths


def refill(y: torch.Tensor, lengths: list[int], filler: float) -> torch.Tensor:
    y = y.clone()
    for b, length in enumerate(lengths):
        y[length:, b] = filler
    return y


def padded_longer(y: torch.Tensor, extra: int, filler: float) -> torch.Tensor:
    return torch.cat((y, torch.full((extra, *y.shape[1:]), filler, dtype=y.dtype)))


@settings(deadline=None)
@given(
    batch=batches(),
    name=st.sampled_from(NAMES),
    bidirectional=st.booleans(),
    filler=st.sampled_from(FILLERS),
    extra=st.integers(0, 5),
)
def test_padding_makes_no_difference(batch, name, bidirectional, filler, extra):
    y, lengths = batch
    pooling = make_pooling(name, y.shape[2], bidirectional=bidirectional, dtype=y.dtype)
    expected = pooling(refill(y, lengths, 0.0), lengths)
    result = pooling(padded_longer(refill(y, lengths, filler), extra, filler), lengths)
    torch.testing.assert_close(result, expected)


@settings(deadline=None)
@given(batch=batches(min_length=1), name=st.sampled_from(NAMES), bidirectional=st.booleans())
def test_a_padded_batch_gives_what_its_sequences_give_alone(batch, name, bidirectional):
    y, lengths = batch
    pooling = make_pooling(name, y.shape[2], bidirectional=bidirectional, dtype=y.dtype)
    alone = [pooling(y[:length, b : b + 1]) for b, length in enumerate(lengths)]
    torch.testing.assert_close(pooling(y, lengths), torch.cat(alone))


@settings(deadline=None)
@given(batch=batches(), name=st.sampled_from(NAMES), filler=st.sampled_from([0.0, 1e30, math.nan]))
def test_gradients_are_finite_and_zero_on_padding(batch, name, filler):
    y, lengths = batch
    y = refill(y, lengths, filler).requires_grad_()
    pooling = make_pooling(name, y.shape[2], dtype=y.dtype)
    pooling(y, lengths).square().sum().backward()
    assert y.grad.isfinite().all()
    assert not refill(y.grad, [0] * len(lengths), 0.0).any()
    for b, length in enumerate(lengths):
        assert not y.grad[length:, b].any()
    for parameter in pooling.parameters():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_sequence_gives_zeros(name):
    pooling = make_pooling(name, 4)
    pooled = pooling(torch.randn(5, 3, 4), [5, 0, 2])
    assert pooled[1].tolist() == [0.0] * pooling.out_size
    assert pooled[0].any()
    assert pooled[2].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_empty_sequences_gives_zeros(name):
    y = torch.randn(2, 2, 4, requires_grad=True)
    pooled = make_pooling(name, 4)(y, [0, 0])
    assert not pooled.any()
    pooled.sum().backward()
    assert not y.grad.any()


@settings(deadline=None)
@given(batch=batches(), name=st.sampled_from(NAMES))
def test_zero_padded_only_saves_work(batch, name):
    y, lengths = batch
    y = refill(y, lengths, 0.0)
    pooling = make_pooling(name, y.shape[2], dtype=y.dtype)
    torch.testing.assert_close(pooling(y, lengths, zero_padded=True), pooling(y, lengths))


@settings(deadline=None)
@given(batch=batches(), name=st.sampled_from(NAMES))
def test_full_lengths_are_no_lengths(batch, name):
    y, _ = batch
    pooling = make_pooling(name, y.shape[2], dtype=y.dtype)
    torch.testing.assert_close(pooling(y, [len(y)] * y.shape[1]), pooling(y))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_right(name):
    torch.manual_seed(0)
    pooling = make_pooling(name, 4, bidirectional=True, dtype=torch.float64)
    y = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: pooling(y, [5, 0, 2]), (y,))
    assert torch.autograd.gradgradcheck(lambda y: pooling(y, [5, 0, 2]), (y,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_result_has_the_type_of_the_input(name, dtype):
    y = torch.randn(6, 2, 4).to(dtype)
    pooling = make_pooling(name, 4, dtype=dtype)
    for lengths in (None, [6, 3]):
        pooled = pooling(y, lengths)
        assert pooled.dtype == dtype
        exact = pooling.double()(y.double(), lengths)
        pooling.to(dtype)
        torch.testing.assert_close(pooled.double(), exact, rtol=2e-2, atol=1e-2)


def test_mean_of_many_half_precision_steps_does_not_overflow():
    y = torch.full((70_000, 1, 1), 2.0, dtype=torch.float16)
    assert MeanPooling(1)(y, [70_000]).item() == 2.0
    assert MeanPooling(1)(y).item() == 2.0


def test_last_takes_each_direction_where_it_ends():
    y = torch.arange(24.0).reshape(4, 2, 3)
    assert LastPooling(3)(y, [4, 2]).tolist() == [[18, 19, 20], [9, 10, 11]]
    y = torch.arange(32.0).reshape(4, 2, 4)
    pooled = LastPooling(4, bidirectional=True)(y, [4, 2])
    assert pooled.tolist() == [[24, 25, 2, 3], [12, 13, 6, 7]]
    assert LastPooling(4, bidirectional=True)(y).tolist() == [[24, 25, 2, 3], [28, 29, 6, 7]]


def test_max_of_negative_values_is_not_the_padding():
    y = torch.tensor([[[-2.0]], [[-1.0]], [[0.0]]])
    assert MaxPooling(1)(y, [2]).tolist() == [[-1.0]]


@settings(max_examples=30)
@given(batch=batches(), filler=st.sampled_from(FILLERS), zero_padded=st.booleans())
def test_mean_and_max_lie_side_by_side(batch, filler, zero_padded):
    y, lengths = batch
    size = y.shape[2]
    pooling = MeanMaxPooling(size)
    y = refill(y, lengths, 0.0 if zero_padded else filler)
    pooled = pooling(y, lengths, zero_padded=zero_padded)
    assert pooled.shape == (len(lengths), pooling.out_size) == (len(lengths), 2 * size)
    for b, length in enumerate(lengths):
        if length:
            steps = y[:length, b]
            torch.testing.assert_close(pooled[b], torch.cat((steps.mean(0), steps.amax(0))))


class TestAttention:
    @settings(deadline=None)
    @given(batch=batches(), filler=st.sampled_from(FILLERS))
    def test_weights_sum_to_1_over_valid_steps_and_are_0_on_padding(self, batch, filler):
        y, lengths = batch
        pooling = AttentionPooling(y.shape[2], dtype=y.dtype)
        pooled, weights = pooling(refill(y, lengths, filler), lengths, return_weights=True)
        assert weights.shape == (y.shape[1], y.shape[0])
        assert (weights >= 0).all()
        for b, length in enumerate(lengths):
            assert not weights[b, length:].any()
            assert weights[b].sum().item() == pytest.approx(min(length, 1))
            expected = (weights[b, :length, None] * y[:length, b]).sum(0)
            torch.testing.assert_close(pooled[b], expected)

    @settings(max_examples=30)
    @given(batch=batches(), heads=st.sampled_from([1, 2]), filler=st.sampled_from(FILLERS))
    def test_is_what_a_loop_over_heads_and_sequences_gives(self, batch, heads, filler):
        y, lengths = batch
        pooling = AttentionPooling(y.shape[2], heads=heads, dtype=y.dtype)
        pooled, weights = pooling(refill(y, lengths, filler), lengths, return_weights=True)
        share = y.shape[2] // heads
        for b, length in enumerate(lengths):
            mean_weights = torch.zeros(len(y), dtype=y.dtype)
            for head, query in enumerate(pooling.query.detach()):
                its = slice(head * share, (head + 1) * share)
                scores = [float(step @ query) for step in y[:length, b]]
                parts = [math.exp(score - max(scores)) for score in scores]
                expected = torch.zeros(share, dtype=y.dtype)
                for step, part in zip(y[:length, b], parts, strict=True):
                    expected += part / sum(parts) * step[its]
                torch.testing.assert_close(pooled[b, its], expected)
                mean_weights[:length] += torch.tensor(parts).double() / sum(parts or [1]) / heads
            torch.testing.assert_close(weights[b], mean_weights)

    def test_gradients_of_all_heads_are_right(self):
        torch.manual_seed(0)
        pooling = AttentionPooling(6, heads=3, dtype=torch.float64)
        y = torch.randn(5, 3, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda y, query: torch.func.functional_call(pooling, {"query": query}, (y, [5, 0, 2])),
            (y, pooling.query),
        )

    @pytest.mark.parametrize("heads", [0, 3, -2])
    def test_heads_divide_the_features(self, heads):
        message = rf"heads must be at least 1 and divide size \(4\), got {heads}"
        with pytest.raises(ValueError, match=message):
            make_pooling("attention", 4, heads=heads)

    def test_other_poolings_have_no_heads(self):
        with pytest.raises(ValueError, match="for pooling='attention' only, got 2 with 'mean'"):
            make_pooling("mean", 4, heads=2)

    def test_repr_shows_the_heads(self):
        text = repr(AttentionPooling(4, heads=2))
        assert text == "AttentionPooling(4, bidirectional=False, heads=2)"

    def test_looks_where_its_query_points(self):
        pooling = AttentionPooling(2)
        with torch.no_grad():
            pooling.query.copy_(torch.tensor([100.0, 0.0]))
        y = torch.tensor([[[0.0, 1.0]], [[1.0, 2.0]], [[0.0, 3.0]]])
        pooled, weights = pooling(y, return_weights=True)
        torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0]]))
        torch.testing.assert_close(pooled, torch.tensor([[1.0, 2.0]]))

    def test_huge_scores_stay_finite(self):
        pooling = AttentionPooling(1)
        y = torch.tensor([[[1e30]], [[-1e30]]])
        assert pooling(y).isfinite().all()

    def test_nan_in_one_sequence_stays_there(self):
        y = torch.randn(4, 2, 2)
        y[1, 0] = math.nan
        pooled = AttentionPooling(2)(y, [4, 3])
        assert pooled[0].isnan().all()
        assert pooled[1].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_compiles_to_one_graph(name):
    pooling = make_pooling(name, 4, bidirectional=True)
    compiled = torch.compile(pooling, fullgraph=True, backend="eager")
    y, lengths = torch.randn(6, 3, 4), torch.tensor([6, 0, 3])
    torch.testing.assert_close(compiled(y, lengths), pooling(y, lengths))


@pytest.mark.parametrize("name", NAMES)
def test_exports_with_any_batch_size_and_number_of_steps(name):
    pooling = make_pooling(name, 4)
    steps, batch = torch.export.Dim("steps"), torch.export.Dim("batch")
    exported = torch.export.export(
        pooling,
        (torch.randn(6, 3, 4), torch.tensor([6, 0, 3])),
        dynamic_shapes=({0: steps, 1: batch}, {0: batch}),
    ).module()
    y, lengths = torch.randn(9, 5, 4), torch.tensor([6, 0, 3, 9, 1])
    torch.testing.assert_close(exported(y, lengths), pooling(y, lengths))


class TestBadInput:
    def test_unknown_name(self):
        with pytest.raises(
            ValueError, match=r"one of last, mean, max, mean\+max, attention, got 'sum'"
        ):
            make_pooling("sum", 4)

    def test_odd_size_for_two_directions(self):
        with pytest.raises(ValueError, match="even for two directions, got 3"):
            make_pooling("last", 3, bidirectional=True)

    def test_size_zero(self):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            make_pooling("last", 0)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("shape", [(5, 2, 3), (5, 4), (0, 2, 4), (5, 0, 4)])
    def test_shape(self, name, shape):
        with pytest.raises(ValueError, match=r"must have shape \[steps, batch, 4\], got"):
            make_pooling(name, 4)(torch.rand(shape))

    @pytest.mark.parametrize("name", NAMES)
    def test_lengths(self, name):
        with pytest.raises(ValueError, match=r"lengths\[1\] is 6.* 5, the number of steps"):
            make_pooling(name, 4)(torch.rand(5, 2, 4), [5, 6])
        with pytest.raises(TypeError, match=r"dtype torch\.float32"):
            make_pooling(name, 4)(torch.rand(5, 2, 4), torch.tensor([5.0, math.nan]))


def test_examples_in_docstrings_run():
    assert doctest.testmod(sys.modules["fastrnn.nn.pooling"]).failed == 0


@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_pooling_of_states_equals_that_of_outputs(bidirectional: bool) -> None:
    lstm = fastrnn.LSTM(3, 4, 2, bidirectional=bidirectional)
    lengths = torch.tensor([5, 0, 2])
    y, (h_n, _) = lstm(torch.randn(5, 3, 3), lengths=lengths)
    pooling = LastPooling(8 if bidirectional else 4, bidirectional=bidirectional)
    assert torch.equal(pooling.pool_state(h_n), pooling(y, lengths))
