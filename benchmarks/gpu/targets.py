"""Whether the measured cells reach what the GPU backends are for, in a few lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .plan import Cell
from .results import Record

# Times as fast as torch, in the geometric mean over small layers, by whether lengths vary.
TARGETS = {False: 3.0, True: 20.0}
MAX_HIDDEN_SIZE, MAX_BATCH_SIZE = 128, 256
PEERS = ("triton", "auto")
# Where `auto` takes cuDNN, the same kernels run twice: they differ by what is noise in a trial too.
NOISE = 0.03
LEAST_OF_AUTO = 1.0 - NOISE
MAX_NAMED = 5


def verdicts(cells: Mapping[str, Record]) -> list[str]:
    """A line for each target, met or missed by the cells at hand; none without cells."""
    if not cells:
        return []
    known = [(Cell(**record["cell"]), record["peers"]) for record in cells.values()]
    lines = ["targets, from the measured cells alone"]
    for packed in TARGETS:
        for training in (True, False):
            lines += [_mean(known, peer, packed=packed, training=training) for peer in PEERS]
    lines += _least_of_auto(known)
    return lines + [line for peer in PEERS for line in _memory(known, peer)]


def geometric_mean(values: list[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


Known = Iterable[tuple[Cell, dict[str, Record]]]


def _mean(known: Known, peer: str, *, packed: bool, training: bool) -> str:
    target = TARGETS[packed]
    values = [
        found[peer]["ratio"]["p50"]
        for cell, found in known
        if cell.hidden_size <= MAX_HIDDEN_SIZE and cell.batch_size <= MAX_BATCH_SIZE
        if (cell.packed, cell.training) == (packed, training)
        if "ratio" in found.get(peer, {})
    ]
    mode = f"{'packed' if packed else 'padded'}, {'forward+backward' if training else 'inference'}"
    sizes = f"H <= {MAX_HIDDEN_SIZE}, B <= {MAX_BATCH_SIZE}"
    start = f"{peer}, {mode}, {sizes}: {target:g} times as fast as torch"
    if not values:
        return f"{start}: no cell measured"
    mean = geometric_mean(values)
    return f"{start}: {_word(mean >= target)}, {mean:.2f} in the mean of {len(values)} cells"


def _least_of_auto(known: Known) -> list[str]:
    start = f"auto as fast as torch on every cell, {NOISE:.0%} allowed for noise"
    ratios = sorted(
        (found["auto"]["ratio"]["p50"], f"{cell.name} ({found['auto'].get('chosen', '?')})")
        for cell, found in known
        if "ratio" in found.get("auto", {})
    )
    if not ratios:
        return [f"{start}: no cell measured"]
    below = [(ratio, name) for ratio, name in ratios if ratio < LEAST_OF_AUTO]
    return [
        f"{start}: {_word(not below)}, {len(below)} of {len(ratios)} cells below",
        *(f"    {ratio:.2f} at {name}" for ratio, name in below[:MAX_NAMED] or ratios[:1]),
    ]


def _memory(known: Known, peer: str) -> list[str]:
    """Peak memory of training against that of torch, which is cuDNN's."""
    start = f"{peer} takes no more memory at its peak than torch in training"
    shares, full = [], []
    for cell, found in known:
        own, base = (found.get(name, {}).get("peak_mb") for name in (peer, "torch"))
        if not cell.training or not base:
            continue
        if found.get(peer, {}).get("status") == "out of memory":
            full.append(f"    out of memory, with {base:.4g} MB for torch, at {cell.name}")
        elif own is not None:
            shares.append((own / base, f"({own:.4g} for {base:.4g} MB) at {cell.name}"))
    if not shares and not full:
        return [f"{start}: no cell measured"]
    above = sum(share > 1.0 for share, _ in shares) + len(full)
    lines = [f"{start}: {_word(above == 0)}, {above} of {len(shares) + len(full)} cells above"]
    if shares:
        share, worst = max(shares)
        lines.append(f"    at most {share:.2f} times as much {worst}")
    return lines + full[:MAX_NAMED]


def _word(met: bool) -> str:
    return "met" if met else "missed"
