"""The grid: shapes, modes and threads, and the selections of it that have a name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.cases import LayerCase

from .registry import BASELINE, OURS, PEERS
from .work import valid_steps

HIDDEN_SIZES = (32, 64, 128, 256)
BATCH_SIZES = (1, 8, 32, 128)
SEQ_LENS = (128, 1024, 8192)
INPUT_SIZES = (3, 28, 84)

MODES = {"inference": False, "forward+backward": True}
THREADS = (1, 2)

GROUPS = ("one direction", "bidirectional", "lengths T/8..T", "bidirectional, lengths T/8..T")


@dataclass(frozen=True)
class Cell:
    """A layer's shape, whether it is trained, and on how many threads."""

    layer: LayerCase
    training: bool
    threads: int

    @property
    def mode(self) -> str:
        return "forward+backward" if self.training else "inference"

    @property
    def name(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.layer.name}; {self.mode}; {self.threads} thread{plural}"

    @property
    def group(self) -> str:
        """What it is counted with in a mean: everything but the shape."""
        parts = (self.layer.bidirectional * GROUPS[1], self.layer.variable * GROUPS[2])
        return ", ".join(filter(None, parts)) or GROUPS[0]

    @property
    def flops(self) -> int:
        """Arithmetic of the products, without padding: a multiply-add counts twice.

        Backward is the products' two gradients, without that of x.
        """
        inputs, hidden = self.layer.input_size, self.layer.hidden_size
        products = inputs + hidden
        if self.training:
            products = 2 * products + hidden
        directions = 2 if self.layer.bidirectional else 1
        return 2 * 4 * hidden * products * valid_steps(self.layer) * directions


@dataclass(frozen=True)
class Selection:
    """Cells with the peers that are measured in them."""

    cell: Cell
    peers: tuple[str, ...]


SHAPES = tuple(
    LayerCase(i, h, b, t)
    for h, b, t, i in itertools.product(HIDDEN_SIZES, BATCH_SIZES, SEQ_LENS, INPUT_SIZES)
)

_CENTRE = LayerCase(28, 64, 32, 1024)

CROSS = (
    _CENTRE,
    *(replace(_CENTRE, hidden_size=h) for h in HIDDEN_SIZES if h != _CENTRE.hidden_size),
    *(replace(_CENTRE, batch_size=b) for b in BATCH_SIZES if b != _CENTRE.batch_size),
    *(replace(_CENTRE, seq_len=t) for t in SEQ_LENS if t != _CENTRE.seq_len),
    *(replace(_CENTRE, input_size=i) for i in INPUT_SIZES if i != _CENTRE.input_size),
)
"""One shape in the middle, and every other value of each size, one at a time."""

CORNERS = tuple(replace(_CENTRE, hidden_size=h, batch_size=b) for h in (64, 256) for b in (1, 32))
"""Where one sequence and many, a small and a large layer are compared in every other respect."""

_BOTH = (OURS, BASELINE)
_ALL = tuple(PEERS)


def short() -> Iterator[Selection]:
    """A few seconds: whether everything works, and a first impression."""
    for shape, training in itertools.product(CORNERS[:2], (False, True)):
        yield Selection(Cell(replace(shape, seq_len=128), training, 2), _ALL)


def core() -> Iterator[Selection]:
    """What the documents show.

    Torch on every shape (2 threads, one direction, no lengths), both modes; everybody on the
    cross; on the corners everybody in two directions and with lengths; one thread for everybody
    on the corners, and for torch on the cross.
    """
    for training in (False, True):
        for shape in SHAPES:
            yield Selection(Cell(shape, training, 2), _ALL if shape in CROSS else _BOTH)
        for shape in CORNERS:
            if shape not in CROSS:
                yield Selection(Cell(shape, training, 2), _ALL)
            yield Selection(Cell(replace(shape, bidirectional=True), training, 2), _ALL)
            yield Selection(Cell(replace(shape, variable=True), training, 2), _ALL)
            yield Selection(Cell(shape, training, 1), _ALL)
        for shape in CROSS:
            if shape not in CORNERS:
                yield Selection(Cell(shape, training, 1), _BOTH)


def full() -> Iterator[Selection]:
    """Everybody everywhere: days."""
    variants = itertools.product((False, True), (False, True), (2, 1), (False, True))
    for bidirectional, variable, threads, training in variants:
        for shape in SHAPES:
            layer = replace(shape, bidirectional=bidirectional, variable=variable)
            yield Selection(Cell(layer, training, threads), _ALL)


PRESETS = {"short": short, "core": core, "full": full}


def select(
    preset: str,
    *,
    peers: list[str] | None = None,
    modes: list[str] | None = None,
    threads: list[int] | None = None,
    pattern: str = "",
) -> list[Selection]:
    """Cells of a preset, least arithmetic first, so that a run that is cut short has most of them.

    Parameters
    ----------
    preset : str
        A name in `PRESETS`.
    peers, modes, threads : list, optional
        Keep only these; fastrnn always stays.
    pattern : str
        Text that a cell's name must hold, such as "H=64, B=32".
    """
    chosen: dict[str, Selection] = {}
    for selection in PRESETS[preset]():
        cell = selection.cell
        if (modes and cell.mode not in modes) or (threads and cell.threads not in threads):
            continue
        if pattern not in cell.name:
            continue
        earlier = chosen[cell.name].peers if cell.name in chosen else ()
        wanted = [
            peer
            for peer in PEERS
            if (peer in selection.peers or peer in earlier)
            and (peer == OURS or not peers or peer in peers)
        ]
        chosen[cell.name] = Selection(cell, tuple(wanted))
    return sorted(chosen.values(), key=lambda selection: selection.cell.flops)
