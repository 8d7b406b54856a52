"""The command line: ``python -m benchmarks.gpu --help``."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import results
from .grid import BEHAVIOURS, PRECISIONS, all_cases
from .plan import all_cells, within_budget
from .report import markdown
from .run import Run
from .settings import REPORT, STAGES, Settings
from .stages import run_stages
from .summary import summary

NO_DEVICE = 2
PLAN_LINES = 60
# Torch, cudnn, triton and cuda, where nobody has asked yet.
USUAL_PEERS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages; 0 if nothing failed, 1 if something did, 2 without a GPU."""
    settings = parse(argv)
    if settings is None:
        return 0
    if settings.stages == (REPORT,):
        return report(results.read_lines(settings.lines), settings)
    if settings.device == "cuda" and settings.stages != ("build",) and (why := no_device()):
        show(f"no CUDA device: {why}")
        return NO_DEVICE
    signal.signal(signal.SIGTERM, _stop)
    run = Run(settings, show)
    try:
        run_stages(run)
    except (KeyboardInterrupt, SystemExit):
        show("stopped: what was found so far is reported")
        return max(1, report(run.records, settings))
    finally:
        run.close()
    return report(run.records, settings)


def report(records: list[results.Record], settings: Settings) -> int:
    """Store JSON and Markdown, print the summary; returns the exit code."""
    document = results.collect(records)
    if document["device"] != results.UNKNOWN_DEVICE:
        path = results.store(document, settings.output)
        merged = json.loads(path.read_text())
        results.write(path.with_suffix(".md"), markdown(merged))
        decided = settings.decisions("speed") / "decisions.json"
        results.store_decisions(decided, document["device"], settings.output)
        show(f"{path}, {path.with_suffix('.md').name}; records in {settings.lines}")
    show(summary(document))
    return 1 if document["failures"] else 0


def no_device() -> str:
    """Why there is no GPU to run on; empty if there is one."""
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    return "torch finds none; `nvidia-smi` tells what the driver sees"


def parse(argv: Sequence[str] | None) -> Settings | None:
    """The settings, or None if only the plan was asked for, which is printed."""
    usual = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Build, check, measure and profile on this machine's GPU.",
    )
    add = parser.add_argument
    add("--stages", default=",".join(STAGES), help="some of %(default)s, or report alone")
    add("--minutes", type=float, default=usual.minutes, help="for all stages (%(default)s)")
    add("--output", type=Path, default=usual.output, help="folder for results and logs")
    add("--site", type=Path, default=usual.site, help="folder for the built package")
    add("--backends", default="", help="only these, by name, with commas")
    add("--filter", default="", metavar="REGEX", help="only cases and cells whose names match")
    add("--seed", type=int, default=0, help="of the grid's shapes and numbers (%(default)s)")
    add("--commit", default="", help="what to store where there is no git to tell")
    add("--workers", type=int, default=0, help="processes that check at once")
    add("--define", action="append", default=[], metavar="NAME=VALUE", help="for CMake")
    add("--plugin", default="", metavar="FILE", help="Python file that adds backends to try out")
    add("--dry-run", action="store_true", help="print what would run, in which order")
    add("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    add("--self-test", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    stages = tuple(given.stages.split(","))
    if stages != (REPORT,) and (unknown := [stage for stage in stages if stage not in STAGES]):
        parser.error(f"--stages has {unknown[0]!r}; it should be some of {', '.join(STAGES)}")
    if given.minutes <= 0:
        parser.error(f"--minutes is {given.minutes}; it should be positive")
    try:
        re.compile(given.filter)
    except re.error as error:
        parser.error(f"--filter is {given.filter!r}; it should be a regular expression ({error})")
    settings = Settings(
        stages=stages,
        minutes=given.minutes,
        output=given.output.absolute(),
        site=given.site.absolute(),
        backends=tuple(name for name in given.backends.split(",") if name),
        pattern=given.filter,
        seed=given.seed,
        commit=given.commit,
        workers=given.workers,
        defines=tuple(given.define),
        plugin=str(Path(given.plugin).absolute()) if given.plugin else "",
        device=given.device,
        self_test=given.self_test,
    )
    if given.dry_run:
        show(plan(settings))
        return None
    return settings


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
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _stop(signum: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
