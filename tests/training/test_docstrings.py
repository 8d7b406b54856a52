import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fastrnn.training

MODULES = [
    f"fastrnn.training.{module.name}" for module in pkgutil.iter_modules(fastrnn.training.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_loads_neither_rich_nor_scikit_learn() -> None:
    program = "import sys, fastrnn.training; print({'rich', 'sklearn'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
