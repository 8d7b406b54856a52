"""The options that commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

READING = "Reading strips"
_TRAINING = "Training"
_CLASSES = "Rare classes and few strips"
_SPEED = "Memory and speed"


SOURCE_HELP = (
    "A folder with one folder of files per class, a CSV file with the columns path and label, "
    "shards (a .tar or .npz file, a folder of them, a pattern like 'train-{000..012}.tar'), or "
    "strip-mnist, strip-digits, spoken-digits. Files are images, sounds (WAV), videos, or pictures "
    "with depth maps. strip-mnist:first asks for the first of several digits."
)


class ScheduleOption(StrEnum):
    """How the learning rate goes."""

    COSINE = "cosine"
    ONECYCLE = "onecycle"
    PLATEAU = "plateau"


class ClassWeightsName(StrEnum):
    """How much a class counts in the loss."""

    BALANCED = "balanced"
    SQRT = "sqrt"


class AugmentName(StrEnum):
    """How much strips are changed at random."""

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


class AmpName(StrEnum):
    """In which type a training computes."""

    OFF = "off"
    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Source: TypeAlias = Annotated[str, typer.Argument(help=SOURCE_HELP, show_default=False)]
Output: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the model and the log.")
]
Seed: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Seed of everything random: the same one gives the same model.")
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with the training that --output holds.")
]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Delete the training that --output holds.")
]

SkipBad: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave out files that can't be read, with a warning, instead of stopping.",
        rich_help_panel=READING,
    ),
]
AllowMissingDepth: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-missing-depth",
        help="Take pictures without a depth map too; their depth is unknown.",
        rich_help_panel=READING,
    ),
]
AllowMissingPicture: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-missing-picture",
        help="Take depth maps without a picture too; their colours are unknown.",
        rich_help_panel=READING,
    ),
]
DataRoot: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the files of strip-mnist (the four of MNIST) or spoken-digits.",
        show_default="in $FASTRNN_DATA or ~/.cache/fastrnn",
        rich_help_panel=READING,
    ),
]
TestSpeaker: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Who of spoken-digits is for testing, and is never trained on.",
        show_default="the last one",
        rich_help_panel=READING,
    ),
]
TrainSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Use so many strips, each class in proportion.",
        show_default="all",
        rich_help_panel=READING,
    ),
]
Validation: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Where the strips are that the model is judged on while it learns: a source as the "
        "first one.",
        show_default="a share of the source",
        rich_help_panel=READING,
    ),
]
ValidationShare: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Share of the labelled strips that is split off for that; 0 for none.",
        rich_help_panel=READING,
    ),
]
GroupRegex: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What belongs together is judged on as a whole: a part of a file's path, in "
        "parentheses, names its group (a speaker, a document), as in '([^/]+)-[0-9]+.png$'.",
        show_default="each strip by itself",
        rich_help_panel=READING,
    ),
]

HeldOutShare: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=0.9,
        help="Share of the labelled strips that is held out for that.",
        rich_help_panel=READING,
    ),
]

Epochs: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Passes over the strips.", rich_help_panel=_TRAINING)
]
LearningRate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Highest learning rate (AdamW).",
        show_default="0.005 for --model lstm, 0.001 for the others",
        rich_help_panel=_TRAINING,
    ),
]
Schedule: TypeAlias = Annotated[
    ScheduleOption,
    typer.Option(
        "--schedule",
        help="How the learning rate goes: half a cosine; a rise and a fall (onecycle); or lower "
        "when the loss stops falling (plateau).",
        rich_help_panel=_TRAINING,
    ),
]
Patience: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stop after so many epochs without a better validation result.",
        show_default="train all epochs",
        rich_help_panel=_TRAINING,
    ),
]
WeightDecay: TypeAlias = Annotated[
    float,
    typer.Option(min=0, help="Pull of the weights towards zero.", rich_help_panel=_TRAINING),
]
LabelSmoothing: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.99,
        help="Share of each label that is spread over all classes; keeps a model from being sure.",
        rich_help_panel=_TRAINING,
    ),
]
EmaDecay: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Average the weights over the training with this decay per step, for instance 0.99.",
        show_default="no averaging",
        rich_help_panel=_TRAINING,
    ),
]
Tensorboard: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write curves for TensorBoard into the folder tensorboard of --output.",
        rich_help_panel=_TRAINING,
    ),
]

ClassWeights: TypeAlias = Annotated[
    ClassWeightsName | None,
    typer.Option(
        "--class-weights",
        help="Let strips of rare classes count more, so that all classes count alike (balanced), "
        "or halfway there (sqrt).",
        show_default="all strips count alike",
        rich_help_panel=_CLASSES,
    ),
]
Balanced: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--balanced",
        help="Show as many strips of each class, those of rare classes several times.",
        rich_help_panel=_CLASSES,
    ),
]
Augment: TypeAlias = Annotated[
    AugmentName,
    typer.Option(
        "--augment",
        help="Change strips at random, anew in each epoch: size, slant, place, brightness, noise.",
        rich_help_panel=_CLASSES,
    ),
]
Mixup: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        help="Learn from mixtures of two strips; 0.2 mixes most a little, 1 all shares alike.",
        show_default="no mixtures",
        rich_help_panel=_CLASSES,
    ),
]

BatchColumns: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1,
        help="Columns in a batch, padding included; less needs less memory.",
        rich_help_panel=_SPEED,
    ),
]
Accumulate: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1,
        help="Batches per step of the optimizer: larger steps without more memory.",
        rich_help_panel=_SPEED,
    ),
]
Amp: TypeAlias = Annotated[
    AmpName,
    typer.Option(
        "--amp",
        help="Compute in 16 bits where it is safe; auto does so on a GPU that has bfloat16.",
        rich_help_panel=_SPEED,
    ),
]
Workers: TypeAlias = Annotated[
    int,
    typer.Option(
        min=0,
        help="Processes that read and change strips beside the training.",
        rich_help_panel=_SPEED,
    ),
]
