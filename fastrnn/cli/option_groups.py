"""Groups of options that several commands share, as dataclasses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of its parameters that are groups of options.

    Parameters
    ----------
    command
        A parameter of it whose type is a dataclass stands for all fields of this dataclass, each
        annotated as Typer wants its options, with a default.

    Returns
    -------
    callable
        What Typer is to make a command of. It makes the dataclasses.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            options.append(_option(parameter.name, hints[parameter.name], parameter.default))
            continue
        members = get_type_hints(group, include_extras=True)
        options += [
            _option(field.name, members[field.name], field.default) for field in fields(group)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def given(group: Any) -> dict[str, Any]:
    """Return the options of a group that have another value than by default."""
    return {
        field.name: getattr(group, field.name)
        for field in fields(group)
        if getattr(group, field.name) != field.default
    }


def flag(name: str) -> str:
    """Return an option's name as it is written on the command line.

    >>> flag("max_width")
    '--max-width'
    """
    return "--" + name.replace("_", "-")


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)
