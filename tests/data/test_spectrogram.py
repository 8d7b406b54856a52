import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.spectrogram import LogMel, log_mel, mel_filters


def tone(frequency, seconds=0.5, rate=8000):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def mel(frequency):
    return 1127 * np.log(1 + frequency / 700)  # the same scale, written with the natural logarithm


def spelled_out(samples, rate, window, hop, fft, n_mels, low, high, decibels):
    """The strip by loops over frames, bands and bins, in double precision."""
    frames = (len(samples) - window) // hop + 1
    energy = np.zeros((n_mels, frames))
    weights = np.sin(np.pi * np.arange(window) / window) ** 2
    step = (mel(high) - mel(low)) / (n_mels + 1)
    for frame in range(frames):
        cut = samples[frame * hop : frame * hop + window] * weights
        for k in range(fft // 2 + 1):
            power = abs((cut * np.exp(-2j * np.pi * k / fft * np.arange(window))).sum()) ** 2
            frequency = k * rate / fft
            for band in range(n_mels):
                left, middle, right = (
                    700 * np.expm1((mel(low) + step * (band + shift)) / 1127) for shift in range(3)
                )
                if left < frequency <= middle:
                    energy[band, frame] += power * (frequency - left) / (middle - left)
                elif middle < frequency < right:
                    energy[band, frame] += power * (right - frequency) / (right - middle)
    levels = 10 * np.log10(energy / energy.max())
    return np.clip(255 * (1 + levels / decibels), 0, 255)[::-1]


def test_strip_is_what_the_definition_says():
    samples = np.random.default_rng(0).normal(size=700) * np.linspace(0.001, 1, 700)
    config = LogMel(
        sample_rate=6000, window=0.02, hop=0.0125, n_mels=9, fmin=100, fmax=2500, dynamic_range=50
    )
    expected = spelled_out(samples, 6000, 120, 75, 128, 9, 100, 2500, 50)
    strip = log_mel(samples, config)
    assert strip.dtype == np.uint8
    assert strip.shape == (1, 9, 8)
    assert abs(strip[0] - expected).max() < 0.51  # rounding to whole numbers


@pytest.mark.parametrize("frequency", [150, 440, 1000, 2000, 3500])
def test_tone_is_bright_in_the_row_of_its_frequency_with_low_ones_at_the_bottom(frequency):
    strip = log_mel(tone(frequency), LogMel())[0]
    band = mel(frequency) / mel(4000) * 41 - 1  # bands' middles are equally far apart
    brightest = 39 - strip.mean(axis=1).argmax()
    assert abs(brightest - band) < 1
    assert strip[39 - brightest].min() > 250


@given(st.floats(-9, 9))
def test_volume_changes_nothing(power):
    samples = tone(500) * np.linspace(0.01, 1, 4000)
    loud = log_mel(samples * 10**power, LogMel())
    assert abs(loud.astype(int) - log_mel(samples, LogMel())).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_greatest_and_smallest_volumes_are_no_trouble(dtype):
    samples = tone(500).astype(dtype)
    normal = log_mel(samples, LogMel()).astype(int)
    for factor in (np.finfo(dtype).max / 2, np.finfo(dtype).tiny * 1e4):
        assert abs(log_mel(samples * factor, LogMel()) - normal).max() <= 1


def test_decibels_are_spread_over_all_grey_levels():
    samples = tone(1000, 1.0)
    samples[4000:] *= 10 ** (-30 / 20)
    rows = log_mel(samples, LogMel(dynamic_range=60))[0].max(axis=0)
    assert rows[10] == 255
    assert abs(int(rows[-10]) - 127.5) < 2
    assert log_mel(samples, LogMel(dynamic_range=20))[0, :, -10].max() == 0


def test_click_is_bright_in_its_columns_only():
    samples = np.zeros(8000)
    samples[4000] = 1
    columns = np.flatnonzero(log_mel(samples, LogMel())[0].max(axis=0))
    assert all(column * 80 < 4000 < column * 80 + 200 for column in columns)
    assert len(columns) in (2, 3)


def test_silence_is_black():
    assert not log_mel(np.zeros(1000), LogMel()).any()


@given(st.integers(200, 2000))
def test_number_of_columns_is_known_beforehand(samples):
    config = LogMel()
    assert log_mel(np.ones(samples), config).shape == (1, 40, config.frames(samples))


def test_sound_shorter_than_a_window_has_no_columns():
    assert [LogMel().frames(samples) for samples in (0, 199, 200, 279, 280)] == [0, 0, 1, 1, 2]
    with pytest.raises(ValueError, match="samples has 199 entries, but a window takes 200"):
        log_mel(np.ones(199), LogMel())


def test_filters_lie_between_their_limits_and_sum_to_one_inside():
    filters = mel_filters(LogMel(n_mels=20, fmin=200, fmax=3000))
    bins = np.arange(129) * 31.25
    assert filters[:, (bins <= 200) | (bins >= 3000)].max() == 0
    assert filters.max() <= 1
    middles = 700 * np.expm1((mel(200) + (mel(3000) - mel(200)) / 21 * np.array([1, 20])) / 1127)
    inside = (bins > middles[0]) & (bins < middles[1])
    assert abs(filters.sum(axis=0)[inside] - 1).max() < 1e-5
    assert (np.diff((filters * bins).sum(axis=1) / filters.sum(axis=1)) < 0).all()


def test_a_second_of_sound_takes_well_under_three_milliseconds():
    samples = np.random.default_rng(0).normal(size=8000).astype(np.float32)

    def seconds():
        start = time.perf_counter()
        for _ in range(20):
            log_mel(samples, LogMel())
        return time.perf_counter() - start

    assert min(seconds() for _ in range(8)) / 20 < 2e-3


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.ones((2, 500)), ValueError, r"samples has shape \(2, 500\), but must have one"),
        (np.ones(500, np.int16), TypeError, "samples has dtype int16, but must be floats"),
        (np.full(500, np.nan), ValueError, "samples has values that are not finite"),
        (np.full(500, -np.inf), ValueError, "samples has values that are not finite"),
    ],
)
def test_samples_that_are_no_sound_are_refused(samples, error, message):
    with pytest.raises(error, match=message):
        log_mel(samples, LogMel())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sample_rate": 0}, ValueError, "sample_rate is 0, but must be at least 1"),
        ({"sample_rate": 8e3}, TypeError, "sample_rate is 8000.0, but must be an integer"),
        ({"n_mels": 0}, ValueError, "n_mels is 0, but must be at least 1"),
        ({"n_mels": 200}, ValueError, "n_mels is 200, but a window of 0.025 seconds can't"),
        ({"n_mels": 10**9}, ValueError, "n_mels is 1000000000, but a window"),
        ({"window": 25}, ValueError, r"window is 25, but must be above 0 and at most 1 \(seconds"),
        ({"window": "25 ms"}, TypeError, "window is '25 ms', but must be a number"),
        ({"window": float("nan")}, ValueError, "window is nan, but must be finite"),
        ({"window": 1e-4, "hop": 1e-4}, ValueError, "must be at least 2 samples and 1 sample at"),
        ({"hop": 0}, ValueError, "hop is 0, but must be above 0 and at most the window, 0.025"),
        ({"hop": 0.03}, ValueError, "hop is 0.03, but must be above 0 and at most the window"),
        ({"dynamic_range": 201}, ValueError, "dynamic_range is 201, but must be above 0 and at"),
        ({"fmin": -1}, ValueError, r"fmin is -1 and fmax 4000, but they must be in 0 \.\. 4000"),
        ({"fmax": 5000}, ValueError, "fmin is 0 and fmax 5000, but they must be in"),
        ({"fmin": 300, "fmax": 300}, ValueError, "fmin is 300 and fmax 300, but"),
        ({"fmin": True}, TypeError, "fmin is True, but must be a number"),
    ],
)
def test_settings_out_of_range_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        LogMel(**settings)
