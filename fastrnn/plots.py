"""Pictures: curves of a training, a confusion matrix, strips with what was seen, a data set.

Matplotlib is used without pyplot, so no window system is needed and no global state is touched.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.report import DatasetReport
from fastrnn.training.checkpoint import write_atomically
from fastrnn.training.history import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MARKERS = 40  # epochs up to which each one is a dot in the curves
_MOST_NUMBERS = 25  # classes up to which a cell is large enough for its count
_MOST_BARS = 40  # classes of which each can have its bar and its name
_GOOD, _BAD, _ATTENTION = "#2a7f4f", "#b3322e", "#d9730d"
_TRAINING, _VALIDATION = "#2f6db5", "#d9730d"


@dataclass(frozen=True)
class StripPicture:
    """What `draw_strips` shows of one strip.

    Attributes
    ----------
    strip
        uint8 ``[C, H, W]``: grey, RGB, or RGB and depth; of any other number of channels they are
        shown in grey, one below the other.
    title
        Line above the strip.
    attention
        One value per step along the strip, drawn as a curve below it; None for none.
    right
        Whether the prediction is right (green title) or wrong (red); None if not known (black).
    """

    strip: NDArray[np.uint8]
    title: str
    attention: NDArray[np.floating] | None = None
    right: bool | None = None


def draw_curves(
    path: str | os.PathLike[str],
    history: Sequence[EpochRecord],
    *,
    best_epoch: int | None = None,
    title: str = "",
) -> Path:
    """Draw loss, accuracy and learning rate over the epochs into a PNG file.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    history
        At least one epoch, as in `TrainingResult.history`; validation is drawn where there is one.
    best_epoch
        Epoch to mark by a line, None for none.
    title
        Title of the whole.

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    ValueError
        If there is no epoch to draw.

    Examples
    --------
    >>> import tempfile
    >>> record = EpochRecord(1, 0.5, 0.9, 0.4, 0.95, 1e-3, 1234.5, 6.78)
    >>> folder = tempfile.TemporaryDirectory()
    >>> draw_curves(Path(folder.name) / "curves.png", [record]).name
    'curves.png'
    >>> folder.cleanup()
    """
    from matplotlib.ticker import PercentFormatter

    if not history:
        raise ValueError("history is empty; there is no epoch to draw")
    figure = _figure(12, 3.6)
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    loss, accuracy, rate = figure.subplots(1, 3)
    _draw_curve(loss, history, "loss", "training", _TRAINING, linestyle="--")
    _draw_curve(loss, history, "validation_loss", "validation", _VALIDATION)
    _draw_curve(accuracy, history, "accuracy", "training", _TRAINING, linestyle="--")
    _draw_curve(accuracy, history, "validation_accuracy", "validation", _VALIDATION)
    _draw_curve(rate, history, "learning_rate", "", "black")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, name in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate")):
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_xlim(history[0].epoch - 0.5, history[-1].epoch + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.25)
        if best_epoch is not None:
            label = f"best: epoch {best_epoch}"
            axes.axvline(best_epoch, color=_GOOD, linestyle=":", linewidth=1.2, label=label)
        if axes is not rate:
            axes.legend(fontsize=8)
    return _save(figure, Path(path))


def _draw_curve(
    axes: Axes,
    history: Sequence[EpochRecord],
    field: str,
    label: str,
    colour: str,
    linestyle: str = "-",
) -> None:
    points = [(record.epoch, getattr(record, field)) for record in history]
    points = [(epoch, value) for epoch, value in points if value is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        marker = "o" if len(points) <= _MOST_MARKERS else ""
        axes.plot(epochs, values, linestyle, marker=marker, ms=3, color=colour, label=label)


def draw_confusion(
    path: str | os.PathLike[str], confusion: ArrayLike, labels: Sequence[str], *, title: str = ""
) -> Path:
    """Draw a confusion matrix into a PNG file.

    Colours are shares of a true class (row), numbers are counts.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    confusion
        Counts ``[K, K]``; row = true class, column = predicted class.
    labels
        Names of the K classes.
    title
        Title of the picture.

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    ValueError
        If ``confusion`` is not ``[K, K]`` for K labels.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> draw_confusion(Path(folder.name) / "confusion.png", [[9, 1], [2, 8]], ["a", "b"]).name
    'confusion.png'
    >>> folder.cleanup()
    """
    counts = np.asarray(confusion)
    classes = len(labels)
    if counts.shape != (classes, classes):
        raise ValueError(
            f"confusion has shape {counts.shape}, but {classes} labels need ({classes}, {classes})"
        )
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = float(np.clip(2.5 + 0.45 * classes, 4, 24))
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if title:
        axes.set_title(title, parse_math=False)
    size = 9 if classes <= _MOST_NUMBERS else max(3, 250 // classes)
    # A class may be called "$5": its name is no formula.
    text: dict[str, Any] = {"fontsize": size, "parse_math": False}
    axes.set_xticks(range(classes), labels, rotation=90 if _wide(labels) else 0, **text)
    axes.set_yticks(range(classes), labels, **text)
    if classes <= _MOST_NUMBERS:
        for row, column in np.argwhere(counts):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    return _save(figure, Path(path))


def draw_strips(
    path: str | os.PathLike[str], pictures: Sequence[StripPicture], *, title: str = ""
) -> Path:
    """Draw strips into a PNG file, each with its title and the attention along it.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    pictures
        At least one.
    title
        Title of the whole.

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not pictures:
        raise ValueError("pictures is empty; give at least one strip")
    widest = max(picture.strip.shape[2] for picture in pictures)
    figure = _figure(11, 0.4 + 1.25 * len(pictures))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, parse_math=False)
    grid = figure.add_gridspec(2 * len(pictures), 1, height_ratios=[3, 2] * len(pictures))
    for number, picture in enumerate(pictures):
        above = figure.add_subplot(grid[2 * number])
        _draw_strip(above, picture, widest)
        below = figure.add_subplot(grid[2 * number + 1])
        _draw_attention(below, picture, widest)
    return _save(figure, Path(path))


