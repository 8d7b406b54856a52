"""Where a command computes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch
import typer

from fastrnn.cli.errors import CommandError

Device: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Where to compute: cpu, cuda, or cuda:1 for the second GPU; auto takes a GPU where "
        "there is one."
    ),
]


def chosen_device(name: str) -> torch.device:
    """Return the device that a name stands for.

    Parameters
    ----------
    name
        "auto", "cpu", "cuda" or "cuda:N".

    Raises
    ------
    CommandError
        If it is none of these, or the machine has no such GPU.

    Examples
    --------
    >>> chosen_device("cpu")
    device(type='cpu')
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (name != "cuda" and not (index.isascii() and index.isdigit())):
        raise CommandError(f"--device is {name!r}, but should be auto, cpu, cuda or cuda:N")
    if int(index or 0) >= gpus:
        raise CommandError(
            f"--device is {name!r}, but torch sees {_gpus(gpus)}; fastrnn doctor says more"
        )
    return torch.device(name)


def _gpus(count: int) -> str:
    return {0: "no GPU", 1: "one GPU, cuda:0"}.get(count, f"cuda:0 to cuda:{count - 1}")
