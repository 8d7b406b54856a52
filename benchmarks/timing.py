"""Timing of several functions side by side: in turns, in one process, with the spread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    """20th, 50th and 80th percentile of some repetitions."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        cuts = statistics.quantiles(values, n=5, method="inclusive")
        return cls(cuts[0], statistics.median(values), cuts[3])

    def as_dict(self) -> dict[str, float]:
        return {key: float(f"{value:.5g}") for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Comparison:
    """Milliseconds of a baseline and of ours, and the ratio round by round."""

    baseline_ms: Spread
    ours_ms: Spread
    ratio: Spread
    rounds: int

    @property
    def times_the_time(self) -> Spread:
        """How many times the baseline's time ours takes, round by round."""
        return Spread(1 / self.ratio.p80, 1 / self.ratio.p50, 1 / self.ratio.p20)


def side_by_side(
    baseline: Callable[[], object],
    ours: Callable[[], object],
    *,
    seconds: float = 6.0,
    min_rounds: int = 5,
    max_rounds: int = 60,
) -> Comparison:
    """Run two functions alternately, after one warm-up each, for about `seconds`."""
    for function in (baseline, ours):
        function()
    times: dict[str, list[float]] = {"baseline": [], "ours": []}
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        while len(times["ours"]) < max_rounds:
            done = len(times["ours"])
            if done >= min_rounds and time.perf_counter() - begin > seconds:
                break
            # Who goes first changes, so that neither always finds the other's caches.
            order = [("baseline", baseline), ("ours", ours)]
            for name, function in order if done % 2 == 0 else reversed(order):
                start = time.perf_counter()
                function()
                times[name].append((time.perf_counter() - start) * 1e3)
    finally:
        gc.enable()
    ratios = [a / b for a, b in zip(times["baseline"], times["ours"], strict=True)]
    return Comparison(
        Spread.of(times["baseline"]), Spread.of(times["ours"]), Spread.of(ratios), len(ratios)
    )
