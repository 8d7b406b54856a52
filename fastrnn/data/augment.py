"""Random changes of strips that leave their class as it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data.checks import IntArray, natural_int, number_between
from fastrnn.data.dataset import StripDataset
from fastrnn.data.resampling import AffineMaps, FloatArray, Pixels, scratch

_STREAM = 0x61756768  # keeps these random numbers apart from others of the same seed
_LEAST_WORDS = 11  # random words per strip, and two more for each band that is cut out
_POOL = 1 << 20  # pixels of noise that all strips share, each from another place on
_RESAMPLING = ("shift_rows", "shift_columns", "stretch", "scale", "slant", "rotation")
_RANGES = {
    "shift_rows": (0, np.inf),
    "stretch": (0, 0.9),
    "scale": (0, 0.9),
    "slant": (0, 60),
    "rotation": (0, 45),
    "cutout_share": (0, 0.9),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "noise": (0, 255),
    "mixup": (0, np.inf),
}


@dataclass(frozen=True)
class StripAugmentation:
    """How strips are changed at random; nothing is by default.

    Every number is the most that can happen: what happens to a strip is drawn evenly from no
    change up to that, in both directions where there are two.

    Parameters
    ----------
    shift_rows
        Rows up or down, at least 0 and less than half the strips' height.
    shift_columns
        Columns, at least 0, by which each end is cropped or padded, one end independently of the
        other. No more than a quarter of a strip is cropped at an end.
    stretch
        Change of the length, 0 .. 0.9: 0.1 gives 0.9 to 1.1 times the columns.
    scale
        Change of size along the short side, 0 .. 0.9, about the strip's middle.
    slant
        Degrees, 0 .. 60, by which upright lines lean to either side, as in handwriting.
    rotation
        Degrees, 0 .. 45, about the strip's middle; less on a strip so long that its ends would
        move by more than a sixth of its height.
    cutouts
        Number of bands of columns that become background, at least 0.
    cutout_share
        Share of a strip's columns that the bands take together, 0 .. 0.9.
    brightness
        Lighter or darker, 0 .. 1: 0.1 adds up to a tenth of the range of grey levels.
    contrast
        Change of the distance of each pixel from the strip's mean, 0 .. 1.
    noise
        Standard deviation, in grey levels, 0 .. 255, of normally distributed noise.
    mixup
        Parameter alpha, at least 0, of the distribution Beta(alpha, alpha) of the shares in which
        `mixup_batch` mixes two strips [1]_; 0 for none. It concerns batches: `StripAugmented`
        doesn't look at it, a trainer does.
    background
        Grey level, 0 .. 255, of what comes in from outside and of cut-out bands: 0 for bright
        writing on black, 255 for paper.
    geometric_only
        Channels that brightness, contrast and noise leave alone, for instance depth.

    Raises
    ------
    TypeError, ValueError
        If a setting has a wrong type or is out of range; names it.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk
       Minimization, ICLR 2018.

    Examples
    --------
    >>> StripAugmentation(stretch=0.1, slant=10).noise
    0.0
    >>> StripAugmentation(stretch=2)
    Traceback (most recent call last):
    ...
    ValueError: stretch is 2, but must be in 0 .. 0.9
    """

    shift_rows: float = 0.0
    shift_columns: int = 0
    stretch: float = 0.0
    scale: float = 0.0
    slant: float = 0.0
    rotation: float = 0.0
    cutouts: int = 0
    cutout_share: float = 0.1
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    mixup: float = 0.0
    background: int = 0
    geometric_only: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            number_between(name, getattr(self, name), least, most)
        natural_int("shift_columns", self.shift_columns)
        natural_int("cutouts", self.cutouts)
        if natural_int("background", self.background) > 255:
            raise ValueError(f"background is {self.background}, but must be in 0 .. 255")
        if not isinstance(self.geometric_only, tuple):
            raise TypeError(f"geometric_only is {self.geometric_only!r}, but must be a tuple")
        for channel in self.geometric_only:
            natural_int("geometric_only", channel)

    @property
    def resamples(self) -> bool:
        """Whether pixels may change their place."""
        return any(getattr(self, name) for name in _RESAMPLING)

    @property
    def recolours(self) -> bool:
        """Whether grey levels may change."""
        return bool(self.brightness or self.contrast or self.noise)


PRESETS = MappingProxyType(
    {
        "none": StripAugmentation(),
        "light": StripAugmentation(
            shift_rows=1.5,
            shift_columns=4,
            stretch=0.08,
            scale=0.05,
            slant=5,
            rotation=0.5,
            brightness=0.03,
            contrast=0.1,
            noise=4,
        ),
        "strong": StripAugmentation(
            shift_rows=3,
            shift_columns=8,
            stretch=0.2,
            scale=0.12,
            slant=15,
            rotation=1.5,
            cutouts=2,
            cutout_share=0.05,
            brightness=0.08,
            contrast=0.3,
            noise=12,
        ),
    }
)
"""Augmentations by name, "none", "light" and "strong", made for strips of about 28 rows."""


class StripAugmented(StripDataset):
    """A view of a dataset in which every strip is changed at random, anew in each epoch.

    Strip ``i`` depends on ``(config, seed, epoch, i)`` only: not on the order of access, nor on
    the process that reads it. Its width is known without reading it. All changes of place are one
    affine map, applied to all channels with bilinear interpolation. The frames of a video (a
    dataset whose ``frame_width`` is not None) are all changed alike, and keep their width.
    If the channels that brightness, contrast and noise are for are all zero, as those of a
    modality that is missing, they stay so.

    Parameters
    ----------
    dataset
        Where the strips come from.
    config
        What may happen to them.
    seed, epoch
        Integers >= 0; another one gives other changes.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or ``config`` does not fit the dataset's height or channels.

    Examples
    --------
    >>> from fastrnn.data import StripDigits
    >>> digits = StripDigits("test", size=20)
    >>> view = StripAugmented(digits, PRESETS["light"], seed=0, epoch=3)
    >>> strip, target = view[5]
    >>> tuple(strip.shape) == (1, 28, view.lengths[5]), target == digits[5][1]
    (True, True)
    """

    def __init__(
        self, dataset: StripDataset, config: StripAugmentation, *, seed: int, epoch: int
    ) -> None:
        _check_fit(config, dataset)
        self.dataset = dataset
        self.config = config
        key = (natural_int("seed", seed), natural_int("epoch", epoch), _STREAM)
        self._drawn = _draw(config, len(dataset), key)
        self.frame_width = frame_width = dataset.frame_width
        self._maps = _affine_maps(self._drawn, dataset, frame_width)
        self._coloured = [c for c in range(dataset.channels) if c not in config.geometric_only]
        super().__init__(
            labels=dataset.labels,
            targets=dataset.targets,
            lengths=self._maps.widths if frame_width is None else dataset.lengths,
            height=dataset.height,
            channels=dataset.channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Read it from the dataset behind, and change it."""
        strip = self.dataset.read_strip(index)
        config = self.config
        if not (config.resamples or config.recolours or config.cutouts):
            return strip
        source = strip.numpy()
        mean = self._mean(source) if config.recolours or config.background else 0.0
        background = self._background() if config.background and mean else None
        pixels: Pixels = scratch("pixels", source.size, np.float32).reshape(source.shape)
        np.copyto(pixels, source)
        if config.resamples:
            pixels = self._resample(pixels, background, index)
        for first, last in self._bands(index):
            pixels[..., first:last] = 0 if background is None else background
        if config.recolours and mean:
            self._recolour(pixels, mean, index)
        pixels += 0.5  # to the nearest integer
        pixels.clip(0, 255, out=pixels)
        return torch.from_numpy(pixels.astype(np.uint8))

    def _mean(self, strip: NDArray[np.uint8]) -> float:
        """Mean grey level of the channels that have one."""
        seen = strip if len(self._coloured) == len(strip) else strip[self._coloured]
        return int(seen.sum()) / max(1, seen.size)

    def _background(self) -> Pixels:
        """Return what surrounds a strip, ``[C, 1, 1]``: zero in channels without grey levels."""
        levels = np.zeros((self.channels, 1, 1), np.float32)
        levels[self._coloured] = self.config.background
        return levels

    def _resample(self, pixels: Pixels, background: Pixels | None, index: int) -> Pixels:
        if background is None:
            return self._maps.resample(pixels, index)
        pixels -= background
        mapped = self._maps.resample(pixels, index)
        mapped += background
        return mapped

    def _bands(self, index: int) -> Iterator[tuple[int, int]]:
        """First column, and the one behind the last, of each band to cut out."""
        width = int(self.lengths[index])
        for place, share in self._drawn.bands[index].tolist():
            columns = round(share * width)
            first = round(place * (width - columns))
            yield first, first + columns

    def _recolour(self, pixels: Pixels, mean: float, index: int) -> None:
        """Change contrast and brightness, and add noise, in place."""
        drawn = self._drawn
        contrast, level = drawn.contrast[index], drawn.brightness[index]
        seen = pixels if len(self._coloured) == len(pixels) else pixels[self._coloured]
        seen *= np.float32(contrast)
        seen += np.float32(mean * (1 - contrast) + level)
        if self.config.noise:
            noise = scratch("noise", seen.size, np.float32)
            unit = _noise(seen.size, int(drawn.noise_start[index]))
            np.multiply(unit, np.float32(drawn.noise[index]), out=noise)
            seen += noise.reshape(seen.shape)
        if seen is not pixels:
            pixels[self._coloured] = seen


