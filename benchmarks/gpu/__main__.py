"""The command line: ``python -m benchmarks.gpu --help``."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from . import auto_decisions, results, stored
from .arguments import parse
from .exit_codes import FAILURE, INCOMPLETE, NO_DEVICE, SUCCESS
from .grid import BEHAVIOURS, PRECISIONS, all_cases
from .plan import all_cells, within_budget
from .report import markdown
from .run import Run
from .settings import REPORT, Settings
from .stages import run_stages
from .summary import summary

TAIL_CHARACTERS = 1500
PLAN_LINES = 60
# Torch, cuda, triton, cudnn and auto, where nobody has asked yet.
USUAL_PEERS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages; the exit codes are those of `--help`."""
    settings, dry_run = parse(argv)
    if dry_run:
        show(plan(settings))
        return 0
    if settings.stages == (REPORT,):
        return report_of_last_run(settings)
    if settings.device == "cuda" and settings.stages != ("build",) and (why := no_device()):
        show(f"no CUDA device: {why}")
        return NO_DEVICE
    signal.signal(signal.SIGTERM, _stop)
    run = Run(settings, show)
    try:
        run_stages(run)
    except BaseException as error:  # also a full disk: the records are in memory
        show(f"stopped by {error!r}: what was found so far is reported")
        report(run.records, settings)
        return FAILURE
    finally:
        run.close()
    return report(run.records, settings)


def report_of_last_run(settings: Settings) -> int:
    """Report what a run, perhaps a killed one, left in its stream."""
    records = results.read_lines(settings.lines)
    if not records:
        show(f"there is nothing to report: {settings.lines} is missing or holds no records")
        return FAILURE
    return report(records, settings)


def report(records: list[results.Record], settings: Settings) -> int:
    """Print the summary, store JSON and Markdown; returns the exit code."""
    document = results.collect(records)
    show(summary(document))
    for texts in document["incomplete"].values():
        for text in texts:
            show(f"INCOMPLETE: {text}")
    failed = bool(document["failures"])
    if document["device"] == results.UNKNOWN_DEVICE:
        show("nothing is stored: nobody answered which device this is")
    else:
        try:
            _store(document, records, settings)
        except Exception:  # the records are safe in their stream
            show(f"this could not be stored:\n{traceback.format_exc()[-TAIL_CHARACTERS:]}")
            failed = True
    show(f"records in {settings.lines}, output of the workers in {settings.workers_log}")
    if failed:
        return FAILURE
    return INCOMPLETE if document["incomplete"] else SUCCESS


def _store(document: results.Document, records: list[results.Record], settings: Settings) -> None:
    path, merged = stored.store(document, records, settings.output, show)
    stored.write(path.with_suffix(".md"), markdown(merged))
    show(f"{path}, {path.with_suffix('.md').name}")
    source = settings.decisions / "decisions.json"
    why = auto_decisions.why_not(document)
    if source.exists() and why:
        show(f"decisions of this run are not stored: {why}")
    elif source.exists():
        decided, count = auto_decisions.store(source, document, merged, settings.output)
        show(f"{decided.name} now holds {count} decisions")
    if gone := auto_decisions.prune(document, merged, settings.output):
        show(f"{gone} stored decisions are gone: their winner failed")


def no_device() -> str:
    """Why there is no GPU to run on; empty if there is one."""
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    return "torch finds none; `nvidia-smi` tells what the driver sees"


def plan(settings: Settings) -> str:
    """What would run: the grid's size, and the cells in their order with estimated seconds."""
    cases = all_cases(settings.seed)
    cells = [cell for cell in all_cells() if re.search(settings.pattern, cell.name)]
    chosen = within_budget(cells, settings.minutes * 60, USUAL_PEERS)
    lines = [
        f"stages: {', '.join(settings.stages)}; {settings.minutes:g} minutes",
        f"check: {len(cases)} cases per backend, and {len(BEHAVIOURS)} behaviours in "
        f"{', '.join(PRECISIONS)}",
        f"speed: {len(cells)} cells, of which about {len(chosen)} fit into the time if it is the "
        f"only stage; with {USUAL_PEERS} peers:",
    ]
    total = 0.0
    for number, cell in enumerate(chosen[:PLAN_LINES], start=1):
        seconds = cell.seconds(USUAL_PEERS)
        total += seconds
        lines.append(f"{number:4} {cell.name}: {seconds:.1f} s, {total:.0f} s in all")
    if len(chosen) > PLAN_LINES:
        lines.append(f"and {len(chosen) - PLAN_LINES} more")
    return "\n".join(lines)


def show(text: str) -> None:
    """Print at once: the output may be cut off at any time."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more; what is found is stored all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(signum: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