def draw_report(path: str | os.PathLike[str], report: DatasetReport, *, title: str = "") -> Path:
    """Draw a report on data into a PNG file: strips of each class, and their widths, by part.

    Parameters
    ----------
    path
        The file; written whole or not at all.
    report
        What `fastrnn.data.inspect` found.
    title
        Title of the whole.

    Returns
    -------
    pathlib.Path
        ``path``.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.data.inspect import inspect_dataset
    >>> folder = tempfile.TemporaryDirectory()
    >>> report = inspect_dataset(StripDigits("test", size=20))
    >>> draw_report(Path(folder.name) / "report.png", report).name
    'report.png'
    >>> folder.cleanup()
    """
    names = list(dict.fromkeys(name for part in report.parts for name in part.classes))
    figure = _figure(11, 7)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, parse_math=False)
    classes, widths = figure.subplots(2, 1)
    _draw_class_counts(classes, report, names)
    for part in report.parts:
        if part.width_counts:  # none if no strip at all can be read
            widths.stairs(part.width_counts, report.width_edges, label=part.name, linewidth=1.5)
    widths.set_xlabel("columns")
    widths.set_ylabel("strips")
    if len(report.parts) > 1:
        for axes in (classes, widths):
            for text in axes.legend().get_texts():
                text.set_parse_math(False)
    return _save(figure, Path(path))


def _draw_class_counts(axes: Axes, report: DatasetReport, names: Sequence[str]) -> None:
    """Draw a bar for each class and part; for many classes a line over the classes by size."""
    axes.set_ylabel("strips")
    if len(names) > _MOST_BARS:
        for part in report.parts:
            axes.stairs(sorted(part.classes.values(), reverse=True), label=part.name, linewidth=1.5)
        axes.set_xlabel(f"{len(names)} classes, the largest first")
        return
    unlabelled = ["(unlabelled)"] if any(part.unlabelled for part in report.parts) else []
    places = np.arange(len(names) + len(unlabelled))
    breadth = 0.8 / len(report.parts)
    for number, part in enumerate(report.parts):
        counts = [part.classes.get(name, 0) for name in names] + [part.unlabelled] * len(unlabelled)
        axes.bar(places + number * breadth, counts, breadth, label=part.name)
    labels = [*names, *unlabelled]
    axes.set_xticks(
        places + 0.4 - breadth / 2,
        labels,
        rotation=90 if _wide(labels) and len(labels) > 8 else 0,
        parse_math=False,
    )


def _draw_strip(axes: Axes, picture: StripPicture, widest: int) -> None:
    image = _as_image(picture.strip)
    colour = {True: _GOOD, False: _BAD, None: "black"}[picture.right]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axes.set_title(picture.title, loc="left", fontsize=9, pad=2, color=colour, parse_math=False)
    axes.set_xlim(-0.5, widest - 0.5)
    axes.axis("off")


def _as_image(strip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay channels out for the eye: uint8 ``[H, W]``, or ``[H, W, 3]`` for colours."""
    channels = len(strip)
    if channels == 3:
        return strip.transpose(1, 2, 0)
    if channels == 4:  # matplotlib would take the depth for transparency
        depth = np.repeat(strip[3:], 3, axis=0)
        return np.concatenate([strip[:3], depth], axis=1).transpose(1, 2, 0)
    return strip.reshape(-1, strip.shape[2])


def _draw_attention(axes: Axes, picture: StripPicture, widest: int) -> None:
    axes.axis("off")
    if picture.attention is None:
        return
    width = picture.strip.shape[2]
    # Steps need not be columns: a scan may take several columns, or rows, at a time.
    steps = np.linspace(0, width - 1, len(picture.attention)) if len(picture.attention) > 1 else [0]
    axes.fill_between(steps, picture.attention, color=_ATTENTION, alpha=0.6, linewidth=0)
    axes.hlines(0, 0, width - 1, color=_ATTENTION, linewidth=0.5)
    axes.set_xlim(-0.5, widest - 0.5)
    axes.set_ylim(0, max(float(np.max(picture.attention)), 1e-9) * 1.05)


def _wide(labels: Sequence[str]) -> bool:
    return max(map(len, labels), default=0) > 3


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A class name may be in a script that matplotlib's font lacks; its boxes say so.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return path
