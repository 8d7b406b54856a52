import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fastrnn.deploy

MODULES = [
    f"fastrnn.deploy.{module.name}" for module in pkgutil.iter_modules(fastrnn.deploy.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_loads_no_library_that_reads_files() -> None:
    optional = {"PIL", "av", "scipy", "sklearn"}
    program = f"import sys, fastrnn.deploy; print({optional} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
