import hashlib

import numpy as np
import pytest

from fastrnn.data.composition import DigitStrips


@pytest.fixture(scope="module")
def digits():
    """Digits of noise, so that each crop can be recognised; no zeros, so that it can be seen."""
    return np.random.default_rng(0).integers(1, 256, (30, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def make(digits):
    def make(size=200, key=(0, 0), **task):
        return DigitStrips(digits, np.arange(30) % 10, size=size, key=key, **task)

    return make


def shown_digits(strip, digits):
    """Number and first column of every whole digit in a strip, from left to right."""
    places = np.lib.stride_tricks.sliding_window_view(strip[0].numpy(), (28, 28))[0]
    # clutter only adds to a digit; a few pixels first, as most places fail on them
    likely = (places[:, None, ::7, ::7] >= digits[:, ::7, ::7]).all((2, 3))
    found = [(int(number), int(column)) for column, number in np.argwhere(likely)]
    return [at for at in found if (places[at[1]] >= digits[at[0]]).all()]


def test_widths_fill_140_to_420_evenly(make):
    lengths = make(20_000).lengths
    assert (lengths.min(), lengths.max()) == (140, 420)
    assert lengths.mean() == pytest.approx(280, abs=2)
    assert np.bincount(lengths)[140:].min() > 30


def test_digit_stands_whole_at_its_offset_under_the_clutter(make, digits):
    strips = make()
    offsets = []
    for index, (strip, target) in enumerate(strips):
        assert target == index % 30 % 10
        digit = digits[index % 30]
        places = np.lib.stride_tricks.sliding_window_view(strip[0].numpy(), (28, 28))[0]
        fits = [x for x, place in enumerate(places) if (place >= digit).all()]
        assert len(fits) == 1
        assert (places[fits[0]] == digit).mean() > 0.25
        offsets.append(fits[0] / (strip.shape[-1] - 28))
    assert np.mean(offsets) == pytest.approx(0.5, abs=0.08)
    assert max(offsets) > 0.97
    assert min(offsets) < 0.03


def test_clutter_is_eight_crops_of_other_digits_per_280_columns(digits):
    # the strip's own digit is black, so that all there is to see is clutter
    digits = np.concatenate([np.zeros((1, 28, 28), np.uint8), digits[1:]])
    # where each run of 8 pixels comes from: noise makes it unique
    runs = np.lib.stride_tricks.sliding_window_view(digits[1:], 8, axis=2)
    origin = {runs[where].tobytes(): where for where in np.ndindex(runs.shape[:3])}
    expected, found = 0, set()
    for seed in range(40):
        strip = DigitStrips(digits, np.zeros(30, int), size=1, key=(seed,))[0][0][0].numpy()
        expected += round(8 * strip.shape[1] / 280)
        seen = np.lib.stride_tricks.sliding_window_view(strip, 8, axis=1)
        crops = {}
        for y, x in np.ndindex(seen.shape[:2]):
            if (where := origin.get(seen[y, x].tobytes())) is not None:
                source, row, column = where
                crops.setdefault((source, column, x, y - row), set()).add(y)
        assert all(max(rows) - min(rows) < 8 for rows in crops.values())
        found |= {(seed, *crop) for crop in crops}
    assert 0.97 * expected < len(found) <= expected  # a few lie under others


def test_strip_depends_on_key_and_index_only(make):
    long, short = make(300), make(20)
    assert (long.lengths[:20] == short.lengths).all()
    backwards = {index: short[index][0] for index in reversed(range(20))}
    for index in range(20):
        assert (long[index][0] == backwards[index]).all()
        assert (make(20)[index][0] == backwards[index]).all()


def test_other_keys_give_other_strips(make):
    lengths = [make(key=key).lengths.tolist() for key in ((0, 0), (0, 1), (1, 0))]
    assert lengths[0] != lengths[1] != lengths[2] != lengths[0]


def test_more_strips_than_digits_have_fresh_offsets_and_clutter(make):
    strips = make(60)
    assert strips[0][1] == strips[30][1]
    assert strips.lengths[:30].tolist() != strips.lengths[30:].tolist()


def test_first_task_shows_two_to_six_digits_side_by_side_of_which_the_first_counts(make, digits):
    strips = make(300, task="first")
    counts, gaps, others = [], [], []
    for index, (strip, target) in enumerate(strips):
        assert target == index % 30 % 10
        numbers, columns = zip(*shown_digits(strip, digits), strict=True)
        assert numbers[0] == index % 30
        assert index % 30 not in numbers[1:]
        edges = np.array([-28, *columns, strip.shape[-1]])
        gaps.append(np.diff(edges) - 28)
        assert gaps[-1].min() >= 0
        counts.append(len(numbers))
        others += numbers[1:]
    assert sorted(set(counts)) == [2, 3, 4, 5, 6]
    assert np.bincount(counts)[2:].min() > 40
    assert len(set(others)) == 30
    shares = [gap / max(1, gap.sum()) for gap in gaps if len(gap) == 5]
    assert np.allclose(np.mean(shares, axis=0), 0.2, atol=0.08)  # no gap is favoured


def test_first_task_has_all_widths_that_its_digits_fit_into(make):
    lengths = make(20_000, task="first").lengths
    assert (lengths.min(), lengths.max()) == (140, 420)
    assert np.bincount(lengths)[140:].min() > 20


def test_first_task_has_as_much_clutter_between_its_digits(make, digits):
    covered = []
    for strip, _ in make(100, task="first"):
        free = np.ones(strip.shape[-1], bool)
        for _, column in shown_digits(strip, digits):
            free[column : column + 28] = False
        covered.append((strip[0, :, free] > 0).float().mean())
    assert np.mean(covered) == pytest.approx(8 * 8 * 8 / (28 * 280), abs=0.008)


@pytest.mark.parametrize("task", ["find", "first"])
def test_strip_of_each_task_does_not_depend_on_how_many_there_are(make, task):
    long, short = make(300, task=task), make(20, task=task)
    for index in reversed(range(20)):
        assert (long[index][0] == short[index][0]).all()


def test_tasks_have_random_numbers_of_their_own(make):
    assert make(task="find").lengths.tolist() != make(task="first").lengths.tolist()


@pytest.mark.parametrize(
    ("task", "expected"), [("find", "f05d43c8321f"), ("first", "fc33f8d89da0")]
)
def test_strips_are_the_same_in_every_version(task, expected):
    digits = np.random.Philox(5).random_raw(30 * 28 * 28 // 8).view(np.uint8).reshape(30, 28, 28)
    strips = DigitStrips(digits, np.arange(30) % 10, size=40, key=(3, 1), task=task)
    digest = hashlib.sha256(strips.lengths.tobytes())
    for strip, _ in strips:
        digest.update(strip.numpy().tobytes())
    assert digest.hexdigest().startswith(expected)


def test_unknown_task_is_named(make):
    with pytest.raises(ValueError, match='task is \'last\', but must be "find" or "first"'):
        make(task="last")
