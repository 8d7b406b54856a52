"""The plot of the documents: ratio by shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results_file import ROOT

from .cases import BATCH_SIZES, GROUPS, HIDDEN_SIZES, MODES, SEQ_LENS
from .registry import BASELINE, OURS, PEERS
from .results import Results
from .table import NOTHING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGE = ROOT / "docs" / "images" / "cpu-speed.svg"

_MARKERS = dict(zip((p for p in PEERS if p != OURS), "os^DvPX", strict=True))


def link() -> str:
    """The plot in a document of the same folder, once there are results."""
    if not Results().cells:
        return NOTHING
    return (
        f"![Time of each library over fastrnn's, by shape]({IMAGE.relative_to(IMAGE.parents[1])})"
    )


def draw(results: Results, path: Path = IMAGE) -> None:
    """Write the plot, if there are results: a panel per mode, on two threads.

    Shapes stand side by side, by hidden size, then batch size, with a mark for each library; marks
    above 1 are shapes on which fastrnn is faster.
    """
    if not results.cells:
        return
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "fastrnn", "svg.fonttype": "none"}):
        figure, panels = plt.subplots(len(MODES), 1, figsize=(10, 7), sharex=True)
        for axes, mode in zip(panels, MODES, strict=True):
            _panel(axes, results, mode)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=len(labels), fontsize="small")
        figure.tight_layout(rect=(0, 0, 1, 0.96))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def points(results: Results, mode: str, peer: str) -> tuple[list[float], list[float]]:
    """Places of the shapes along the axis, and the median ratios there."""
    places, ratios = [], []
    for cell in results.cells.values():
        entry = cell["peers"].get(peer, {})
        if (cell["mode"], cell["threads"], cell["group"]) == (mode, 2, GROUPS[0]) and (
            "ratio" in entry
        ):
            places.append(_place(cell["layer"]))
            ratios.append(entry["ratio"]["p50"])
    return places, ratios


def _panel(axes: Axes, results: Results, mode: str) -> None:
    for index, (peer, marker) in enumerate(_MARKERS.items()):
        places, ratios = points(results, mode, peer)
        if not places:
            continue
        # Torch is measured on every shape, the others on some of them.
        size, alpha = (12, 0.5) if peer == BASELINE else (40, 0.9)
        label = PEERS[peer].label
        style = {"color": f"C{index}", "marker": marker, "label": label}
        axes.scatter(places, ratios, s=size, alpha=alpha, **style)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("time / fastrnn's time")
    axes.set_title(f"{mode}, 2 threads, one direction", fontsize="medium")
    ticks = [(h, b) for h in HIDDEN_SIZES for b in BATCH_SIZES]
    axes.set_xticks(range(len(ticks)), [f"B={b}\nH={h}" for h, b in ticks], fontsize="small")
    axes.grid(axis="y", which="both", alpha=0.3)


def _place(layer: dict[str, Any]) -> float:
    """A column for each pair of H and B; within it, longer sequences are further right."""
    column = HIDDEN_SIZES.index(layer["hidden_size"]) * len(BATCH_SIZES)
    column += BATCH_SIZES.index(layer["batch_size"])
    return column + 0.2 * (SEQ_LENS.index(layer["seq_len"]) - 1)
