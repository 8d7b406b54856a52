"""Settings for all tests."""

import os
import tempfile
from pathlib import Path

# Several test processes have more threads than there are cores: a thread that waits for the others
# must leave its core to them, not spin. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from hypothesis import HealthCheck, settings

# With a GPU, what `auto` decides during tests is not for later use.
_cache = tempfile.TemporaryDirectory(prefix="fastrnn-tests-")
os.environ["FASTRNN_CACHE_DIR"] = _cache.name

# Without a GPU, Triton's kernels run in its interpreter. It is chosen when a kernel is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# `pytest --hypothesis-profile=thorough` is the long search; the default is for every day.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("default", max_examples=50, **_common)
settings.register_profile("thorough", max_examples=2000, **_common)
settings.load_profile(profile := os.environ.get("HYPOTHESIS_PROFILE", "default"))

THOROUGH = profile == "thorough"
"""Whether grids are gone through in full, and checks are done again that have passed."""

# Files that take longest, the longest first: begun last, one would keep one process busy at the end
# while the others have nothing left to do.
LONG_FILES = (
    "recurrence/test_backends.py",
    "native/test_sanitizers.py",
)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # by how many tests a file has: see below
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hand out the longest files first."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
