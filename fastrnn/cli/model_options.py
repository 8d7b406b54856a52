"""The options that say what a model is like."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer

from fastrnn.cli.errors import CommandError
from fastrnn.cli.models import ModelName, known_settings
from fastrnn.cli.option_groups import flag, given
from fastrnn.nn.pooling import POOLINGS
from fastrnn.training.search_space import parse_values

_PANEL = "Model"
_SETTING_OF = {"heads": "attention_heads"}  # where an option's name isn't the setting's


class ScanName(StrEnum):
    """What a step of the sequence is."""

    AUTO = "auto"
    COLUMNS = "columns"
    PIXELS = "pixels"
    PROFILE = "profile"


# How the outputs of all steps become one vector: whatever the library has.
PoolingName = StrEnum(  # type: ignore[misc]  # mypy wants the names written out
    "PoolingName", {name.upper(): name for name in POOLINGS}
)


class LayerNormName(StrEnum):
    """What is normalised in each step."""

    NONE = "none"
    OUTPUT = "output"
    GATES = "gates"


class CombineName(StrEnum):
    """How windows decide on their strip."""

    MEAN = "mean"
    VOTE = "vote"


_Count: TypeAlias = int | None

Model: TypeAlias = Annotated[
    ModelName,
    typer.Option(
        help="An LSTM; convolutions before an LSTM, which for clips goes from frame to frame; "
        "convolutions alone; or one branch for each of picture and depth (fusion).",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """What a model is like. What isn't given is as the model has it by default."""

    model: Model = ModelName.LSTM
    hidden_size: Annotated[
        _Count,
        typer.Option(
            min=1, help="Hidden units of the LSTM.", show_default="64", rich_help_panel=_PANEL
        ),
    ] = None
    num_layers: Annotated[
        _Count,
        typer.Option(min=1, help="Layers of the LSTM.", show_default="1", rich_help_panel=_PANEL),
    ] = None
    bidirectional: Annotated[
        bool | None,
        typer.Option(
            "--bidirectional/--one-way",
            help="Read strips from both ends, or from left to right only.",
            show_default="bidirectional",
            rich_help_panel=_PANEL,
        ),
    ] = None
    pooling: Annotated[
        PoolingName | None,
        typer.Option(
            help="How all steps become one decision.",
            show_default="attention",
            rich_help_panel=_PANEL,
        ),
    ] = None
    heads: Annotated[
        _Count,
        typer.Option(
            min=1, help="Heads of the attention.", show_default="1", rich_help_panel=_PANEL
        ),
    ] = None
    scan: Annotated[
        ScanName | None,
        typer.Option(
            help="What a step is: a column, a pixel, or a column's mean colour (profile).",
            show_default="auto",
            rich_help_panel=_PANEL,
        ),
    ] = None
    stack: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Columns that make one step, where no convolutions do.",
            show_default="1",
            rich_help_panel=_PANEL,
        ),
    ] = None
    layer_norm: Annotated[
        LayerNormName | None,
        typer.Option(
            help="Normalise what the LSTM gives in each step, or its gates (slower).",
            show_default="none",
            rich_help_panel=_PANEL,
        ),
    ] = None
    dropout: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Dropout.", show_default="0.1", rich_help_panel=_PANEL),
    ] = None
    window_size: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Cut strips into windows of so many columns, which decide together.",
            show_default="whole strips",
            rich_help_panel=_PANEL,
        ),
    ] = None
    window_stride: Annotated[
        _Count,
        typer.Option(
            min=1,
            help="Columns from one window to the next.",
            show_default="--window-size",
            rich_help_panel=_PANEL,
        ),
    ] = None
    window_combine: Annotated[
        CombineName | None,
        typer.Option(
            help="How windows decide: by the mean of what they say, or a vote each.",
            show_default="mean",
            rich_help_panel=_PANEL,
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of the model, such as recurrent_dropout=0.1 or "
            "conv_channels=16,32; may be repeated. An unknown name shows all.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None

    def architecture(self) -> dict[str, Any]:
        """Return the settings that are given, by the names that the model knows.

        Raises
        ------
        CommandError
            If the model has no such setting, or one is given twice.
        """
        options = given(self)
        options.pop("model", None)
        texts: list[str] = options.pop("settings", [])
        known = known_settings(self.model)
        found: dict[str, Any] = {}
        for option, value in options.items():
            name = _SETTING_OF.get(option, option)
            if name not in known:
                raise CommandError(f"{flag(option)} is not for --model {self.model.value}")
            found[name] = value.value if isinstance(value, StrEnum) else value
        for text in texts:
            name, value = _parsed(text)
            if name not in known:
                raise CommandError(
                    f"--set {name}: --model {self.model.value} has no such setting; it has "
                    f"{', '.join(known)}"
                )
            if name in found:
                raise CommandError(f"--set {name}: it is given twice")
            found[name] = value
        return found


def _parsed(text: str) -> tuple[str, Any]:
    """Read ``name=value``; values with commas between them are several."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name or not value.strip():
        raise CommandError(f"--set {text!r} should be name=value")
    values = parse_values(value)
    return name, values[0] if len(values) == 1 else values
