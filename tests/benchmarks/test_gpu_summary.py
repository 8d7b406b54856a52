"""The summary says of each target whether the measured cells meet it, and names what does not."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.gpu import results
from benchmarks.gpu.plan import Cell
from benchmarks.gpu.summary import LINE, MAX_CHARACTERS, MAX_FAILURE_CHARACTERS, summary
from benchmarks.gpu.targets import LEAST_OF_AUTO, verdicts
from fastrnn.recurrence import trial

CELL = Cell(84, 64, 32, 1024, "fp16", packed=False, training=True)
PACKED = replace(CELL, packed=True)


def measured(cell: Cell, *, auto_mb: float = 8.0, **ratios: float) -> dict[str, Any]:
    """A cell's record; torch takes 10 MB."""
    peers: dict[str, Any] = {"torch": {"status": "ok", "us_per_step": 1.0, "peak_mb": 10.0}}
    for name, ratio in ratios.items():
        spread = {"p20": ratio, "p50": ratio, "p80": ratio}
        peers[name] = {"status": "ok", "ratio": spread, "peak_mb": 8.0}
    if "auto" in peers:
        peers["auto"] |= {"chosen": "triton", "peak_mb": auto_mb}
    return {"peers": peers, "cell": vars(cell)}


def lines(*records: dict[str, Any]) -> dict[str, str]:
    """What is said, by what it is said of."""
    said = verdicts({str(number): record for number, record in enumerate(records)})
    pairs = [line.rsplit(": ", 1) for line in said if ": " in line]
    return dict(pairs)


def said_of(found: dict[str, str], *words: str) -> str:
    (text,) = [text for start, text in found.items() if all(word in start for word in words)]
    return text


INFERENCE = replace(CELL, training=False)


@pytest.mark.parametrize(
    ("cell", "peers", "target"),
    [
        (CELL, ("cuda", "triton", "auto"), 3.0),
        (INFERENCE, ("triton",), 3.0),
        (INFERENCE, ("cuda", "auto"), 4.0),
        (PACKED, ("cuda", "triton", "auto"), 20.0),
        (replace(PACKED, training=False), ("cuda", "triton", "auto"), 20.0),
    ],
)
@pytest.mark.parametrize(("off", "expected"), [(0.01, "met"), (-0.01, "missed")])
def test_a_mean_is_held_to_the_target_of_its_mode(
    cell: Cell, peers: tuple[str, ...], target: float, off: float, expected: str
) -> None:
    ratio = target + off
    for peer in peers:
        found = lines(measured(cell, **{peer: ratio}))
        text = said_of(found, f"{peer}, {cell.mode}, H <= 128", f": {target:g} times as fast")
        assert text == f"{expected}, {ratio:.2f} in the mean of 1 cells, {ratio:.2f} at least"
        other = replace(cell, packed=not cell.packed)
        assert said_of(found, f"{peer}, {other.mode}") == "no cell measured"


def test_every_step_of_the_cuda_kernels_is_held_to_its_target() -> None:
    slow = replace(PACKED, training=False, batch_size=256)
    records = [measured(INFERENCE, cuda=9.0), measured(slow, cuda=30.0)]
    records += [measured(replace(INFERENCE, batch_size=1024), cuda=9.0), measured(CELL, cuda=9.0)]
    for record, us in zip(records, (0.6, 0.61, 5.0, 5.0), strict=True):
        record["peers"]["cuda"]["us_per_step"] = us
    said = verdicts({str(number): record for number, record in enumerate(records)})
    at = next(n for n, line in enumerate(said) if "µs per step" in line)
    assert said[at].endswith("at most 0.6 µs per step: missed, 1 of 2 cells above")
    assert said[at + 1] == f"    0.61 µs at {slow.name}"
    met = said_of(lines(records[0]), "µs per step")
    assert met == "met, 0 of 1 cells above"


def test_the_mean_is_geometric_and_of_small_layers_only() -> None:
    large = [replace(CELL, hidden_size=256), replace(CELL, batch_size=1024)]
    records = [measured(CELL, triton=2.0), measured(replace(CELL, input_size=3), triton=8.0)]
    found = lines(*records, *(measured(cell, triton=100.0) for cell in large))
    text = said_of(found, "triton, padded, forward+backward")
    assert text == "met, 4.00 in the mean of 2 cells, 2.00 at least"


