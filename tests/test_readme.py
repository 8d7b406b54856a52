"""The README says what the stored results say, and its code runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_its_tables_are_those_of_the_stored_results() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.report", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_its_code_is_found() -> None:
    assert len(BLOCKS) == README.count("```python") >= 3


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_its_code_runs_as_it_stands(number: int, tmp_path: Path) -> None:
    block = BLOCKS[number]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A comment behind a print that ends a line says what it prints.
    for shown in re.findall(r"^print\(.*\)  # (torch\.Size.*)$", block, re.MULTILINE):
        assert shown in done.stdout.splitlines()
