import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import StripArrays, StripMNIST, StripSubset
from fastrnn.data.augment import PRESETS, StripAugmentation, StripAugmented

EVERYTHING = replace(PRESETS["strong"], background=20)
SINGLE = {
    "shift_rows": StripAugmentation(shift_rows=3),
    "shift_columns": StripAugmentation(shift_columns=9),
    "stretch": StripAugmentation(stretch=0.2),
    "scale": StripAugmentation(scale=0.2),
    "slant": StripAugmentation(slant=15),
    "rotation": StripAugmentation(rotation=2),
    "cutouts": StripAugmentation(cutouts=3, cutout_share=0.6),
    "brightness": StripAugmentation(brightness=0.1),
    "contrast": StripAugmentation(contrast=0.3),
    "noise": StripAugmentation(noise=10),
}


@pytest.fixture(scope="module")
def strips(mnist_root):
    return StripMNIST(mnist_root, "test", size=200)


def augmented(dataset, config, seed=0, epoch=0):
    return StripAugmented(dataset, config, seed=seed, epoch=epoch)


def pixels(dataset, index):
    return dataset[index][0][0].numpy().astype(float)


def middle(image, axis):
    """Centre of the ink, in pixels, along an axis."""
    ink = image.sum(1 - axis)
    return (ink * (np.arange(len(ink)) + 0.5)).sum() / ink.sum()


@pytest.mark.parametrize("config", [*SINGLE.values(), EVERYTHING], ids=[*SINGLE, "everything"])
def test_each_kind_changes_strips_but_neither_labels_nor_what_is_known_of_them(strips, config):
    view = augmented(strips, config)
    assert (view.targets == strips.targets).all()
    assert view.labels == strips.labels
    changed = 0
    for index in range(40):
        strip, target = view[index]
        assert strip.dtype == torch.uint8
        assert strip.shape == (1, 28, view.lengths[index])
        assert target == strips[index][1]
        changed += strip.shape != strips[index][0].shape or bool((strip != strips[index][0]).any())
    assert changed > 34


@pytest.mark.parametrize("config", [*SINGLE.values(), EVERYTHING], ids=[*SINGLE, "everything"])
def test_strip_depends_on_seed_epoch_and_index_only(strips, config):
    view, shorter = augmented(strips, config, 3, 8), StripSubset(strips, range(30))
    for index in reversed(range(30)):
        again = augmented(shorter, config, 3, 8)
        assert again.lengths[index] == view.lengths[index]
        assert (again[index][0] == view[index][0]).all()


@pytest.mark.parametrize("config", [*SINGLE.values(), EVERYTHING], ids=[*SINGLE, "everything"])
def test_other_epochs_and_seeds_give_other_strips(strips, config):
    first = augmented(strips, config)
    for other in (augmented(strips, config, epoch=1), augmented(strips, config, seed=1)):
        same = [
            first[index][0].shape == other[index][0].shape
            and bool((first[index][0] == other[index][0]).all())
            for index in range(40)
        ]
        assert sum(same) < 12


def test_threads_give_the_same_strips(strips):
    view = augmented(strips, EVERYTHING)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: view[index][0], range(100)))
    assert all((strip == view[index][0]).all() for index, strip in enumerate(found))


@pytest.mark.parametrize("config", [StripAugmentation(), StripAugmentation(mixup=0.3)])
def test_nothing_to_do_is_no_change(strips, config):
    view = augmented(strips, config)
    assert (view.lengths == strips.lengths).all()
    assert all((view[index][0] == strips[index][0]).all() for index in range(20))


def test_strips_move_up_and_down_within_the_range(strips):
    view = augmented(strips, StripAugmentation(shift_rows=2))
    assert (view.lengths == strips.lengths).all()
    moved = [middle(pixels(view, i), 0) - middle(pixels(strips, i), 0) for i in range(200)]
    assert -2.2 < min(moved) < -1.5
    assert 1.5 < max(moved) < 2.2


