"""SpokenDigits: recordings of spoken digits by several people."""

import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastrnn.data.arrays import StripArrays
from fastrnn.data.audio import as_log_mel, read_audio
from fastrnn.data.checks import listed
from fastrnn.data.download import cache_folder, download
from fastrnn.data.image import StripDecodeError
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.wav import import_scipy

MIRRORS = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
)
ARCHIVE = "recordings.tar.gz"
_COUNT = 3_000  # recordings in that version: 6 speakers, 10 digits, 50 of each
_PATH = re.compile(r"(?:.*/)?recordings/([0-9])_([a-z]+)_([0-9]+)\.wav")


class SpokenDigits(StripArrays):
    """The Free Spoken Digit Dataset [1]_ as log-mel strips: 3,000 recordings by 6 people.

    Recordings last 0.14 to 2.3 seconds, at 8 kHz. The targets are the digits. All strips are
    computed at the start, which takes a second or two, and kept in memory. They are sorted by
    digit, speaker and take.

    Parameters
    ----------
    root
        Folder with the file ``recordings.tar.gz``: the folder ``recordings`` of the data set, or
        all of it. By default ``$FASTRNN_DATA/fsdd`` if that variable is set, otherwise
        ``~/.cache/fastrnn/fsdd`` (or the same under ``$XDG_CACHE_HOME``).
    speakers
        Take the recordings of these people only; all by default.
    config
        How sound becomes a strip; `LogMel` as it is by default.
    download
        Fetch the file if it is not there.

    Attributes
    ----------
    speakers : tuple of str
        Names of the speakers, as given, or sorted.
    groups : numpy.ndarray
        int64 ``[N]``, the speaker of each strip: a position in ``speakers``. For
        `group_k_fold`, so that a model is tested on people whom it has never heard.
    takes : numpy.ndarray
        int64 ``[N]``, which recording of that digit by that speaker, from 0. The data set's
        authors test on 0 to 4 and train on the others.

    Raises
    ------
    FileNotFoundError
        If the file is missing and ``download`` is False.
    ConnectionError
        If it can't be downloaded.
    ValueError
        If the file is damaged, or ``speakers`` are not in it.
    ModuleNotFoundError
        If SciPy is not installed.

    References
    ----------
    .. [1] Z. Jackson and others, Free Spoken Digit Dataset, version 1.0.10, 2020,
       https://github.com/Jakobovski/free-spoken-digit-dataset.

    Examples
    --------
    >>> digits = SpokenDigits(speakers=["theo", "lucas"])  # doctest: +SKIP
    >>> train, test = next(group_k_fold(digits.groups))  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        speakers: Sequence[str] | None = None,
        config: LogMel | None = None,
        download: bool = True,
    ) -> None:
        import_scipy("io.wavfile")  # before any download
        self.config = as_log_mel(config)
        self.root = spoken_digits_folder() if root is None else Path(root)
        archive = self.root / ARCHIVE
        _require(archive, may_download=download)
        recordings = sorted(_recordings(archive))
        found = sorted({recording.speaker for recording in recordings})
        self.speakers = tuple(found) if speakers is None else _check_speakers(speakers, found)
        recordings = [each for each in recordings if each.speaker in self.speakers]
        super().__init__(
            [_strip(archive, recording, self.config) for recording in recordings],
            [recording.digit for recording in recordings],
            [str(digit) for digit in range(10)],
        )
        self.groups = np.array([self.speakers.index(each.speaker) for each in recordings], np.int64)
        self.takes = np.array([each.take for each in recordings], np.int64)


class _Recording(NamedTuple):
    digit: int
    speaker: str
    take: int
    path: str
    wav: bytes


def spoken_digits_folder() -> Path:
    """Where `SpokenDigits` looks for its file if it isn't told."""
    data = os.environ.get("FASTRNN_DATA")
    return (Path(data) if data else cache_folder()) / "fsdd"


def _require(archive: Path, *, may_download: bool) -> None:
    if archive.exists():
        return
    where = (
        f"put it into {archive.parent}, or set FASTRNN_DATA to the folder that holds fsdd/{ARCHIVE}"
    )
    if not may_download:
        raise FileNotFoundError(f"{archive} does not exist; {where}, or allow download")
    try:
        download(MIRRORS, archive, check=_check_archive)
    except ConnectionError as error:
        raise ConnectionError(f"{error}. Without a network, {where}") from error


def _check_archive(archive: Path) -> None:
    count = sum(1 for _ in _recordings(archive))
    if count != _COUNT:
        raise ValueError(f"{archive} has {count} recordings, but must have {_COUNT}")


def _recordings(archive: Path) -> Iterator[_Recording]:
    """Read the archive from its beginning to its end, once."""
    count = 0
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                match = _PATH.fullmatch(member.name)
                content = members.extractfile(member) if match else None
                if match is None or content is None:
                    continue
                count += 1
                digit, speaker, take = match.groups()
                yield _Recording(int(digit), speaker, int(take), member.name, content.read())
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is not a tar.gz file, or is damaged: {error}") from error
    if not count:
        raise ValueError(f"{archive} has no file such as recordings/7_theo_0.wav")


def _check_speakers(speakers: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    if isinstance(speakers, str):
        raise TypeError(f"speakers is {speakers!r}, but must be a sequence of names")
    for name in speakers:
        if name not in found:
            raise ValueError(f"speakers has {name!r}, who is not among {listed(found)}")
    if not speakers:
        raise ValueError(f"speakers is empty; give some of {listed(found)}")
    if len(set(speakers)) < len(speakers):
        raise ValueError(f"speakers is {tuple(speakers)}, but must be different names")
    return tuple(speakers)


def _strip(archive: Path, recording: _Recording, config: LogMel) -> np.ndarray:
    try:
        return read_audio(io.BytesIO(recording.wav), config)
    except StripDecodeError as error:
        raise StripDecodeError(archive / recording.path, error.reason) from error