def test_cells_where_auto_is_slower_than_torch_are_named() -> None:
    slow = replace(CELL, hidden_size=1024)
    said = verdicts({"a": measured(CELL, auto=5.0), "b": measured(slow, auto=0.9)})
    at = next(n for n, line in enumerate(said) if line.startswith("auto as fast as torch"))
    assert said[at].endswith("missed, 1 of 2 cells below")
    assert said[at + 1] == f"    0.90 at {slow.name} (triton)"
    noise = 1.0 - trial.MARGIN  # the same kernels twice
    assert noise == pytest.approx(LEAST_OF_AUTO)
    assert said_of(lines(measured(CELL, auto=noise)), "auto as fast") == "met, 0 of 1 cells below"
    text = said_of(lines(measured(CELL, auto=noise - 0.01)), "auto as fast")
    assert text == "missed, 1 of 1 cells below"


def test_the_worst_peak_of_memory_is_named() -> None:
    worse = replace(CELL, batch_size=256)
    inference = replace(CELL, training=False)
    records = [
        measured(CELL, auto=1.0, auto_mb=10.0),
        measured(worse, auto=1.0, auto_mb=25.0),
        measured(inference, auto=1.0, auto_mb=99.0),
    ]
    said = verdicts(dict(enumerate(records)))  # type: ignore[arg-type]
    at = next(n for n, line in enumerate(said) if line.startswith("auto takes no more than"))
    assert said[at].endswith("missed, 1 of 2 cells above")
    assert said[at + 1] == f"    at most 2.50 times as much (25 for 10 MB) at {worse.name}"
    assert said_of(lines(records[0]), "auto takes no more than") == "met, 0 of 1 cells above"


def test_the_cuda_kernels_take_half_of_torchs_memory() -> None:
    record = measured(CELL, cuda=3.0)
    for megabytes, expected in (
        (5.0, "met, 0 of 1 cells above"),
        (5.1, "missed, 1 of 1 cells above"),
    ):
        record["peers"]["cuda"]["peak_mb"] = megabytes
        assert said_of(lines(record), "cuda takes at most 0.5 times torch's memory") == expected


def test_memory_that_runs_out_where_torch_has_enough_misses_the_target() -> None:
    record = measured(CELL, auto=1.0, triton=1.0)
    record["peers"]["triton"] = {"status": "out of memory", "reason": "CUDA out of memory"}
    said = verdicts({"a": record, "b": measured(PACKED, triton=1.0)})
    at = next(n for n, line in enumerate(said) if line.startswith("triton takes no more than"))
    assert said[at].endswith("missed, 1 of 2 cells above")
    assert f"    out of memory, with 10 MB for torch, at {CELL.name}" in said[at:]


def test_cells_make_room_for_failures_line_by_line_and_the_check_stays_whole() -> None:
    checks = [
        {
            "kind": "case",
            "name": f"b{n}, x",
            "status": "error",
            "params": {"backend": f"b{n}", "precision": "fp16"},
            "error": f"kind{chr(97 + n)} " + "word " * 90,
        }
        for n in range(26)
    ]
    cells = [
        {"kind": "cell", "name": f"{n} {CELL.name} {'x' * 80}", "status": "ok"}
        | measured(replace(CELL, input_size=n + 1), auto=0.5, triton=0.5)
        for n in range(60)
    ]
    text = summary(results.collect([*checks, *cells]))
    assert len(text) <= MAX_CHARACTERS
    shown = text.splitlines()
    assert [line for line in shown if line.startswith("check b")] == [
        f"check b{n:<6} fp16: 1 error" for n in range(26)
    ]
    assert "(more cells are in the Markdown file)" in shown
    assert len(text[text.index("26 failures") :]) < MAX_FAILURE_CHARACTERS + LINE
    assert shown[-1].endswith("more kinds, which the Markdown file tells")


def test_the_targets_stand_in_the_summary_uncut() -> None:
    cell = Cell(128, 1024, 1024, 8192, "tf32", packed=False, training=True)
    record = {"kind": "cell", "name": cell.name, "status": "ok", **measured(cell, auto=0.5)}
    document = results.collect([record])
    said = verdicts(document["cells"])
    assert max(map(len, said)) <= LINE
    assert "\n".join(said) in summary(document)


def test_nothing_is_claimed_without_cells() -> None:
    assert verdicts({}) == []
    assert "targets" not in summary(results.collect([]))