def test_ends_are_cropped_and_padded_independently(strips):
    view = augmented(strips, StripAugmentation(shift_columns=3))
    pairs = set()
    for index in range(120):
        source, strip = strips[index][0], view[index][0]
        wide = torch.nn.functional.pad(source, (3, 3))
        # where in the padded strip the new one lies
        starts = range(wide.shape[-1] - strip.shape[-1] + 1)
        fits = [s for s in starts if (wide[..., s : s + strip.shape[-1]] == strip).all()]
        assert fits
        pairs |= {(3 - s, strip.shape[-1] - source.shape[-1] - (3 - s)) for s in fits}
    assert {left for left, _ in pairs} == {right for _, right in pairs} == set(range(-3, 4))
    assert len(pairs) > 35  # of 49


def test_at_most_a_quarter_is_cropped_at_an_end():
    data = StripArrays([np.full((28, w), 200, np.uint8) for w in (1, 4, 8)] * 30, [0] * 90)
    view = augmented(data, StripAugmentation(shift_columns=50))
    least = view.lengths.reshape(-1, 3).min(0)
    assert least.tolist() == [1, 2, 4]
    assert all(int(strip.max()) > 190 for strip, _ in view)


@given(st.floats(0, 0.9), st.lists(st.integers(1, 3000), min_size=1, max_size=20))
@settings(max_examples=25)
def test_lengths_are_stretched_within_the_range(stretch, widths):
    data = StripArrays([np.zeros((28, w), np.uint8) for w in widths], [0] * len(widths))
    lengths = augmented(data, StripAugmentation(stretch=stretch)).lengths
    assert (lengths >= 1).all()
    assert (np.abs(lengths - data.lengths) <= stretch * data.lengths + 0.5).all()


def test_stretched_strip_is_the_strip_at_another_size(strips):
    from PIL import Image

    view = augmented(strips, StripAugmentation(stretch=0.2))
    factors = view.lengths / strips.lengths
    assert 0.79 < factors.min() < 0.83
    assert 1.17 < factors.max() < 1.21
    for index in np.flatnonzero(factors > 1)[:20]:
        size = (int(view.lengths[index]), 28)
        image = Image.fromarray(strips[index][0][0].numpy())
        expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR), float)
        # at the very ends Pillow repeats pixels, where here zeros come in
        np.testing.assert_allclose(pixels(view, index)[:, 1:-1], expected[:, 1:-1], atol=1.01)


def test_scale_and_slant_stay_within_their_range():
    bar = np.zeros((28, 41), np.uint8)
    bar[7:21, 20] = 255
    data = StripArrays([bar] * 200, [0] * 200)
    scaled = augmented(data, StripAugmentation(scale=0.25))
    heights = [pixels(scaled, index).sum() / 255 for index in range(200)]
    assert 10.3 < min(heights) < 11
    assert 17 < max(heights) < 17.7
    slanted = augmented(data, StripAugmentation(slant=20))
    leans = [
        middle(image[8:10], 1) - middle(image[18:20], 1)
        for image in (pixels(slanted, index) for index in range(200))
    ]
    most = 10 * np.tan(np.radians(20))
    assert -most - 0.1 < min(leans) < -0.9 * most
    assert 0.9 * most < max(leans) < most + 0.1


def test_rotation_moves_the_ends_of_long_strips_by_a_sixth_of_the_height_at_most():
    for width in (60, 400, 4000):
        line = np.zeros((28, width), np.uint8)
        line[13:15] = 255
        data = StripArrays([line] * 60, [0] * 60)
        view = augmented(data, StripAugmentation(rotation=5))
        rises = [
            middle(image[:, -3:], 0) - middle(image[:, :3], 0)
            for image in (pixels(view, index) for index in range(60))
        ]
        most = min(width * np.sin(np.radians(5)), 2 * 28 / 6)
        assert 0.8 * most < max(np.abs(rises)) < most + 0.1
        assert min(rises) < 0 < max(rises)


def test_bands_are_cut_out_at_their_share(strips):
    white = StripArrays([np.full((28, 100), 250, np.uint8)] * 300, [0] * 300)
    view = augmented(white, StripAugmentation(cutouts=2, cutout_share=0.3, background=9))
    lost = np.stack([pixels(view, index).min(0) == 9 for index in range(300)])
    assert all((np.diff(row.astype(int)) == 1).sum() <= 2 for row in lost)
    assert 25 < lost.sum(1).max() <= 30
    assert lost.sum(1).mean() == pytest.approx(15, abs=1.5)
    assert lost.any(0).all()  # everywhere along the strip
    whole = pixels(view, 0)[:, ~lost[0]]
    assert (whole == 250).all()


