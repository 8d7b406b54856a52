import hashlib

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn.data.synthetic import GestureClips, RGBDStrips


def near(share, expected, count):
    """Whether a share of ``count`` coins is within four standard deviations of what's expected."""
    return abs(share - expected) < 4 * (expected * (1 - expected) / count) ** 0.5


def linear_accuracy(features, targets, classes):
    """Accuracy on the second half of the best linear map (least squares) from the first half."""
    features = np.asarray(features, float)
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    features = np.concatenate([features, np.ones((len(features), 1))], 1)
    half = len(features) // 2
    weights, *_ = np.linalg.lstsq(features[:half], np.eye(classes)[targets[:half]], rcond=None)
    return ((features[half:] @ weights).argmax(1) == targets[half:]).mean()


@pytest.mark.parametrize("kind", [RGBDStrips, GestureClips])
class TestBoth:
    def test_strip_depends_on_seed_split_and_index_only(self, kind):
        long, short = kind("train", size=30), kind("train", size=5)
        assert long.targets[:5].tolist() == short.targets.tolist()
        backwards = {index: short[index][0] for index in reversed(range(5))}
        for index in range(5):
            assert (long[index][0] == backwards[index]).all()
            assert (kind("train", size=5)[index][0] == backwards[index]).all()

    def test_other_seeds_and_splits_give_other_strips(self, kind):
        datasets = [kind("train", 30), kind("test", 30), kind("train", 30, seed=1)]
        assert len({str(data.lengths) for data in datasets}) == 3
        assert len({data[0][0].numpy().tobytes() for data in datasets}) == 3

    def test_strips_are_as_wide_as_was_said(self, kind):
        data = kind("test", 40)
        for index in range(40):
            assert data[index][0].shape == (data.channels, 24, data.lengths[index])

    def test_classes_are_equally_likely(self, kind):
        targets = kind("train", 8000).targets
        counts = np.bincount(targets) / 8000
        assert all(near(count, 1 / len(counts), 8000) for count in counts)

    def test_wrong_arguments_are_named(self, kind):
        with pytest.raises(ValueError, match='split is \'val\', but must be "train" or "test"'):
            kind("val")
        with pytest.raises(ValueError, match="size is 0, but must be at least 1"):
            kind("train", 0)
        with pytest.raises(ValueError, match="seed is -1, but must be at least 0"):
            kind("train", 10, -1)


@pytest.mark.parametrize(
    ("kind", "digest"), [(RGBDStrips, "0ed23e925c1b13a5"), (GestureClips, "057b21ad5ff899ee")]
)
def test_strips_are_the_same_on_every_machine(kind, digest):
    data = kind("train", 3, seed=5)
    content = b"".join(data[index][0].numpy().tobytes() for index in range(3))
    assert hashlib.sha256(content).hexdigest()[:16] == digest


@pytest.fixture(scope="module")
def strips():
    return RGBDStrips("test", 800)


@pytest.fixture(scope="module")
def pixels(strips):
    return [strips[index][0].numpy() for index in range(800)]


