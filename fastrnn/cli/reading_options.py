"""The options that say how files become strips."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from fastrnn.cli import options as opt
from fastrnn.cli.options import READING as _PANEL


class KeepName(StrEnum):
    """Which part of a strip that is too long is kept."""

    HEAD = "head"
    TAIL = "tail"
    CENTRE = "centre"


_Count: TypeAlias = int | None
_Range: TypeAlias = tuple[float, float] | None


@dataclass(frozen=True)
class ReadingOptions:
    """How files become strips, and what else there is to say about reading them."""

    height: Annotated[
        _Count,
        typer.Option(
            min=1,
            max=4096,
            help="Rows that strips are scaled to.",
            show_default="28; in .npz shards theirs",
            rich_help_panel=_PANEL,
        ),
    ] = None
    rgb: Annotated[
        bool, typer.Option("--rgb", help="Use colours, not grey.", rich_help_panel=_PANEL)
    ] = False
    value_range: Annotated[
        _Range,
        typer.Option(
            metavar="LOW HIGH",
            help="The values of image files that become black and white, where their pixels have "
            "more than 8 bits.",
            show_default="all that 16 bits can hold",
            rich_help_panel=_PANEL,
        ),
    ] = None
    depth_range: Annotated[
        _Range,
        typer.Option(
            metavar="NEAR FAR",
            help="The nearest and the farthest depth, for pictures with depth maps (a.png and "
            "a.depth.png), in the units of the latter.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    allow_missing_depth: opt.AllowMissingDepth = False
    allow_missing_picture: opt.AllowMissingPicture = False
    mels: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Rows of the strip of a sound: mel bands.",
            show_default="40",
            rich_help_panel=_PANEL,
        ),
    ] = None
    frame_width: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Columns that the frames of clips are scaled to.",
            show_default="by the aspect of the first clip",
            rich_help_panel=_PANEL,
        ),
    ] = None
    frames_stride: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Take one frame of so many of a clip.",
            show_default="1",
            rich_help_panel=_PANEL,
        ),
    ] = None
    max_frames: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Take at most so many frames of a clip.",
            show_default="all",
            rich_help_panel=_PANEL,
        ),
    ] = None
    max_width: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Take at most so many columns of a strip.",
            show_default="all",
            rich_help_panel=_PANEL,
        ),
    ] = None
    keep: Annotated[
        KeepName | None,
        typer.Option(
            "--keep",
            help="Which part to take, where --max-width or --max-frames leaves some out.",
            show_default="head",
            rich_help_panel=_PANEL,
        ),
    ] = None
    skip_bad: opt.SkipBad = False
    data_root: opt.DataRoot = None
    test_speaker: opt.TestSpeaker = None
