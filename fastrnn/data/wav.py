"""Reading WAV files, with SciPy."""

import contextlib
import importlib
import io
import math
import os
import struct
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import positive_int
from fastrnn.data.image import StripDecodeError

WAV_SUFFIXES = frozenset({".wav", ".wave"})
"""Endings (in lower case) of the files that are taken for sounds."""

WavFile = str | os.PathLike[str] | BinaryIO

_RATES = range(1_000, 768_001)  # samples a second; others are damage, and could fill the memory
_BYTE_ORDERS = {b"RIFF": "<", b"RIFX": ">"}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # RFC 2361, appendix A
_UNKNOWN_SIZE = 0x7FFFF000  # what SoX states of data that it writes into a pipe; others state more


class WavHeader(NamedTuple):
    """What the header of a WAV file says: samples a second, channels, samples in each channel."""

    sample_rate: int
    channels: int
    samples: int

    def samples_at(self, sample_rate: int) -> int:
        """How many samples there are after resampling to ``sample_rate``, as SciPy rounds it.

        >>> WavHeader(44_100, 2, 44_101).samples_at(8000)
        8001
        """
        return -(-self.samples * sample_rate // self.sample_rate)


def read_wav_header(file: WavFile) -> WavHeader:
    """Read the header of a WAV file, none of its samples.

    Parameters
    ----------
    file
        A path, or a file open for reading bytes that can seek; it is read from its beginning.

    Raises
    ------
    StripDecodeError
        If it is missing, empty, cut off, without samples, or not a WAV file of integers or floats.
    """
    with _open(file) as stream:
        return _read_header(stream)


def read_wav(file: WavFile, sample_rate: int) -> NDArray[np.float32]:
    """Read a WAV file as one channel of a given sample rate.

    Integers of 8 to 32 bits are scaled to [-1, 1], floats are taken as they are; channels are
    averaged; another sample rate is resampled by `scipy.signal.resample_poly`.

    Parameters
    ----------
    file
        A path, or a file open for reading bytes that can seek; it is read from its beginning.
    sample_rate
        Samples a second of the result.

    Returns
    -------
    numpy.ndarray
        float32 ``[N]``, N at least 1.

    Raises
    ------
    StripDecodeError
        As for `read_wav_header`, or if samples are not finite numbers.
    ModuleNotFoundError
        If SciPy is not installed.

    Examples
    --------
    >>> from scipy.io import wavfile
    >>> file = io.BytesIO()
    >>> wavfile.write(file, 8000, np.array([0, 16384, -32768], np.int16))
    >>> read_wav(file, 8000).tolist()
    [0.0, 0.5, -1.0]
    """
    sample_rate = positive_int("sample_rate", sample_rate)
    wavfile = import_scipy("io.wavfile")
    with _open(file) as stream:
        header = _read_header(stream)
        stream.seek(0)
        with warnings.catch_warnings():  # of chunks that mean nothing here, and of what is missing
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            # from memory, as from a file SciPy would allocate whatever size the header states
            _, data = wavfile.read(io.BytesIO(stream.read()))
        if len(data) != header.samples:
            raise _DamageError(f"the header says {header.samples} samples, but {len(data)} follow")
        sound = _mono(data)
    sound = _resample(sound, header.sample_rate, sample_rate)
    if not np.isfinite(sound).all():
        raise StripDecodeError(file_name(file), "has samples that are not finite numbers")
    return sound


def import_scipy(name: str) -> ModuleType:
    """Import a part of SciPy, or raise a ModuleNotFoundError that says how to install it."""
    try:
        return importlib.import_module(f"scipy.{name}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading sound needs SciPy: pip install 'fastrnn[audio]'", name=error.name
        ) from error


class _DamageError(Exception):
    """What is wrong with a file, until its name is put to it."""


def file_name(file: WavFile) -> str:
    """Name of a file for messages."""
    if isinstance(file, (str, os.PathLike)):
        return os.fspath(file)
    return str(getattr(file, "name", "file object"))


@contextlib.contextmanager
def _open(file: WavFile) -> Iterator[BinaryIO]:
    """Open a WAV file; whatever goes wrong inside is reported as a `StripDecodeError`."""
    try:
        if isinstance(file, (str, os.PathLike)):
            with Path(file).open("rb") as stream:
                yield stream
        else:
            file.seek(0)
            yield file
    except MemoryError:
        raise
    except _DamageError as error:
        raise StripDecodeError(file_name(file), str(error)) from None
    except FileNotFoundError as error:
        raise StripDecodeError(file_name(file), "the file does not exist") from error
    except IsADirectoryError as error:
        raise StripDecodeError(file_name(file), "is a folder, but must be a file") from error
    except Exception as error:  # SciPy raises ValueError, struct.error, TypeError and more
        raise StripDecodeError(file_name(file), f"can't be decoded ({error})") from error


def _read_header(stream: BinaryIO) -> WavHeader:
    """Go from chunk to chunk up to the samples [1]_.

    .. [1] IBM, Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    signature, _, form = struct.unpack("4s4s4s", stream.read(12).ljust(12))
    if not end:
        raise _DamageError("the file is empty")
    if signature not in _BYTE_ORDERS or form != b"WAVE":
        raise _DamageError("not a WAV file")
    order = _BYTE_ORDERS[signature]
    layout: tuple[int, int, int] | None = None
    while len(head := stream.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        start = stream.tell()
        if name == b"fmt ":
            layout = _read_layout(stream.read(min(size, 40)), order)
        elif name == b"data":
            return _header_of_data(layout, size, end - start)
        stream.seek(start + size + size % 2)
    raise _DamageError("is cut off before its samples")


def _read_layout(chunk: bytes, order: str) -> tuple[int, int, int]:
    """Sample rate, channels, and bytes that all channels take together, from the "fmt " chunk."""
    if len(chunk) < 16:
        raise _DamageError(f"has a format chunk of {len(chunk)} bytes, but it takes 16")
    kind, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE and len(chunk) == 40:
        (kind,) = struct.unpack(f"{order}H", chunk[24:26])
    if kind not in (_PCM, _FLOAT):
        raise _DamageError(
            f"holds samples of format {kind:#06x}; only integers and floats are read"
        )
    if bits not in (range(1, 33) if kind == _PCM else (32, 64)):
        raise _DamageError(f"has samples of {bits} bits; integers have 1 to 32, floats 32 or 64")
    if rate not in _RATES:
        raise _DamageError(
            f"has {rate} samples a second, but {_RATES[0]} to {_RATES[-1]} are possible"
        )
    if not channels or block != channels * -(-bits // 8):
        raise _DamageError(
            f"has {channels} channels of {bits} bits, which don't take {block} bytes together"
        )
    return rate, channels, block


def _header_of_data(layout: tuple[int, int, int] | None, size: int, there: int) -> WavHeader:
    if layout is None:
        raise _DamageError("has no format chunk before its samples")
    rate, channels, block = layout
    if size >= _UNKNOWN_SIZE:
        size = there
    samples = size // block
    if there < size:
        raise _DamageError(
            f"is cut off: the header says {samples} samples, but {there // block} follow"
        )
    if size % block:
        raise _DamageError(f"has {size} bytes of samples, but a sample takes {block}")
    if not samples:
        raise _DamageError("has no samples")
    return WavHeader(rate, channels, samples)


def _mono(data: NDArray[Any]) -> NDArray[np.float32]:
    """Average channels ``[N]`` or ``[N, C]`` and scale integers, which fill their type."""
    sound = data.astype(np.float64)
    if data.dtype.kind == "u":  # of up to 8 bits, silence in the middle
        sound = (sound - 128) / 128
    elif data.dtype.kind == "i":
        sound /= 2.0 ** (8 * data.dtype.itemsize - 1)
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # it is checked later
        return sound.astype(np.float32)


def _resample(sound: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return sound
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    filtered = import_scipy("signal").resample_poly(
        sound, up, down, window=_low_pass(max(up, down))
    )
    return np.asarray(filtered, np.float32)


@lru_cache(maxsize=8)
def _low_pass(ratio: int) -> NDArray[np.float32]:
    """Make the filter that `scipy.signal.resample_poly` takes by default, which takes its time."""
    taps = import_scipy("signal").firwin(20 * ratio + 1, 1 / ratio, window=("kaiser", 5.0))
    return np.asarray(taps, np.float32)
