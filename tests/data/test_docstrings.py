import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fastrnn.data

MODULES = [f"fastrnn.data.{module.name}" for module in pkgutil.iter_modules(fastrnn.data.__path__)]

OPTIONAL = {"fastrnn.data.video": ("av", "video")}  # what the examples need, and its extra


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    if name in OPTIONAL:
        package, extra = OPTIONAL[name]
        pytest.importorskip(package, reason=f"needs pip install 'fastrnn[{extra}]'")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_loads_neither_pillow_nor_pyav_nor_scipy_nor_scikit_learn():
    optional = {"PIL", "av", "scipy", "sklearn"}
    program = f"import sys, fastrnn.data; print({optional} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