def _check_fit(config: StripAugmentation, dataset: StripDataset) -> None:
    if 2 * config.shift_rows >= dataset.height:
        raise ValueError(
            f"shift_rows is {config.shift_rows}, but must be less than half the strips' height "
            f"({dataset.height})"
        )
    for channel in config.geometric_only:
        if channel >= dataset.channels:
            raise ValueError(
                f"geometric_only names channel {channel}, but the strips have {dataset.channels}"
            )


class _Drawn(NamedTuple):
    """What happens to each strip: ``[N]`` each, ``[N, cutouts, 2]`` for bands."""

    stretch: FloatArray  # factor
    left: IntArray  # columns to add, negative: to crop
    right: IntArray
    down: FloatArray  # rows
    scale: FloatArray  # factor
    slant: FloatArray  # radians
    rotation: FloatArray  # radians
    brightness: FloatArray  # grey levels to add
    contrast: FloatArray  # factor
    noise: FloatArray  # standard deviation in grey levels
    noise_start: IntArray  # where in the pool the noise begins
    bands: FloatArray  # place in 0..1 among all possible ones, and share of the columns


def _draw(config: StripAugmentation, count: int, key: tuple[int, ...]) -> _Drawn:
    per_strip = _LEAST_WORDS + 2 * config.cutouts
    # Philox's raw words are the same in every version of NumPy, its distributions may change.
    words = np.random.Philox(key).random_raw(count * per_strip).reshape(count, per_strip)
    even = (words >> np.uint64(11)) * 2.0**-53  # in [0, 1)
    both = 2 * even - 1
    ends = np.floor(even[:, 1:3] * (2 * config.shift_columns + 1)).astype(np.int64)
    bands = even[:, _LEAST_WORDS:].reshape(count, config.cutouts, 2)
    return _Drawn(
        stretch=1 + config.stretch * both[:, 0],
        left=ends[:, 0] - config.shift_columns,
        right=ends[:, 1] - config.shift_columns,
        down=config.shift_rows * both[:, 3],
        scale=1 + config.scale * both[:, 4],
        slant=np.radians(config.slant) * both[:, 5],
        rotation=np.radians(config.rotation) * both[:, 6],
        brightness=255 * config.brightness * both[:, 7],
        contrast=1 + config.contrast * both[:, 8],
        noise=config.noise * even[:, 9],
        noise_start=(words[:, 10] % np.uint64(_POOL)).astype(np.int64),
        bands=bands * [1, config.cutout_share / max(1, config.cutouts)],
    )