def test_brightness_contrast_and_noise_stay_within_their_range():
    grey = np.tile(np.array([60, 180], np.uint8), (28, 100))
    data = StripArrays([grey] * 300, [0] * 300)

    def levels(**config):
        view = augmented(data, StripAugmentation(**config))
        return np.stack([pixels(view, index) for index in range(300)])

    brighter = levels(brightness=0.1).mean((1, 2)) - 120
    assert -25.6 < brighter.min() < -22
    assert 22 < brighter.max() < 25.6
    contrast = levels(contrast=0.5)
    np.testing.assert_allclose(contrast.mean((1, 2)), 120, atol=0.6)
    distance = np.ptp(contrast, axis=(1, 2)) / 120
    assert 0.49 < distance.min() < 0.53
    assert 1.47 < distance.max() < 1.51
    noise = levels(noise=12) - grey
    deviations = noise.std((1, 2))
    assert deviations.min() < 1
    assert 11 < deviations.max() < 12.3
    np.testing.assert_allclose(noise.mean((1, 2)), 0, atol=0.6)


def test_noise_is_normally_distributed_and_differs_between_strips():
    data = StripArrays([np.full((28, 400), 128, np.uint8)] * 20, [0] * 20)
    view = augmented(data, StripAugmentation(noise=30))
    noise = [(image - image.mean()) / image.std() for image in (pixels(view, i) for i in range(20))]
    everything = np.concatenate([image.ravel() for image in noise])
    assert (everything**4).mean() == pytest.approx(3, abs=0.06)  # a normal distribution's kurtosis
    assert (np.abs(everything) < 1).mean() == pytest.approx(0.683, abs=0.02)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    neighbours = [np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1] for image in noise]
    assert np.abs(neighbours).max() < 0.05


def test_noise_goes_on_where_the_pool_ends():
    data = StripArrays([np.full((64, 20_000), 128, np.uint8)], [0])  # more pixels than the pool
    image = pixels(augmented(data, StripAugmentation(noise=30)), 0)
    assert image.std() > 1
    assert np.unique(image[:, -1]).size > 10


def test_channels_move_alike_and_only_coloured_ones_change_their_levels(noise):
    depth = np.repeat(noise(1, 28, 120), 4, axis=0)
    data = StripArrays([depth] * 10, [0] * 10)
    config = replace(PRESETS["strong"], geometric_only=(3,), background=255)
    coloured, plain = augmented(data, config), augmented(data, replace(config, noise=0))
    assert coloured.lengths.tolist() == plain.lengths.tolist()
    for index in range(10):
        with_noise, without = coloured[index][0], plain[index][0]
        assert (with_noise[3] == without[3]).all()
        assert (with_noise[:3] != without[:3]).float().mean() > 0.3
        assert not (without[3] == without[0]).all()
    still = augmented(data, StripAugmentation(slant=15, rotation=2, geometric_only=(3,)))
    assert all((strip[0] == strip[3]).all() for strip, _ in still)


def test_what_comes_in_is_background_except_in_depth():
    data = StripArrays([np.full((2, 28, 100), 200, np.uint8)] * 20, [0] * 20)
    config = StripAugmentation(shift_rows=9, background=255, geometric_only=(1,))
    for strip, _ in augmented(data, config):
        assert int(strip[0].min()) >= 199
        assert int(strip[1].max()) <= 200
    edges = [int(strip[1, [0, -1]].min()) for strip, _ in augmented(data, config)]
    assert min(edges) == 0


def test_missing_modality_stays_missing():
    strip = np.zeros((4, 28, 100), np.uint8)
    strip[3] = 90
    data = StripArrays([strip] * 10, [0] * 10)
    config = replace(PRESETS["strong"], background=255, geometric_only=(3,))
    for strip, _ in augmented(data, config):
        assert not strip[:3].any()
        assert strip[3].any()


def test_frames_of_a_video_are_changed_alike_and_keep_their_width(noise):
    frame = noise(1, 28, 32)
    data = StripArrays([np.tile(frame, (1, 1, n)) for n in (3, 5, 4)], [0] * 3)
    data.frame_width = 32
    config = replace(PRESETS["strong"], cutouts=0, noise=0)
    view = augmented(data, config)
    assert view.frame_width == 32
    assert (view.lengths == data.lengths).all()
    for index in range(3):
        frames = view[index][0].view(28, -1, 32)
        assert (frames == frames[:, :1]).all()
        assert (frames[:, 0] != torch.from_numpy(frame[0])).any()


