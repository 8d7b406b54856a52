"""A picture of an explanation: the strip, what mattered in it, and what it was taken for.

Matplotlib is used without pyplot, so no window system is needed and no global state is touched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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
_WIDEST, _NARROWEST = 8.5, 2.2  # of the lines of a strip
_CLASSES, _EDGE, _BETWEEN = 1.95, 0.15, 0.25
_HEAD, _CURVES, _TICKS, _GAP = 0.42, 0.5, 0.3, 0.06
_LOWEST, _HIGHEST = 0.5, 1.4  # of a strip on the page
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

    The strip, its colours and its depth if it has both; below it the strip again, pale, with the
    pixels that mattered in colour, and the attention along it. A long strip is in several lines,
    one that runs from top to bottom turned, with its top to the left. Beside it are the most
    probable classes.

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
    shown = _shown_classes(explanation, most_classes)
    rows, columns = content.heat.shape
    page = _Page.of(len(content.pictures), rows, columns, classes=len(shown))
    figure = Figure(figsize=(page.width, page.height), dpi=110)
    for line in range(page.lines):
        _draw_line(figure, page, content, line)
    _draw_classes(figure, page, explanation, shown)
    figure.text(
        _EDGE / page.width,
        1 - 0.24 / page.height,
        _shortened(explanation.path.name if title is None else title, round(10 * page.width)),
        fontsize=11,
        va="center",
        color=_TITLE[right],
        parse_math=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return path


@dataclass(frozen=True, eq=False)
class _Content:
    """What is drawn along the strip, lying."""

    pictures: list[NDArray[np.uint8]]  # [H, W] or [H, W, 3]: colours, depth, or both
    paper: NDArray[np.float64]  # [H, W], grey on a light ground, 0 to 1
    heat: NDArray[np.float32]  # [H, W], 0 to 1
    along: NDArray[np.float32]  # [W], 0 to 1
    attention: NDArray[np.float32] | None  # [W], 0 to 1
    unit: str

    @classmethod
    def of(cls, explanation: FileExplanation) -> _Content:
        pictures = _modalities(explanation.picture)
        paper, heat = _on_paper(pictures[0].mean(-1) / 255), explanation.heat
        first, stop = explanation.seen
        paper[:, :first] = paper[:, stop:] = 1  # the model saw nothing there
        vertical = explanation.explanation.vertical
        if vertical:
            pictures = [np.rot90(picture) for picture in pictures]
            paper, heat = np.rot90(paper), np.rot90(heat)
        attention = explanation.attention
        return cls(
            pictures=[part[..., 0] if part.shape[2] == 1 else part for part in pictures],
            paper=paper,
            heat=_up_to_one(heat, _full_heat(heat)),
            along=_up_to_one(explanation.along()),
            attention=None if attention is None else _up_to_one(attention),
            unit="row" if vertical else "column",
        )


@dataclass(frozen=True)
class _Page:
    """How a strip is put on the page: lines of so many columns, and sizes in inches."""

    pictures: int  # of a line, above the heat
    lines: int
    columns: int
    strip: float  # height of a strip, and of its heat
    line_width: float
    classes: float  # height of the classes and what is below them

    @classmethod
    def of(cls, pictures: int, rows: int, columns: int, classes: int) -> _Page:
        """Lay out pictures of so many rows and columns, beside so many classes."""
        lines = min(_MOST_LINES, math.ceil(columns / rows * _LOWEST / _WIDEST))
        per_line = math.ceil(columns / lines)
        strip = min(max(_WIDEST * rows / per_line, _LOWEST), _HIGHEST)
        line_width = min(max(strip * per_line / rows, _NARROWEST), _WIDEST)
        # A narrow strip leaves room to its right, in the place of being drawn wider than it is.
        room = math.ceil(line_width / strip * rows) if strip == _HIGHEST else 0
        below = classes * _CLASS + 3.2 * _LEGEND
        return cls(pictures, lines, max(per_line, room), strip, line_width, below)

    @property
    def line(self) -> float:
        """Height of a line: the pictures, the heat, the curves."""
        return (self.pictures + 1) * (self.strip + _GAP) + _CURVES + _TICKS

    @property
    def height(self) -> float:
        """Height of the page."""
        return _HEAD + max(self.lines * self.line, self.classes)

    @property
    def width(self) -> float:
        """Width of the page."""
        return self.line_width + _BETWEEN + _CLASSES + 2 * _EDGE

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Make axes of a size at a place below the title."""
        bottom = self.height - _HEAD - top - height
        return figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )


_Draw: TypeAlias = "Callable[[Axes, _Content, slice], None]"


def _draw_line(figure: Figure, page: _Page, content: _Content, line: int) -> None:
    first, top = line * page.columns, line * page.line
    part = slice(first, min(first + page.columns, content.heat.shape[1]))
    above: list[_Draw] = [partial(_draw_picture, picture) for picture in content.pictures]
    heights = [page.strip] * (len(above) + 1) + [_CURVES]
    for draw, height in zip([*above, _draw_heat, _draw_curves], heights, strict=True):
        axes = page.axes(figure, _EDGE, top, page.line_width, height)
        draw(axes, content, part)
        _frame(axes, first, page.columns)
        top += height + _GAP
    if line == page.lines - 1:
        axes.set_xlabel(content.unit, fontsize=7, labelpad=1, loc="left")


def _frame(axes: Axes, first: int, columns: int) -> None:
    axes.set_xlim(first - 0.5, first + columns - 0.5)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_picture(picture: NDArray[np.uint8], axes: Axes, content: _Content, part: slice) -> None:
    _show(axes, picture[:, part], part, cmap="gray", vmin=0, vmax=255)
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
    figure: Figure, page: _Page, explanation: FileExplanation, shown: list[str]
) -> None:
    """Write each class above its bar, and below all of them what the colours mean."""
    found = explanation.explanation
    left = _EDGE + page.line_width + _BETWEEN
    axes = page.axes(figure, left, 0, _CLASSES, page.classes)
    axes.set_xlim(0, 1)
    axes.set_ylim(page.classes, 0)
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


def _modalities(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Part ``[C, H, W]`` into what the eye takes in, ``[H, W, 1 or 3]``; what is missing is not."""
    colours = {2: 1, 4: 3}.get(len(picture), len(picture))
    parts = [picture[:colours], picture[colours:]]
    there = [part.transpose(1, 2, 0) for part in parts if part.any()]
    return there or [parts[0].transpose(1, 2, 0)]


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
