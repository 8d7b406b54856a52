"""Settings for all tests."""

import os
import tempfile

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
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
