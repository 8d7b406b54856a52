import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fastrnn.models

MODULES = [
    f"fastrnn.models.{module.name}" for module in pkgutil.iter_modules(fastrnn.models.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_loads_nothing_beyond_torch_and_numpy():
    program = (
        "import sys, fastrnn.models; "
        "print({'safetensors', 'PIL', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
