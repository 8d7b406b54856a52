"""How a record ends: our failures make the run fail, torch's own are shown only."""

from __future__ import annotations

from collections.abc import Callable

from .results import BASELINES
from .worker import Context, Record, describe_error

# No failure of the code under test, so that a run which has nothing worse does not fail.
BASELINE_FAILED = "baseline failed"
BAD = frozenset({"wrong", "error", "crashed"})


def of_errors(errors: list[str]) -> Record:
    """Status and texts of what is wrong; nothing where all is right."""
    return {"status": "wrong", "errors": sorted(set(errors))} if errors else {}


def of_peers(found: dict[str, Record]) -> Record:
    """Status of a measurement by those of its peers, all failures told.

    Where `auto` had chosen a baseline, its failure is that of the baseline.
    """
    bad = {name: record for name, record in found.items() if record["status"] in BAD}
    if not bad:
        return {"status": "ok"}
    ours = {n: r for n, r in bad.items() if r.get("chosen", n) not in BASELINES}
    texts = [
        f"{name}: {text}"
        for name, record in {**ours, **bad}.items()
        for text in record.get("errors", [record.get("error", "")])
    ]
    statuses = {record["status"] for record in ours.values()}
    kind = "wrong" if "wrong" in statuses else "error" if ours else BASELINE_FAILED
    return {"status": kind, "errors": texts}


def of_baseline(call: Callable[[], Record], context: Context) -> Record:
    """A record of what torch's own library did, whose failures are its own."""
    try:
        record = call()
    except Exception as error:
        if not context.device.healthy():
            raise
        record = {"status": "error", **describe_error(error)}
    return {**record, "status": BASELINE_FAILED} if record.get("status") in BAD else record
