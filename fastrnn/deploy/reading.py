"""How files become the strips of a saved model."""

from __future__ import annotations

from fastrnn.data.files import ImageReader
from fastrnn.data.readers import reader_from_json
from fastrnn.data.reading import StripReader
from fastrnn.data.video import VideoReader
from fastrnn.models import BundleError, EncoderClassifier


def model_reader(model: EncoderClassifier) -> StripReader | None:
    """Return the reader that a model keeps.

    Parameters
    ----------
    model
        The model. One that keeps none reads videos if its steps are frames, otherwise image
        files, if its strips are grey or RGB.

    Returns
    -------
    StripReader or None
        None if the model keeps none, and its strips have other channels than pictures.

    Raises
    ------
    fastrnn.models.BundleError
        If what the model keeps is damaged, from a newer version, or does not fit it; a ValueError.

    Examples
    --------
    >>> from fastrnn.data.audio import SoundReader
    >>> from fastrnn.models import StripClassifier
    >>> model_reader(StripClassifier(3, 28, 2))
    ImageReader(height=28, channels=3, value_range=None, max_width=None, keep='head')
    >>> sound = SoundReader()
    >>> model = StripClassifier(sound.channels, sound.height, 2, reader=sound.as_json())
    >>> model_reader(model) == sound
    True
    """
    config = model.config
    if config.reader is None:
        return _likely_reader(model)
    try:
        reader = reader_from_json(config.reader)
    except ValueError as error:
        raise BundleError(f"the model's files can't be read: {error}") from error
    check_fits(reader, model)
    return reader


def check_fits(reader: StripReader, model: EncoderClassifier) -> None:
    """Raise BundleError unless a reader's strips have the shape that a model needs."""
    config = model.config
    for name, found, needed in (
        ("rows", reader.height, config.height),
        ("channels", reader.channels, config.in_channels),
        ("columns a frame", *_frame_widths(reader, model)),
    ):
        if found != needed:
            raise BundleError(
                f"the reader of {reader.kind} gives strips of {found} {name}, but the model needs "
                f"{needed}"
            )


def _likely_reader(model: EncoderClassifier) -> StripReader | None:
    height, channels = model.config.height, model.config.in_channels
    if channels not in (1, 3):
        return None
    if frame_width := _frame_width(model):
        return VideoReader(height, channels, frame_width)
    return ImageReader(height, channels)


def _frame_width(model: EncoderClassifier) -> int | None:
    """Columns of a frame, None if the model's steps are no frames."""
    frame_width: int | None = getattr(model.config, "frame_width", None)
    return frame_width


def _frame_widths(reader: StripReader, model: EncoderClassifier) -> tuple[int | None, int | None]:
    """Columns of the frames that a reader gives and a model needs, both None if it needs none."""
    needed = _frame_width(model)
    return (None, None) if needed is None else (getattr(reader, "frame_width", None), needed)
