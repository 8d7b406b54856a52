"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# `pytest --hypothesis-profile=thorough` is the long search; the default is for every day.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("default", max_examples=50, **_common)
settings.register_profile("thorough", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
