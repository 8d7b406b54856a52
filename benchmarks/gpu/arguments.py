"""The command's options; all that can be wrong with them is found before any work."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path

from .build import fault_of
from .exit_codes import HELP
from .settings import REPORT, STAGES, Settings

MERGING = """
Runs with the same --output add up there. To add a run from elsewhere, put its folder gpu_run into
the place of OUTPUT/gpu_run, then: python -m benchmarks.gpu --stages report --output OUTPUT
"""


def parse(argv: Sequence[str] | None) -> tuple[Settings, bool]:
    """The settings, and whether only the plan was asked for; a wrong option ends the process."""
    parser = _parser()
    given = parser.parse_args(argv)
    settings = Settings(
        stages=tuple(given.stages.split(",")),
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
    if fault := fault_in(settings):
        parser.error(fault)
    return settings, given.dry_run


def fault_in(settings: Settings) -> str:
    """What is wrong with the options, and what they should be; empty if nothing is."""
    s = settings
    unknown = [stage for stage in s.stages if stage not in STAGES]
    if unknown and s.stages != (REPORT,):
        return f"--stages has {unknown[0]!r}; it should be some of {', '.join(STAGES)}"
    if not (s.minutes > 0 and math.isfinite(s.minutes)):
        return f"--minutes is {s.minutes}; it should be a positive number"
    nearest = next(path for path in (s.output, *s.output.parents) if path.exists())
    if not nearest.is_dir():
        return f"--output is {str(s.output)!r}; it should be a folder, and {nearest} is a file"
    if s.workers < 0:
        return f"--workers is {s.workers}; it should be positive, or 0 for as many as fit"
    try:
        re.compile(s.pattern)
    except re.error as error:
        return f"--filter is {s.pattern!r}; it should be a regular expression ({error})"
    if s.plugin and not Path(s.plugin).is_file():
        return f"--plugin is {s.plugin!r}; it should be a Python file, and there is none"
    wrong = [define for define in s.defines if not re.match(r"[A-Za-z_]\w*=", define)]
    if wrong:
        return f"--define is {wrong[0]!r}; it should be like NAME=VALUE"
    return _fault_in_backends(s) or (fault_of(s.site) if "build" in s.stages else "")


def _fault_in_backends(settings: Settings) -> str:
    if not settings.backends or settings.plugin:  # what a plugin adds is known to workers only
        return ""
    try:
        from fastrnn.recurrence.dispatch import BACKENDS
    except Exception:  # a broken package may raise anything; the workers will tell
        return ""
    kind = settings.device
    known = [b.name for b in BACKENDS if b.devices is None or kind in b.devices]
    unknown = [name for name in settings.backends if name not in known]
    if unknown:
        return f"--backends has {unknown[0]!r}; it should be some of {', '.join(known)}"
    return ""


def _parser() -> argparse.ArgumentParser:
    usual = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Build, check, measure and profile on this machine's GPU.",
        epilog=HELP + MERGING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--stages", default=",".join(STAGES), help="some of %(default)s, or report alone")
    add("--minutes", type=float, default=usual.minutes, help="for all stages (%(default)s)")
    add("--output", type=Path, default=usual.output, help="folder for results and logs")
    add("--site", type=Path, default=usual.site, help="folder for the built package; is emptied")
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
    return parser
