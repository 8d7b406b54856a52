"""What a set of strips is like: counts, widths, copies, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TypeAlias

import numpy as np

from fastrnn.data.checks import counted, listed

Copies: TypeAlias = tuple[tuple["Copy", ...], ...]

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
_BINS = 24
_IMBALANCED = 10  # times as many strips in the largest class as in the smallest
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class SeenStrip:
    """What was noted of one strip.

    Attributes
    ----------
    name
        Its file, or its number.
    label
        Name of its class, None if unlabelled.
    width, height
        Columns and rows as they are stored.
    mode
        How pixels are stored, in Pillow's words ("L", "RGB", "P", "I;16", ...).
    digest
        Hash of its pixels and shape; equal for copies.
    blank
        Whether all its pixels are alike.
    """

    name: str
    label: str | None
    width: int
    height: int
    mode: str
    digest: bytes
    blank: bool


@dataclass(frozen=True)
class SeenPart:
    """What was noted of one part of the data, such as the training strips.

    Attributes
    ----------
    name
        The part.
    classes
        Names of its classes, those without strips too.
    strips
        All that could be read.
    unreadable
        Name of each of the others, and the reason.
    notes
        What else is wrong, in plain words.
    """

    name: str
    classes: Sequence[str]
    strips: list[SeenStrip] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PartReport:
    """One part of the data.

    Attributes
    ----------
    name
        The part.
    strips
        How many could be read.
    classes
        Strips of each class.
    unlabelled
        Strips without a class.
    imbalance
        Strips in the largest class over strips in the smallest that has any; None without classes.
    width_percentiles
        Columns as they are stored, at each of `PERCENTILES`; empty without strips.
    width_counts
        Strips between the report's `width_edges`.
    heights, modes
        Strips of each height in rows, and in each of Pillow's modes.
    copies
        Strips that are copies of another one in this part.
    blank
        Names of strips whose pixels are all alike.
    unreadable
        Name and reason of each file that can't be read.
    """

    name: str
    strips: int
    classes: dict[str, int]
    unlabelled: int
    imbalance: float | None
    width_percentiles: dict[int, float]
    width_counts: tuple[int, ...]
    heights: dict[int, int]
    modes: dict[str, int]
    copies: int
    blank: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Copy:
    """A strip that has copies: its part, name and label."""

    part: str
    name: str
    label: str | None


@dataclass(frozen=True)
class DatasetReport:
    """What a set of strips is like, as `inspect_dataset` and `inspect_source` find it.

    Attributes
    ----------
    parts
        Each part.
    width_edges
        Borders in columns between which each part's `width_counts` were counted.
    copies
        Groups of strips with exactly the same pixels.
    shared
        Two parts and how many different strips are in both, where there are any.
    contradictions
        Those of the `copies` that have different labels.
    warnings
        What should be looked at, in plain words; empty if nothing.
    """

    parts: tuple[PartReport, ...]
    width_edges: tuple[float, ...]
    copies: tuple[tuple[Copy, ...], ...]
    shared: tuple[tuple[str, str, int], ...]
    contradictions: tuple[tuple[Copy, ...], ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Put the report into types that `json.dumps` takes."""
        return asdict(self)


def make_report(parts: Sequence[SeenPart]) -> DatasetReport:
    """Put together what was seen of each part, the training part first."""
    copies = _groups_of_copies(parts)
    edges = _width_edges([strip.width for part in parts for strip in part.strips])
    reports = tuple(_report_part(part, edges, copies) for part in parts)
    shared = tuple(
        (first.name, second.name, count)
        for first, second in combinations(parts, 2)
        if (count := len(_in_both(copies, first.name, second.name)))
    )
    contradictions = tuple(
        group for group in copies if len({copy.label for copy in group} - {None}) > 1
    )
    return DatasetReport(
        parts=reports,
        width_edges=edges,
        copies=copies,
        shared=shared,
        contradictions=contradictions,
        warnings=tuple(_warnings(parts, reports, copies, contradictions)),
    )


def _groups_of_copies(parts: Sequence[SeenPart]) -> tuple[tuple[Copy, ...], ...]:
    groups: dict[bytes, list[Copy]] = {}
    for part in parts:
        for strip in part.strips:
            groups.setdefault(strip.digest, []).append(Copy(part.name, strip.name, strip.label))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _in_both(copies: Copies, first: str, second: str) -> list[tuple[Copy, ...]]:
    return [group for group in copies if {first, second} <= {copy.part for copy in group}]


def _width_edges(widths: Sequence[int]) -> tuple[float, ...]:
    """Borders of bins of equal size, each for whole numbers of columns if there are few."""
    if not widths:
        return ()
    least, most = min(widths), max(widths) + 1
    return tuple(np.linspace(least, most, min(_BINS, most - least) + 1).tolist())


