import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fastrnn.models

MODULES = [
    module.name for module in pkgutil.walk_packages(fastrnn.models.__path__, "fastrnn.models.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_modules_of_packages_inside_are_among_them():
    assert "fastrnn.models.encoders.fusion" in MODULES


def test_importing_loads_nothing_beyond_torch_and_numpy():
    program = (
        "import sys, fastrnn.models; "
        "print({'safetensors', 'PIL', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