def _affine_maps(drawn: _Drawn, dataset: StripDataset, frame_width: int | None) -> AffineMaps:
    lengths = dataset.lengths if frame_width is None else np.full(len(dataset), frame_width)
    stretched = np.maximum(1, np.rint(lengths * drawn.stretch).astype(np.int64))
    left, right = (np.maximum(end, -(stretched // 4)) for end in (drawn.left, drawn.right))
    if frame_width is None:
        widths, centre = stretched + left + right, left + stretched / 2
    else:  # what is wider than the frame is cropped; shifts move the picture inside of it
        widths, centre = lengths, (lengths + left - right) / 2
    most = np.arcsin(np.minimum(1, dataset.height / (3 * lengths)))
    return AffineMaps(
        dataset.height,
        lengths,
        widths,
        stretch=stretched / lengths,
        scale=drawn.scale,
        slant=drawn.slant,
        rotation=np.clip(drawn.rotation, -most, most),
        centre=centre,
        down=drawn.down,
    )


def _noise(count: int, start: int) -> Pixels:
    """So many normally distributed numbers of variance one."""
    pool = _noise_pool()
    if start + count <= len(pool):
        return pool[start : start + count]
    rest: Pixels = np.resize(pool, start + count)[start:]
    return rest


@lru_cache(maxsize=1)
def _noise_pool() -> Pixels:
    # G. Box and M. Muller, A Note on the Generation of Random Normal Deviates, 1958, since NumPy's
    # own normal distribution may change from version to version.
    words = np.random.Philox(_STREAM).random_raw(_POOL).reshape(2, -1)
    even, angle = (words >> np.uint64(11)) * 2.0**-53, 2 * np.pi
    radius = np.sqrt(-2 * np.log1p(-even[0]))
    pairs = (radius * np.cos(angle * even[1]), radius * np.sin(angle * even[1]))
    return np.concatenate(pairs, dtype=np.float32)
