"""Examples in docstrings, also of the packages inside, run."""

import doctest
import importlib
import pkgutil

import pytest

import fastrnn.recurrence

MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastrnn.recurrence.__path__, "fastrnn.recurrence.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    if ".triton_kernels" in name:
        pytest.importorskip("triton", reason="needs pip install 'fastrnn[gpu]'")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_modules_of_packages_inside_are_among_them() -> None:
    assert "fastrnn.recurrence.triton_kernels.config" in MODULES
