"""How a command reads strips: what its options say, or the model that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from fastrnn.cli.errors import CommandError
from fastrnn.cli.option_groups import flag, given
from fastrnn.cli.reading_options import ReadingOptions
from fastrnn.data import LogMel, StripDataset, StripTruncate
from fastrnn.data.audio import SoundReader
from fastrnn.data.checks import OnError
from fastrnn.data.composition import DIGIT
from fastrnn.data.depth import DepthReader
from fastrnn.data.files import ImageReader
from fastrnn.data.finding import StripKind, depth_ending, detect_kind
from fastrnn.data.keeping import Keep
from fastrnn.data.reading import StripReader
from fastrnn.data.video import VideoReader
from fastrnn.deploy import model_reader
from fastrnn.models import EncoderClassifier

Content = Literal[StripKind, "shards", "digits", "spoken digits"]
"""What a source holds."""

_KEPT = frozenset({"max_width", "keep"})
_PICTURES = _KEPT | {"height", "rgb"}
_MAY_MISS = frozenset({"allow_missing_depth", "allow_missing_picture"})
_CLIPS = frozenset({"frame_width", "frames_stride", "max_frames"})
_OPTIONS: Mapping[Content, frozenset[str]] = {
    "images": _PICTURES | {"value_range"},
    "sounds": _KEPT | {"mels"},
    "videos": _CLIPS | {"height", "rgb", "keep"},
    "depth": _PICTURES | _MAY_MISS | {"depth_range"},
    "shards": _PICTURES,
    "digits": _KEPT,
    "spoken digits": _KEPT | {"mels", "test_speaker"},
}
_ANYWHERE = frozenset({"skip_bad", "data_root"})
_WORDS: Mapping[Content, str] = {kind: kind for kind in _OPTIONS} | {
    "depth": "pictures with depth maps",
    "digits": f"grey strips of {DIGIT} rows",
}


@dataclass(frozen=True)
class Reading:
    """How a command reads strips.

    Attributes
    ----------
    options
        What the command line says.
    reader
        How files become strips, whatever the options say; None if these are to decide.
    shape
        Rows and channels that strips must have, None if that is open.
    seed
        Makes the built-in strips, and chooses among strips.
    """

    options: ReadingOptions = field(default_factory=ReadingOptions)
    reader: StripReader | None = None
    shape: tuple[int, int] | None = None
    seed: int = 0

    @classmethod
    def of_model(cls, model: EncoderClassifier, options: ReadingOptions) -> Reading:
        """Read strips as a model needs them."""
        shape = (model.config.height, model.config.in_channels)
        return cls(options, files_reader(model, options), shape)

    @property
    def on_error(self) -> OnError:
        """What is done about files that can't be read."""
        return "skip" if self.options.skip_bad else "raise"

    @property
    def keep(self) -> Keep:
        """Which part of what is too long is taken."""
        return "head" if self.options.keep is None else self.options.keep.value


class Opened(NamedTuple):
    """Strips of a source, and how to read others in the same way."""

    strips: StripDataset
    reading: Reading


def files_reader(model: EncoderClassifier, options: ReadingOptions) -> StripReader | None:
    """Return the reader that a model keeps, with what may be missing as the options say.

    Raises
    ------
    CommandError
        If an option allows something to be missing that the model does not read.
    """
    reader = model_reader(model)
    names = [name for name in given(options) if name in _MAY_MISS]
    if not names:
        return reader
    if not isinstance(reader, DepthReader):
        what = "no files" if reader is None else _WORDS[reader.kind]
        raise CommandError(f"{flag(names[0])} is for {_WORDS['depth']}, but the model reads {what}")
    return replace(
        reader,
        missing="zeros" if options.allow_missing_depth else reader.missing,
        missing_picture="zeros" if options.allow_missing_picture else reader.missing_picture,
    )


def settled(strips: StripDataset, reading: Reading) -> Opened:
    """Put strips beside how others of the same shape are read."""
    return Opened(strips, replace(reading, shape=(strips.height, strips.channels)))


def shortened(strips: StripDataset, reader: StripReader | None) -> StripDataset:
    """Make strips that come from no files as short as a reader makes those of files."""
    if reader is None or reader.max_width is None:
        return strips
    return StripTruncate(strips, reader.max_width, reader.keep)


def reader_for(source: Path, reading: Reading) -> StripReader:
    """Choose the reader of a folder or a manifest, by the files that it holds and the options.

    Raises
    ------
    CommandError
        If the model does not say how to read files, an option is for other files, or one that is
        needed is missing.
    """
    if reading.reader is not None:
        return reading.reader
    if reading.shape is not None:
        raise CommandError(
            f"the model does not say how files become its strips of {reading.shape[1]} channels; "
            "it takes .npz shards only"
        )
    options = reading.options
    kind = _kind_of(source, options)
    check_options(options, kind, str(source))
    height = options.height or DIGIT
    colours = 3 if options.rgb else 1
    if kind == "sounds":
        return SoundReader(log_mel_of(options), options.max_width, reading.keep)
    if kind == "videos":
        stride = options.frames_stride or 1
        return VideoReader(
            height, colours, options.frame_width, stride, options.max_frames, reading.keep
        )
    if kind == "images":
        return ImageReader(height, colours, options.value_range, options.max_width, reading.keep)
    if options.depth_range is None:
        raise CommandError(
            f"{source} holds pictures with depth maps: give the nearest and the farthest depth, in "
            "the units of these, by --depth-range NEAR FAR"
        )
    return DepthReader(
        options.depth_range,
        height,
        1 + colours,
        depth_ending(source),
        "zeros" if options.allow_missing_depth else "raise",
        options.max_width,
        reading.keep,
        "zeros" if options.allow_missing_picture else "raise",
    )


def _kind_of(source: Path, options: ReadingOptions) -> StripKind:
    kind = detect_kind(source, gif="videos")
    if kind != "videos" or _CLIPS & set(given(options)):
        return kind
    if (as_images := detect_kind(source)) != "videos":
        typer.secho(
            f"the GIF files in {source} are taken for images; for clips by --frames-stride 1",
            fg="yellow",
            err=True,
        )
    return as_images


def log_mel_of(options: ReadingOptions) -> LogMel:
    """How sound becomes a strip, by the options."""
    return LogMel() if options.mels is None else LogMel(n_mels=options.mels)


def check_options(options: ReadingOptions, content: Content, source: str) -> None:
    """Raise CommandError if an option is given that says nothing about what a source holds."""
    names = given(options)
    for name in names:
        if name in _OPTIONS[content] | _ANYWHERE:
            continue
        others = [_WORDS[kind] for kind, known in _OPTIONS.items() if name in known]
        *more, last = others
        fitting = f"{', '.join(more)} and {last}" if more else last
        raise CommandError(f"{flag(name)} is for {fitting}, but {source} holds {_WORDS[content]}")
    if "keep" in names and not {"max_width", "max_frames"} & set(names):
        raise CommandError(
            "--keep says which part is taken, but neither --max-width nor "
            "--max-frames leaves anything out"
        )
