"""Log-mel spectrograms: sound as a strip."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import finite_number, positive_int

_MOST_RATE = 768_000  # samples a second of the fastest converters for sound


@dataclass(frozen=True)
class LogMel:
    """How sound becomes a strip: a picture of the energy in mel bands over time.

    Parameters
    ----------
    sample_rate
        Samples a second, at most 768,000; sound of another rate is resampled to it.
    window
        Length of the Hann window that a column is computed from, in seconds, at most 1.
    hop
        Time from one column to the next, in seconds, at most ``window``.
    n_mels
        Bands, the rows of a strip.
    fmin, fmax
        Lowest and highest frequency in hertz; ``fmax`` is half the sample rate by default.
    dynamic_range
        Decibels, at most 200: the loudest point of a sound is 255, what is so far below it or
        farther is 0. So a strip doesn't depend on the volume.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or is out of range, or a band is narrower than the window
        can resolve.

    Examples
    --------
    >>> config = LogMel(sample_rate=16_000, n_mels=64)
    >>> config.window_samples, config.hop_samples, config.frames(16_000)
    (400, 160, 98)
    """

    sample_rate: int = 8000
    window: float = 0.025
    hop: float = 0.01
    n_mels: int = 40
    fmin: float = 0.0
    fmax: float | None = None
    dynamic_range: float = 60.0

    def __post_init__(self) -> None:
        if positive_int("sample_rate", self.sample_rate) > _MOST_RATE:
            raise ValueError(f"sample_rate is {self.sample_rate}, but must be at most {_MOST_RATE}")
        positive_int("n_mels", self.n_mels)
        _check_above_zero("window", self.window, 1, "1 (seconds)")
        _check_above_zero("hop", self.hop, self.window, f"the window, {self.window}")
        _check_above_zero("dynamic_range", self.dynamic_range, 200, "200 (decibels)")
        if self.window_samples < 2 or self.hop_samples < 1:
            raise ValueError(
                f"window is {self.window} and hop {self.hop} seconds, but must be at least 2 "
                f"samples and 1 sample at {self.sample_rate} a second"
            )
        low, high = self.band_limits
        if not 0 <= low < high <= self.sample_rate / 2:
            raise ValueError(
                f"fmin is {low:g} and fmax {high:g}, but they must be in "
                f"0 .. {self.sample_rate / 2:g} (half the sample rate), fmin below fmax"
            )
        if self.n_mels > _fft_size(self) or not mel_filters(self).any(axis=1).all():
            raise ValueError(
                f"n_mels is {self.n_mels}, but a window of {self.window} seconds can't resolve so "
                f"many bands in {low:g} .. {high:g} Hz; take fewer or a longer window"
            )

    @property
    def band_limits(self) -> tuple[float, float]:
        """Lowest and highest frequency in hertz."""
        fmax = self.sample_rate / 2 if self.fmax is None else self.fmax
        return finite_number("fmin", self.fmin), finite_number("fmax", fmax)

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return round(self.window * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one column to the next."""
        return round(self.hop * self.sample_rate)

    def frames(self, samples: int) -> int:
        """Columns of a sound of so many samples: whole windows, so 0 if it is shorter than one."""
        return max(0, 1 + (samples - self.window_samples) // self.hop_samples)


def log_mel(samples: ArrayLike, config: LogMel) -> NDArray[np.uint8]:
    """Make the strip of a sound.

    The power spectrum under a Hann window, summed in mel bands, in decibels below its maximum.

    Parameters
    ----------
    samples
        ``[N]`` floats, at ``config.sample_rate``; at least one window.
    config
        How.

    Returns
    -------
    numpy.ndarray
        uint8 ``[1, n_mels, frames]``, the lowest band in the last row. Silence is all zeros.

    Raises
    ------
    ValueError, TypeError
        If ``samples`` is not one-dimensional, not floats, too short, or not finite.

    Examples
    --------
    >>> seconds = np.arange(8000) / 8000
    >>> strip = log_mel(np.sin(2 * np.pi * 440 * seconds), LogMel())
    >>> strip.shape, int(strip[0].max(axis=1).argmax())  # 440 Hz is the eleventh band from below
    ((1, 40, 98), 29)
    """
    sound = _normalised(samples, config)
    frames = sliding_window_view(sound, config.window_samples)[:: config.hop_samples]
    spectrum = np.fft.rfft(frames * _hann(config.window_samples), _fft_size(config))
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    energy = mel_filters(config) @ power.T
    return _decibels_as_bytes(energy, config.dynamic_range)[None]


@lru_cache(maxsize=16)
def mel_filters(config: LogMel) -> NDArray[np.float32]:
    """Weights of triangular bands that are equally wide on the mel scale [1]_ [2]_.

    Parameters
    ----------
    config
        Of the strips.

    Returns
    -------
    numpy.ndarray
        float32 ``[n_mels, bins]``, the highest band first; each triangle's peak is 1.

    References
    ----------
    .. [1] S. Davis, P. Mermelstein, Comparison of Parametric Representations for Monosyllabic Word
       Recognition in Continuously Spoken Sentences, IEEE Trans. ASSP 28(4), 1980.
    .. [2] D. O'Shaughnessy, Speech Communication: Human and Machine, 1987: mel = 2595 log10(1 +
       f / 700).
    """
    low, high = (2595 * math.log10(1 + frequency / 700) for frequency in config.band_limits)
    edges = 700 * (10 ** (np.linspace(low, high, config.n_mels + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_fft_size(config), 1 / config.sample_rate)
    left, middle, right = (edges[k : k + config.n_mels, None] for k in range(3))
    rising = (bins - left) / (middle - left)
    falling = (right - bins) / (right - middle)
    filters = np.maximum(0, np.minimum(rising, falling))[::-1].astype(np.float32, order="C")
    filters.setflags(write=False)  # the cache hands it out again
    return filters


@lru_cache(maxsize=16)
def _hann(size: int) -> NDArray[np.float32]:
    """Periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _normalised(samples: ArrayLike, config: LogMel) -> NDArray[np.float32]:
    """Scale ``samples`` to a peak of 1, so that no power of them overflows or vanishes."""
    sound = np.asarray(samples)
    if sound.ndim != 1:
        raise ValueError(f"samples has shape {sound.shape}, but must have one dimension")
    if not np.issubdtype(sound.dtype, np.floating):
        raise TypeError(f"samples has dtype {sound.dtype}, but must be floats")
    if not config.frames(len(sound)):
        raise ValueError(
            f"samples has {len(sound)} entries, but a window takes {config.window_samples}"
        )
    peak = np.abs(sound).max()
    if not np.isfinite(peak):
        raise ValueError("samples has values that are not finite numbers")
    return (sound / (peak or 1)).astype(np.float32)


def _decibels_as_bytes(energy: NDArray[np.float32], dynamic_range: float) -> NDArray[np.uint8]:
    peak = energy.max()
    if not peak:  # silence
        return np.zeros(energy.shape, np.uint8)
    floor = 10 ** (-dynamic_range / 10)
    decibels = 10 * np.log10(np.maximum(energy / peak, floor))
    pixels: NDArray[np.uint8] = np.rint(255 * (1 + decibels / dynamic_range)).astype(np.uint8)
    return pixels


def _fft_size(config: LogMel) -> int:
    return 1 << (config.window_samples - 1).bit_length()  # a power of two is fastest


def _check_above_zero(name: str, value: float, most: float, what: str) -> None:
    if not 0 < finite_number(name, value) <= most:
        raise ValueError(f"{name} is {value}, but must be above 0 and at most {what}")
