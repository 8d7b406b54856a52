"""A picture of an explanation: the strip, what mattered in it, and what it was taken for.

Matplotlib is used without pyplot, so no window system is needed and no global state is touched.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.deploy import FileExplanation
from fastrnn.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_explanation"]

_ATTENTION, _HEAT, _BAR, _OTHER_BAR = "#d9730d", "#8e1b5e", "#2b5c8a", "#b9c3cd"
_TITLE = {True: "#2a7f4f", False: "#b3322e", None: "black"}

# Inches.
_WIDTH, _LEFT, _RIGHT_COLUMN, _EDGE = 11.0, 8.5, 1.95, 0.15
_HEAD, _CURVES, _TICKS, _GAP = 0.42, 0.5, 0.3, 0.06
_LOWEST, _HIGHEST = 0.5, 1.3  # of a strip on the page
_CLASS, _LEGEND = 0.29, 0.2

_MOST_LINES = 8  # a strip so long that it needs more is drawn narrower than it is
_MOST_LETTERS = 20
_FAINT, _FULL = 0.01, 0.97  # of the heat that is not faint, this quantile has the full colour


def draw_explanation(
    path: str | os.PathLike[str],
    explanation: FileExplanation,
    *,
    title: str | None = None,
    right: bool | None = None,
    most_classes: int = 5,
) -> Path:
    """Draw an explanation into a PNG file.

    The strip, below it the strip again, pale, with the pixels that mattered in colour, and the
    attention along it; a long strip in several lines, one that runs from top to bottom turned, with
    its top to the left. Beside it the most probable classes.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    explanation
        What `fastrnn.deploy.explain_file` gave.
    title
        Line above; the file's name by default.
    right
        Whether the prediction is right (green title) or wrong (red); None if not known (black).
    most_classes
        Classes shown, at most; the explained one is among them.

    Returns
    -------
    pathlib.Path
        ``path``.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from fastrnn.deploy import explain_file
    >>> from fastrnn.models import StripClassifier
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.linear_gradient("L").resize((300, 28)).save(f"{folder}/scan.png")
    ...     found = explain_file(StripClassifier(1, 28, 2), f"{folder}/scan.png")
    ...     draw_explanation(f"{folder}/scan-explained.png", found).name
    'scan-explained.png'
    """
    from matplotlib.figure import Figure

    path = Path(path)
    content = _Content.of(explanation)
    page = _Page.for_strip(*content.heat.shape)
    shown = _shown_classes(explanation, most_classes)
    legend = _HEAD + len(shown) * _CLASS + 3.2 * _LEGEND
    height = max(page.height, legend)
    figure = Figure(figsize=(_WIDTH, height), dpi=110)
    for line in range(page.lines):
        _draw_line(figure, content, page, line, height)
    figure.text(
        _EDGE / _WIDTH,
        1 - 0.24 / height,
        _shortened(explanation.path.name if title is None else title, 110),
        fontsize=11,
        va="center",
        color=_TITLE[right],
        parse_math=False,
    )
    _draw_classes(figure, explanation, shown, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return path


@dataclass(frozen=True, eq=False)
class _Content:
    """What is drawn along the strip, lying."""

    picture: NDArray[np.uint8]  # [H, W] or [H, W, 3]
    paper: NDArray[np.float64]  # [H, W], grey on a light ground, 0 to 1
    heat: NDArray[np.float32]  # [H, W], 0 to 1
    along: NDArray[np.float32]  # [W], 0 to 1
    attention: NDArray[np.float32] | None  # [W], 0 to 1
    unit: str

    @classmethod
    def of(cls, explanation: FileExplanation) -> _Content:
        picture, heat = explanation.picture.transpose(1, 2, 0), explanation.heat
        vertical = explanation.explanation.vertical
        if vertical:
            picture, heat = np.rot90(picture), np.rot90(heat)
        attention = explanation.attention
        return cls(
            picture=picture[..., 0] if picture.shape[2] == 1 else picture,
            paper=_on_paper(picture.mean(-1) / 255),
            heat=_up_to_one(heat, _full_heat(heat)),
            along=_up_to_one(explanation.along()),
            attention=None if attention is None else _up_to_one(attention),
            unit="row" if vertical else "column",
        )


@dataclass(frozen=True)
class _Page:
    """How a strip is put on the page: lines of so many columns, each so high."""

    lines: int
    columns: int
    strip: float  # inches

    @classmethod
    def for_strip(cls, rows: int, columns: int) -> _Page:
        lines = min(_MOST_LINES, math.ceil(columns / rows * _LOWEST / _LEFT))
        per_line = math.ceil(columns / lines)
        high = min(max(_LEFT * rows / per_line, _LOWEST), _HIGHEST)
        # A short strip leaves room to its right, in the place of being drawn wider than it is.
        room = math.ceil(_LEFT / high * rows) if high == _HIGHEST else 0
        return cls(lines, max(per_line, room), high)

    @property
    def line(self) -> float:
        """Inches of a line: the strip, the heat, the curves."""
        return 2 * (self.strip + _GAP) + _CURVES + _TICKS

    @property
    def height(self) -> float:
        """Inches of the page."""
        return _HEAD + self.lines * self.line


def _draw_line(figure: Figure, content: _Content, page: _Page, line: int, height: float) -> None:
    first = line * page.columns
    part = slice(first, min(first + page.columns, content.heat.shape[1]))
    top = height - _HEAD - line * page.line
    for number, draw in enumerate((_draw_picture, _draw_heat)):
        bottom = top - page.strip - number * (page.strip + _GAP)
        axes = _axes(figure, bottom, page.strip, height)
        draw(axes, content, part)
        _frame(axes, first, page.columns)
    axes = _axes(figure, top - 2 * (page.strip + _GAP) - _CURVES, _CURVES, height)
    _draw_curves(axes, content, part)
    _frame(axes, first, page.columns)
    if line == page.lines - 1:
        axes.set_xlabel(content.unit, fontsize=7, labelpad=1, loc="left")


def _axes(figure: Figure, bottom: float, inches: float, height: float) -> Axes:
    return figure.add_axes((_EDGE / _WIDTH, bottom / height, _LEFT / _WIDTH, inches / height))


def _frame(axes: Axes, first: int, columns: int) -> None:
    axes.set_xlim(first - 0.5, first + columns - 0.5)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_picture(axes: Axes, content: _Content, part: slice) -> None:
    _show(axes, content.picture[:, part], part, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])


def _draw_heat(axes: Axes, content: _Content, part: slice) -> None:
    from matplotlib import colormaps

    pale = 0.77 + 0.2 * content.paper[:, part, None]
    heat = content.heat[:, part, None]
    colours = colormaps["RdPu"](0.3 + 0.7 * heat[..., 0])[..., :3]
    _show(axes, pale + np.minimum(1, 2 * heat) * (colours - pale), part)
    axes.set_xticks([])


def _show(axes: Axes, image: NDArray[Any], part: slice, **options: Any) -> None:
    extent = (part.start - 0.5, part.stop - 0.5, image.shape[0] - 0.5, -0.5)
    axes.imshow(image, extent=extent, aspect="auto", **options)


def _draw_curves(axes: Axes, content: _Content, part: slice) -> None:
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(part.start, part.stop + 1) - 0.5
    if content.attention is not None:
        shares = np.append(content.attention[part], 0)
        axes.fill_between(edges, shares, step="post", color=_ATTENTION, alpha=0.55, linewidth=0)
    axes.plot(edges[:-1] + 0.5, content.along[part], color=_HEAT, linewidth=1)
    axes.hlines(0, edges[0], edges[-1], color="#888888", linewidth=0.6)
    axes.set_ylim(0, 1.05)
    locator = MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    ticks = locator.tick_values(edges[0], edges[-1])
    axes.set_xticks([tick for tick in ticks if edges[0] <= tick <= edges[-1]])
    axes.tick_params(labelsize=7, length=2, pad=1, color="#888888")


def _shown_classes(explanation: FileExplanation, most: int) -> list[str]:
    """Give the most probable classes, the explained one in the place of the last if need be."""
    found = explanation.explanation
    order = sorted(found.probabilities, key=lambda name: -found.probabilities[name])
    shown = order[: max(1, most)]
    if found.target not in shown:
        shown[-1] = found.target
    return shown


def _draw_classes(
    figure: Figure, explanation: FileExplanation, shown: list[str], height: float
) -> None:
    """Write each class above its bar, and below all of them what the colours mean."""
    found = explanation.explanation
    inches = len(shown) * _CLASS + 3 * _LEGEND
    left = (_WIDTH - _RIGHT_COLUMN - _EDGE) / _WIDTH
    axes = figure.add_axes(
        (left, 1 - (_HEAD + inches) / height, _RIGHT_COLUMN / _WIDTH, inches / height)
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(inches, 0)
    axes.axis("off")
    for number, label in enumerate(shown):
        share, top = found.probabilities[label], number * _CLASS
        chosen = label == found.label
        text: dict[str, Any] = {"fontsize": 8, "va": "bottom", "parse_math": False}
        text["fontweight"] = "bold" if chosen else "normal"
        axes.text(0, top + 0.15, _shortened(label, _MOST_LETTERS), **text)
        axes.text(1, top + 0.15, f"{share:.1%}", ha="right", **text)
        axes.barh(top + 0.19, 1, 0.05, color="#eef1f4")
        axes.barh(top + 0.19, share, 0.05, color=_BAR if chosen else _OTHER_BAR)
    rows = [("attention", _ATTENTION)] if explanation.attention is not None else []
    rows.append((f"matters for {_shortened(found.target, 18)!r}", _HEAT))
    for number, (meaning, colour) in enumerate(rows):
        middle = len(shown) * _CLASS + (number + 0.9) * _LEGEND
        axes.barh(middle, 0.06, 0.08, color=colour)
        axes.text(0.1, middle, meaning, fontsize=7.5, va="center_baseline", parse_math=False)


def _on_paper(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn dark and light around where the ground is dark, so that colours stand out."""
    return 1 - grey if np.median(grey) < 0.5 else grey


def _full_heat(heat: NDArray[np.float32]) -> float:
    """Give the heat that is drawn in full colour: not the greatest, as single pixels stick out."""
    strong = heat[heat > _FAINT * heat.max()]
    return float(np.quantile(strong, _FULL)) if strong.size else 0.0


def _up_to_one(values: NDArray[np.float32], full: float | None = None) -> NDArray[np.float32]:
    full = full or float(values.max(initial=0))
    return np.clip(values / full, 0, 1) if full > 0 else np.zeros_like(values)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
