"""The sources of strips that come by a name: digits, written and spoken."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from fastrnn.cli.errors import CommandError
from fastrnn.cli.reading import Opened, Reading, check_options, log_mel_of, settled, shortened
from fastrnn.data import SpokenDigits, StripDigits, StripMNIST, StripSubset
from fastrnn.data.audio import SoundReader
from fastrnn.data.composition import DIGIT, DigitStrips, Task
from fastrnn.data.files import ImageReader

BUILT_IN = ("strip-mnist", "strip-digits", "spoken-digits")


def is_built_in(source: str) -> bool:
    """Whether a source is a built-in one, perhaps with a task behind a colon."""
    return source.partition(":")[0] in BUILT_IN


def open_built_in(
    source: str, reading: Reading, split: Literal["train", "test"], size: int | None
) -> Opened:
    """Open a built-in source; as `open_source`."""
    name, colon, task = source.partition(":")
    if name == "spoken-digits":
        if colon:
            raise CommandError(f"{source}: {name} has no tasks")
        return _open_spoken_digits(name, reading, split)
    if colon and task not in get_args(Task):
        raise CommandError(f"{source}: the task should be one of {', '.join(get_args(Task))}")
    options = reading.options
    rows, channels = reading.shape or (options.height or DIGIT, 3 if options.rgb else 1)
    if (rows, channels) != (DIGIT, 1):
        raise CommandError(
            f"{name} has grey strips of {DIGIT} rows, but {rows} rows and {channels} channels were "
            "asked for"
        )
    reader = reading.reader
    if reader is None:
        check_options(replace(options, height=None), "digits", name)
        reader = ImageReader(DIGIT, 1, None, options.max_width, reading.keep)
    elif not isinstance(reader, ImageReader):
        raise CommandError(f"{name} has images, but the model reads {reader.kind}")
    strips = _digits(name, "first" if task == "first" else "find", reading, split, size)
    return settled(shortened(strips, reader), replace(reading, reader=reader))


def _digits(
    name: str, task: Task, reading: Reading, split: Literal["train", "test"], size: int | None
) -> DigitStrips:
    if name == "strip-digits":
        return StripDigits(split, size=size, seed=reading.seed, task=task)
    root = reading.options.data_root
    return StripMNIST(root, split, size=size, seed=reading.seed, task=task)


def _open_spoken_digits(name: str, reading: Reading, split: Literal["train", "test"]) -> Opened:
    """Take the recordings of one speaker for testing, or of all others for training."""
    options, reader = reading.options, reading.reader
    if reader is None:
        check_options(options, "spoken digits", name)
        reader = SoundReader(log_mel_of(options), options.max_width, reading.keep)
    elif not isinstance(reader, SoundReader):
        raise CommandError(f"{name} has sounds, but the model reads {reader.kind}")
    digits = SpokenDigits(options.data_root, config=reader.config)
    tested = options.test_speaker or digits.speakers[-1]
    if tested not in digits.speakers:
        raise CommandError(
            f"--test-speaker is {tested!r}, who is not one of {', '.join(digits.speakers)}"
        )
    is_test = digits.groups == digits.speakers.index(tested)
    part = StripSubset(digits, np.flatnonzero(is_test if split == "test" else ~is_test))
    return settled(shortened(part, reader), replace(reading, reader=reader))
