"""Messages of the floors below in the words of the command line."""

from __future__ import annotations

import re

from fastrnn.cli.option_groups import flag

_SAME = [
    "accumulate",
    "amp",
    "class_weights",
    "depth_range",
    "dropout",
    "ema_decay",
    "epochs",
    "frame_width",
    "height",
    "hidden_size",
    "keep",
    "label_smoothing",
    "layer_norm",
    "learning_rate",
    "max_frames",
    "max_iter",
    "max_width",
    "mixup",
    "num_layers",
    "patience",
    "pooling",
    "scan",
    "schedule",
    "seed",
    "stack",
    "threshold",
    "value_range",
    "weight_decay",
    "window_combine",
    "window_size",
    "window_stride",
]
OPTIONS = {name: flag(name) for name in _SAME} | {
    "attention_heads": "--heads",
    "balanced_sampling": "--balanced",
    "held_out_fraction": "--validation-share",
    "max_padded_steps": "--batch-columns",
    "n_mels": "--mels",
    "num_workers": "--workers",
    "out_dir": "--output",
    "stride": "--frames-stride",
}
"""The option by which an argument is given."""

_PHRASES = {
    "value_range=(low, high)": "--value-range LOW HIGH",
    'missing="zeros"': "--allow-missing-depth",
    'missing_picture="zeros"': "--allow-missing-picture",
    'on_error="skip"': "--skip-bad",
    "with balanced_sampling": "with --balanced",
    "resume=True": "--resume",
    "needs a validation set, validation is None": "needs validation strips: give --validation, or "
    "a --validation-share above 0",
    "or give validation": "or give --validation",
    "give labels= to say": "a file labels.json beside them, a list of names, would say",
    "; mend it, or give labels=": "; mend it",
}
_CHANNELS = re.compile(r"; open it with channels=\d+")

_NAMES = "|".join(OPTIONS)
_COMPOUND = "|".join(name for name in OPTIONS if "_" in name)
_CHOSEN = re.compile(rf"(?<![\w/.-])({_NAMES})='([\w+-]+)'")
# A single word is an argument only where a message, or a part of it, begins. What --set chose,
# and what a trial of a tuning failed of, keeps the name that it was given by.
_NAMED = re.compile(
    r"(?<!--set )(?<!failed: )"
    rf"((?:^|(?<=[:;(] )|(?<=but ))(?:{_NAMES})|(?<![\w/.'-])(?:{_COMPOUND}))"
    r"(?= (?:is|has|must|needs|with)\b)"
)
_NOT_GIVEN = re.compile(r"(--[a-z-]+) is None\b")


def as_typed(text: str) -> str:
    """Name the options of the command line where a message names arguments of Python.

    >>> as_typed("learning_rate is nan, it should be greater than 0")
    '--learning-rate is nan, it should be greater than 0'
    >>> as_typed("window_stride is 5, but window_size is None: there are no windows")
    '--window-stride is 5, but --window-size is not given: there are no windows'
    """
    for phrase, words in _PHRASES.items():
        text = text.replace(phrase, words)
    text = _CHANNELS.sub("", text)
    text = _CHOSEN.sub(lambda found: f"{OPTIONS[found[1]]} {found[2]}", text)
    text = _NAMED.sub(lambda found: OPTIONS[found[1]], text)
    return _NOT_GIVEN.sub(r"\1 is not given", text)
