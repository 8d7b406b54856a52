"""Picture of a tuning: what each trial reached, over the trials and over each setting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrnn.training.checkpoint import write_atomically
from fastrnn.training.trials import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"complete": "#2a7f4f", "pruned": "#b0b0b0"}
_COLUMNS = 3


def draw_trials(path: str | os.PathLike[str], trials: Sequence[Trial]) -> Path:
    """Draw the trials of a tuning into a PNG file.

    A panel shows the accuracies in the order of the trials, and the best so far; then a panel per
    setting. Trials that were given up early are grey.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    trials
        At least one that did not fail.

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> import tempfile
    >>> trial = Trial(0, {"hidden_size": 32}, "complete", 0.9, 0.3, 10, 12.0, 5000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_trials(f"{folder}/trials.png", [trial]).name
    'trials.png'
    """
    from matplotlib.figure import Figure

    shown = [trial for trial in trials if trial.accuracy is not None]
    if not shown:
        raise ValueError("no trial reached an accuracy; there is nothing to draw")
    names = list(dict.fromkeys(name for trial in shown for name in trial.settings))
    rows = -(-(1 + len(names)) // _COLUMNS)
    figure = Figure(figsize=(11, 2.8 * rows), dpi=110, layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    _draw_order(panels[0], shown)
    for panel, name in zip(panels[1:], names, strict=False):
        _draw_setting(panel, name, shown)
    for panel in panels[1 + len(names) :]:
        panel.axis("off")
    target = Path(path)
    write_atomically(target, lambda file: figure.savefig(file, format="png"))
    return target


def _draw_order(panel: Axes, trials: Sequence[Trial]) -> None:
    for trial in trials:
        _draw_point(panel, trial.number, trial)
    best, steps = 0.0, []
    for trial in trials:
        if trial.outcome == "complete":
            best = max(best, trial.accuracy or 0)
        steps.append(100 * best)
    panel.step(
        [trial.number for trial in trials], steps, where="post", color="#d9730d", linewidth=1
    )
    panel.set_xlabel("trial; line: best so far", fontsize=8)
    panel.set_ylabel("validation accuracy, %", fontsize=8)


def _draw_setting(panel: Axes, name: str, trials: Sequence[Trial]) -> None:
    values: list[Any] = [trial.settings[name] for trial in trials if name in trial.settings]
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    order = sorted(set(values), key=lambda value: (str(type(value)), value))
    for trial in trials:
        if name in trial.settings:
            value: Any = trial.settings[name]
            _draw_point(panel, value if numbers else order.index(value), trial)
    if not numbers:
        panel.set_xticks(range(len(order)), [str(value) for value in order], fontsize=8)
    elif min(values) > 0 and max(values) >= 8 * min(values):
        panel.set_xscale("log")
    panel.set_xlabel(name, fontsize=8)


def _draw_point(panel: Axes, x: float, trial: Trial) -> None:
    panel.plot([x], [100 * (trial.accuracy or 0)], "o", color=_COLOURS[trial.outcome], markersize=4)
    panel.grid(alpha=0.3)
