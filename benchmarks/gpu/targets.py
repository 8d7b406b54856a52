"""Whether the measured cells reach what the GPU backends are for, in a few lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .plan import Cell
from .results import Record

PADDED_INFERENCE, PADDED_TRAINING = (False, False), (False, True)
PACKED_INFERENCE, PACKED_TRAINING = (True, False), (True, True)
_FASTEST = {
    PADDED_TRAINING: 3.0,
    PADDED_INFERENCE: 4.0,
    PACKED_TRAINING: 20.0,
    PACKED_INFERENCE: 20.0,
}
# Times as fast as torch, in the geometric mean over small layers, by whether lengths vary and
# whether it trains.
TARGETS = {
    "cuda": _FASTEST,
    "triton": {**_FASTEST, PADDED_INFERENCE: 3.0},
    "auto": _FASTEST,
}
MAX_HIDDEN_SIZE, MAX_BATCH_SIZE = 128, 256
# Twice what a step takes at least: 0.15 to 0.3 µs, by the number of units.
MAX_US_PER_STEP = 0.6
PEER_OF_STEPS = "cuda"
# Of torch's peak memory in training.
MEMORY_SHARES = {"cuda": 0.5, "triton": 1.0, "auto": 1.0}
# Where `auto` takes cuDNN, the same kernels run twice: they differ by what is noise in a trial too.
NOISE = 0.03
LEAST_OF_AUTO = 1.0 - NOISE
MAX_NAMED = 5


def verdicts(cells: Mapping[str, Record]) -> list[str]:
    """A line for each target, met or missed by the cells at hand; none without cells."""
    if not cells:
        return []
    known = [(Cell(**record["cell"]), record["peers"]) for record in cells.values()]
    lines = ["targets, from the measured cells alone", *_steps(known)]
    for mode in _FASTEST:
        lines += [_mean(known, peer, mode) for peer in TARGETS]
    lines += _least_of_auto(known)
    return lines + [line for peer in MEMORY_SHARES for line in _memory(known, peer)]


def geometric_mean(values: list[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


Known = Iterable[tuple[Cell, dict[str, Record]]]


def _is_small(cell: Cell) -> bool:
    return cell.hidden_size <= MAX_HIDDEN_SIZE and cell.batch_size <= MAX_BATCH_SIZE


SMALL = f"H <= {MAX_HIDDEN_SIZE}, B <= {MAX_BATCH_SIZE}"


def _steps(known: Known) -> list[str]:
    """The time of a step in inference, where nothing but the steps takes time."""
    start = f"{PEER_OF_STEPS}, inference, {SMALL}: at most {MAX_US_PER_STEP:g} µs per step"
    times = [
        (found[PEER_OF_STEPS]["us_per_step"], cell.name)
        for cell, found in known
        if _is_small(cell) and not cell.training
        if "us_per_step" in found.get(PEER_OF_STEPS, {})
    ]
    if not times:
        return [f"{start}: no cell measured"]
    above = sum(us > MAX_US_PER_STEP for us, _ in times)
    worst, name = max(times)
    return [
        f"{start}: {_word(above == 0)}, {above} of {len(times)} cells above",
        f"    {worst:.3g} µs at {name}",
    ]


def _mean(known: Known, peer: str, mode: tuple[bool, bool]) -> str:
    target = TARGETS[peer][mode]
    values = [
        found[peer]["ratio"]["p50"]
        for cell, found in known
        if _is_small(cell) and (cell.packed, cell.training) == mode
        if "ratio" in found.get(peer, {})
    ]
    packed, training = mode
    name = f"{'packed' if packed else 'padded'}, {'forward+backward' if training else 'inference'}"
    start = f"{peer}, {name}, {SMALL}: {target:g} times as fast as torch"
    if not values:
        return f"{start}: no cell measured"
    mean, least = geometric_mean(values), min(values)
    word, count = _word(mean >= target), len(values)
    return f"{start}: {word}, {mean:.2f} in the mean of {count} cells, {least:.2f} at least"


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
    most = MEMORY_SHARES[peer]
    amount = "no more than" if most == 1.0 else f"at most {most:g} times"
    start = f"{peer} takes {amount} torch's memory at the peak of training"
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
    above = sum(share > most for share, _ in shares) + len(full)
    lines = [f"{start}: {_word(above == 0)}, {above} of {len(shares) + len(full)} cells above"]
    if shares:
        share, worst = max(shares)
        lines.append(f"    at most {share:.2f} times as much {worst}")
    return lines + full[:MAX_NAMED]


def _word(met: bool) -> str:
    return "met" if met else "missed"