class TestRGBD:
    def test_widths_fill_80_to_200(self, strips):
        assert (strips.lengths.min(), strips.lengths.max()) == (80, 200)

    def test_a_coin_changes_its_own_modality_only(self):
        strips, other = RGBDStrips("train", 20), RGBDStrips("train", 20)
        for coin, same, changed in ((1, slice(3), slice(3, 4)), (2, slice(3, 4), slice(3))):
            other.targets[:] = strips.targets ^ coin
            for index in range(20):
                ours, theirs = strips[index][0], other[index][0]
                assert (ours[same] == theirs[same]).all()
                # three bars or steps of 16 rows, of which the middle one stays
                differences = (ours[changed] != theirs[changed]).any(0)
                assert differences.sum() == 16 * 10

    def test_each_modality_tells_its_own_coin_and_so_reaches_one_half(self, strips, pixels):
        bars = np.array([order_of_bars(strip[:3]) for strip in pixels])
        steps = np.array([direction_of_steps(strip[3]) for strip in pixels])
        assert (bars == strips.targets // 2).mean() > 0.99
        assert (steps == strips.targets % 2).mean() > 0.99
        assert (2 * bars + steps == strips.targets).mean() > 0.98
        for guess in range(2):
            assert near((2 * bars + guess == strips.targets).mean(), 1 / 2, 800)
            assert near((2 * guess + steps == strips.targets).mean(), 1 / 2, 800)

    def test_cues_are_never_in_the_same_columns(self):
        strips, bars, steps = (RGBDStrips("train", 20) for _ in range(3))
        bars.targets[:] ^= 2
        steps.targets[:] ^= 1
        for index in range(20):
            places = [
                (strips[index][0] != other[index][0]).any(0).any(0).nonzero().ravel()
                for other in (bars, steps)
            ]
            assert places[0].max() < places[1].min() or places[1].max() < places[0].min()

    def test_levels_of_the_channels_say_nothing(self, strips, pixels):
        quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
        features = [
            [
                *strip.mean((1, 2)),
                *strip.std((1, 2)),
                *np.quantile(strip, quantiles, (1, 2)).ravel(),
            ]
            for strip in pixels
        ]
        assert linear_accuracy(features, strips.targets, 4) < 1 / 4 + 4 * (3 / 16 / 400) ** 0.5


def sums(array, rows, columns):
    """Sums over all windows of the last two dimensions."""
    sums = array
    for axis, size in ((-2, rows), (-1, columns)):
        sums = sliding_window_view(sums, size, axis=axis).sum(-1)
    return sums


def order_of_bars(colours):
    """0 for red, green, blue somewhere in ``[3, 24, W]``, 1 for blue, green, red."""
    colours = colours.astype(float) - colours.mean((1, 2), keepdims=True)
    bars = sums(colours - colours.mean(0), 16, 5)
    width = bars.shape[2] - 10
    scores = [
        sum(bars[colour, :, 5 * k : 5 * k + width] for k, colour in enumerate(order)).max()
        for order in ((0, 1, 2), (2, 1, 0))
    ]
    return int(np.argmax(scores))


def direction_of_steps(depth):
    """0 for steps going up somewhere in ``[24, W]``, 1 for steps going down."""
    depth = depth - np.median(depth)
    steps = np.repeat([55, 110, 165], 5)
    columns = sliding_window_view(sums(depth, 16, 1), 15, axis=1)
    # squared distance to the picture of the steps, but for a constant
    distances = [
        (sums(depth**2, 16, 15) - 2 * columns @ picture).min() for picture in (steps, steps[::-1])
    ]
    return int(np.argmin(distances))


class TestGestures:
    def frames(self, clips, index):
        return clips[index][0].unflatten(-1, (-1, clips.frame_width)).movedim(2, 0)[:, 0].numpy()

    def test_clips_have_10_to_40_frames_of_one_width(self):
        clips = GestureClips("train", 2000)
        counts, rest = np.divmod(clips.lengths, clips.frame_width)
        assert not rest.any()
        assert (counts.min(), counts.max()) == (10, 40)

    def test_second_class_of_a_pair_is_the_first_played_backwards(self):
        clips, other = GestureClips("train", 16), GestureClips("train", 16)
        other.targets[:] ^= 1
        for index in range(16):
            assert (self.frames(clips, index)[::-1] == self.frames(other, index)).all()

    def test_order_of_the_frames_tells_the_class(self):
        clips = GestureClips("test", 160)
        seen = [clips.labels.index(gesture(self.frames(clips, index))) for index in range(160)]
        assert (np.array(seen) == clips.targets).mean() > 0.9

    def test_single_frame_drawn_at_random_says_nothing(self):
        clips = GestureClips("train", 600)
        random = np.random.default_rng(0)
        features = []
        for index in range(600):
            frame = random.choice(self.frames(clips, index)).astype(float)
            levels = np.quantile(frame, [0.1, 0.5, 0.8, 0.9, 0.95, 0.99])
            size = [(frame > levels[1] + above).sum() for above in (40, 80, 120)]
            features.append([frame.mean(), frame.std(), *levels, *size, *frame.mean(0)[::4]])
        assert linear_accuracy(features, clips.targets, 8) < 1 / 8 + 4 * (7 / 64 / 300) ** 0.5


def gesture(frames):
    """Name what the blob does, from its path on the torus that the picture is."""
    light = (frames - np.quantile(frames, 0.2, axis=0) - 40).clip(0)
    around = np.exp(2j * np.pi * np.arange(24) / 24)
    x, y = (np.unwrap(np.angle(light.sum(axis) @ around)) * 24 / (2 * np.pi) for axis in (1, 2))
    growth = np.corrcoef(light.sum((1, 2)), np.arange(len(frames)))[0, 1]
    if abs(growth) > 0.9:
        return "zoom in" if growth > 0 else "zoom out"
    x, y = x - x.mean(), y - y.mean()
    enclosed = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2
    if abs(enclosed) > 15:
        return "clockwise" if enclosed > 0 else "anticlockwise"
    right, down = x[-1] - x[0], y[-1] - y[0]
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"
