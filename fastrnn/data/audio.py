"""Strips in a list of WAV files."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import OnError
from fastrnn.data.finding import FileKind, StripKind
from fastrnn.data.image import StripDecodeError
from fastrnn.data.keeping import Keep
from fastrnn.data.reading import FileStrips, StripReader, check_kept
from fastrnn.data.spectrogram import LogMel, log_mel
from fastrnn.data.wav import WavFile, file_name, import_scipy, read_wav, read_wav_header


@dataclass(frozen=True)
class SoundReader(StripReader):
    """How a WAV file becomes a strip: a log-mel spectrogram.

    Parameters
    ----------
    config
        Sample rate, window, bands.
    max_width, keep
        As of `StripReader`.

    Raises
    ------
    ValueError, TypeError
        If a setting is wrong.

    Examples
    --------
    >>> reader = SoundReader(LogMel(n_mels=64))
    >>> reader.height, reader.channels
    (64, 1)
    """

    kind: ClassVar[StripKind] = "sounds"
    files: ClassVar[FileKind] = "sounds"

    config: LogMel = field(default_factory=LogMel)
    max_width: int | None = None
    keep: Keep = "head"

    def __post_init__(self) -> None:
        as_log_mel(self.config)
        check_kept(self.max_width, self.keep)

    @property
    def height(self) -> int:
        """Mel bands."""
        return self.config.n_mels

    @property
    def channels(self) -> int:
        """One: channels of sound are averaged."""
        return 1

    def require(self) -> None:
        """See `StripReader.require`: SciPy."""
        import_scipy("io.wavfile")

    def full_width(self, path: Path) -> int:
        """Columns, from the header of a file."""
        header = read_wav_header(path)
        return _frames(path, header.samples_at(self.config.sample_rate), self.config)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Read a file."""
        return read_audio(path, self.config)


class StripAudio(FileStrips):
    """Strips from a list of WAV files: log-mel spectrograms, computed when they are asked for.

    Only headers are read at first. Channels are averaged, other sample rates resampled.

    Parameters
    ----------
    paths
        The WAV files.
    targets
        ``[N]`` class numbers; all unlabelled by default.
    labels
        Class names.
    config
        How sound becomes a strip of ``config.n_mels`` rows and 1 channel; `LogMel` as it is by
        default.
    on_error
        "raise": a file whose header is not readable, or which is cut off or too short, raises at
        once, one whose samples are no numbers when it is asked for. "skip": every file is read
        once at the start, and those that can't be are left out and listed in `skipped`.

    Attributes
    ----------
    config : LogMel
        How sound becomes a strip.
    reader : SoundReader
        The same for files.
    paths : tuple of pathlib.Path
        The file of each strip.
    skipped : tuple of (pathlib.Path, str)
        Files left out, with the reason.

    Raises
    ------
    StripDecodeError
        If a file can't be read; names it.
    ValueError
        If there are no files, or none that can be read.
    ModuleNotFoundError
        If SciPy is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from scipy.io import wavfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "a.wav"
    >>> wavfile.write(path, 16_000, np.zeros(16_000, np.int16))
    >>> strips = StripAudio([path])
    >>> strips.lengths.tolist(), tuple(strips[0][0].shape)
    ([98], (1, 40, 98))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        targets: ArrayLike | None = None,
        labels: Sequence[str] = (),
        config: LogMel | None = None,
        on_error: OnError = "raise",
    ) -> None:
        reader = SoundReader(as_log_mel(config))
        self.config = reader.config
        super().__init__(reader.measured(paths, targets, on_error), reader=reader, labels=labels)


def as_log_mel(config: LogMel | None) -> LogMel:
    """``config``, or the default one if it is None; an error if it is something else."""
    if config is None:
        return LogMel()
    if not isinstance(config, LogMel):
        raise TypeError(f"config is {config!r}, but must be a LogMel")
    return config


def read_audio(file: WavFile, config: LogMel) -> NDArray[np.uint8]:
    """Read a WAV file as a strip.

    Parameters
    ----------
    file
        A path, or a file open for reading bytes.
    config
        How sound becomes a strip.

    Returns
    -------
    numpy.ndarray
        uint8 ``[1, n_mels, frames]``.

    Raises
    ------
    StripDecodeError
        If it can't be read, or is shorter than one window.
    """
    samples = read_wav(file, config.sample_rate)
    _frames(file, len(samples), config)
    return log_mel(samples, config)


def _frames(file: WavFile, samples: int, config: LogMel) -> int:
    frames = config.frames(samples)
    if not frames:
        seconds = samples / config.sample_rate
        raise StripDecodeError(
            file_name(file),
            f"lasts {seconds:.4g} seconds, but a window takes {config.window:g}",
        )
    return frames