def test_views_of_strips_that_are_no_videos_have_no_frames(strips):
    assert not hasattr(augmented(strips, PRESETS["light"]), "frame_width")


@pytest.mark.parametrize("name", PRESETS)
def test_digits_keep_their_shape_under_every_preset(strips, name):
    """The nearest digit, over all shifts, is mostly still the one that is shown."""
    view = augmented(strips, PRESETS[name])
    kept = []
    for index in range(60):
        image = torch.from_numpy(pixels(view, index))[None, None]
        digits = torch.from_numpy(strips._digits[:60].astype(float))[:, None]
        digits = digits / digits.norm(dim=(2, 3), keepdim=True)
        scores = torch.nn.functional.conv2d(image, digits, padding=(3, 0)).amax((0, 2, 3))
        kept.append(int(scores.topk(12).indices.eq(index).any()))
    assert np.mean(kept) > {"none": 0.99, "light": 0.9, "strong": 0.6}[name]


def test_presets_go_from_nothing_to_strong():
    assert list(PRESETS) == ["none", "light", "strong"]
    assert PRESETS["none"] == StripAugmentation()
    for field in fields(StripAugmentation):
        if field.name not in ("cutout_share", "geometric_only"):
            light, strong = (getattr(PRESETS[name], field.name) for name in ("light", "strong"))
            assert light <= strong


def test_sixty_thousand_lengths_take_no_time(strips):
    many = StripSubset(strips, np.arange(60_000) % 200)
    start = time.perf_counter()
    augmented(many, PRESETS["strong"])
    assert time.perf_counter() - start < 2


def test_strip_takes_well_under_a_millisecond(strips):
    view = augmented(strips, PRESETS["strong"])

    def seconds():
        start = time.thread_time()
        for index in range(50):
            view[index]
        return time.thread_time() - start

    assert min(seconds() for _ in range(10)) / 50 < 500e-6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shift_rows": -1}, ValueError, "shift_rows is -1, but must be at least 0"),
        ({"shift_columns": 1.5}, TypeError, r"shift_columns is 1\.5, but must be an integer"),
        ({"stretch": 1.0}, ValueError, r"stretch is 1\.0, but must be in 0 \.\. 0\.9"),
        ({"scale": "much"}, TypeError, "scale is 'much', but must be a number"),
        ({"slant": 90}, ValueError, r"slant is 90, but must be in 0 \.\. 60"),
        ({"rotation": float("nan")}, ValueError, r"rotation is nan, but must be in 0 \.\. 45"),
        ({"cutouts": -1}, ValueError, "cutouts is -1, but must be at least 0"),
        ({"cutout_share": 1}, ValueError, r"cutout_share is 1, but must be in 0 \.\. 0\.9"),
        ({"brightness": 2}, ValueError, r"brightness is 2, but must be in 0 \.\. 1"),
        ({"contrast": True}, TypeError, "contrast is True, but must be a number"),
        ({"noise": 300}, ValueError, r"noise is 300, but must be in 0 \.\. 255"),
        ({"mixup": float("inf")}, ValueError, "mixup is inf, but must be at least 0"),
        ({"background": 256}, ValueError, r"background is 256, but must be in 0 \.\. 255"),
        ({"geometric_only": [1]}, TypeError, r"geometric_only is \[1\], but must be a tuple"),
        ({"geometric_only": (-1,)}, ValueError, "geometric_only is -1, but must be at least 0"),
    ],
)
def test_wrong_settings_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        StripAugmentation(**arguments)


@pytest.mark.parametrize(
    ("config", "seed", "epoch", "message"),
    [
        ({}, -1, 0, "seed is -1, but must be at least 0"),
        ({}, 0, -1, "epoch is -1, but must be at least 0"),
        ({"shift_rows": 2}, 0, 0, r"shift_rows is 2, but must be less than half .* height \(4\)"),
        ({"geometric_only": (1,)}, 0, 0, "names channel 1, but the strips have 1"),
    ],
)
def test_settings_must_fit_the_strips(make_strips, config, seed, epoch, message):
    with pytest.raises(ValueError, match=message):
        augmented(make_strips([9]), StripAugmentation(**config), seed, epoch)
