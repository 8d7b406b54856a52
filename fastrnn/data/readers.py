"""Readers of every kind of file, made again from the JSON that a model keeps."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from fastrnn.data.audio import SoundReader
from fastrnn.data.depth import DepthReader
from fastrnn.data.files import ImageReader
from fastrnn.data.finding import StripKind
from fastrnn.data.reading import StripReader
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video import VideoReader

Reader = ImageReader | SoundReader | VideoReader | DepthReader

READERS: Mapping[StripKind, type[Reader]] = {
    reader.kind: reader for reader in (ImageReader, SoundReader, VideoReader, DepthReader)
}


def reader_from_json(data: Any) -> StripReader:
    """Make a reader again from what its `StripReader.as_json` gave.

    Parameters
    ----------
    data
        Of any origin: everything is checked.

    Returns
    -------
    StripReader

    Raises
    ------
    ValueError
        If it is damaged, or from a newer version; says what is wrong.

    Examples
    --------
    >>> reader = ImageReader(height=40, value_range=(0, 4095))
    >>> reader_from_json(reader.as_json()) == reader
    True
    >>> reader_from_json({"kind": "smells"})
    Traceback (most recent call last):
    ...
    ValueError: a reader's kind is 'smells', but must be one of images, sounds, videos, depth
    """
    if not isinstance(data, dict):
        raise ValueError(f"a reader is {data!r}, but must be a JSON object")
    settings = {**data}
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in READERS:
        raise ValueError(f"a reader's kind is {kind!r}, but must be one of {', '.join(READERS)}")
    where = f"the reader of {kind}"
    reader = READERS[kind]  # type: ignore[index]
    try:
        _check_names(reader, settings)
        if reader is SoundReader and "config" in settings:
            settings["config"] = _log_mel(settings["config"])
        return reader(**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from error


def _log_mel(data: Any) -> LogMel:
    if not isinstance(data, dict):
        raise ValueError(f"config is {data!r}, but must be a JSON object")
    _check_names(LogMel, data)
    return LogMel(**data)


def _check_names(kind: type[Reader] | type[LogMel], settings: dict[str, Any]) -> None:
    """Check the names of settings; those that an older version didn't know may be missing."""
    for field in fields(kind):
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in settings:
            raise ValueError(f"the setting {field.name!r} is missing")
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(settings) - known):
        raise ValueError(
            f"the setting {unknown[0]!r} is not known; was it saved by a newer fastrnn?"
        )