def _report_part(part: SeenPart, edges: tuple[float, ...], copies: Copies) -> PartReport:
    found = Counter(strip.label for strip in part.strips if strip.label is not None)
    widths = [strip.width for strip in part.strips]
    percentiles = np.percentile(widths, PERCENTILES).tolist() if widths else []
    in_groups = [sum(copy.part == part.name for copy in group) for group in copies]
    return PartReport(
        name=part.name,
        strips=len(part.strips),
        classes={name: found[name] for name in part.classes},
        unlabelled=len(part.strips) - found.total(),
        imbalance=max(found.values()) / min(found.values()) if found else None,
        width_percentiles=dict(zip(PERCENTILES, percentiles, strict=False)),
        width_counts=tuple(np.histogram(widths, edges)[0].tolist()) if edges else (),
        heights=dict(sorted(Counter(strip.height for strip in part.strips).items())),
        modes=dict(sorted(Counter(strip.mode for strip in part.strips).items())),
        copies=sum(max(0, count - 1) for count in in_groups),
        blank=tuple(strip.name for strip in part.strips if strip.blank),
        unreadable=tuple(part.unreadable),
    )


def _warnings(
    seen: Sequence[SeenPart], parts: Sequence[PartReport], copies: Copies, contradictions: Copies
) -> Iterator[str]:
    for noted, part in zip(seen, parts, strict=True):
        yield from noted.notes
        yield from _warnings_of_strips(part, copies)
        yield from _warnings_of_classes(part)
    for other in parts[1:]:
        yield from _warnings_of_other_classes(parts[0], other)
    for first, second in combinations([part.name for part in parts], 2):
        if both := _in_both(copies, first, second):
            names = [next(c.name for c in both[0] if c.part == part) for part in (first, second)]
            yield (
                f"{_are(len(both), 'strip')} in both {first} and {second}, "
                f"for instance {' and '.join(names)}"
            )
    if contradictions:
        one, *others = (copy for copy in contradictions[0] if copy.label is not None)
        two = next(copy for copy in others if copy.label != one.label)
        count = counted(len(contradictions), "strip")
        yield (
            f"{count} with copies under another label, for instance {one.name} ({one.label!r}) "
            f"and {two.name} ({two.label!r})"
        )


def _warnings_of_strips(part: PartReport, copies: Copies) -> Iterator[str]:
    if part.unreadable:
        name, reason = part.unreadable[0]
        count = counted(len(part.unreadable), "file")
        yield f"{count} in {part.name} can't be read, for instance {name}: {reason}"
    if part.blank:
        examples = ", ".join(part.blank[:_EXAMPLES])
        count = _are(len(part.blank), "strip")
        yield f"{count} blank (all pixels alike) in {part.name}, for instance {examples}"
    if part.copies:
        groups = ([copy.name for copy in group if copy.part == part.name] for group in copies)
        first, second, *_ = next(group for group in groups if len(group) > 1)
        what = "is a copy of another" if part.copies == 1 else "are copies of others"
        yield (
            f"{counted(part.copies, 'strip')} {what} in {part.name}, for instance {second} of "
            f"{first}"
        )


def _warnings_of_classes(part: PartReport) -> Iterator[str]:
    empty = [name for name, count in part.classes.items() if not count]
    single = [name for name, count in part.classes.items() if count == 1]
    if empty:
        yield f"{_classes(empty)} no strips in {part.name}"
    if single:
        yield f"{_classes(single)} 1 strip in {part.name}"
    some = {name: count for name, count in part.classes.items() if count}
    if len(some) == 1:
        yield f"all labelled strips in {part.name} are of one class, {next(iter(some))!r}"
    if part.imbalance is not None and part.imbalance > _IMBALANCED:
        least, most = min(some, key=some.__getitem__), max(some, key=some.__getitem__)
        yield (
            f"class {most!r} has {part.imbalance:.0f} times as many strips in {part.name} as "
            f"{least!r} ({some[most]:,} and {some[least]:,})"
        )


def _warnings_of_other_classes(first: PartReport, other: PartReport) -> Iterator[str]:
    ours, theirs = ({n for n, count in p.classes.items() if count} for p in (first, other))
    if not ours or not theirs:  # a part without any label
        return
    for names, there, missing in ((theirs - ours, other, first), (ours - theirs, first, other)):
        if names:
            yield f"{_classes(sorted(names))} strips in {there.name}, but none in {missing.name}"


def _are(count: int, noun: str) -> str:
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"


def _classes(names: Sequence[str]) -> str:
    return f"class {names[0]!r} has" if len(names) == 1 else f"classes {listed(names)} have"
