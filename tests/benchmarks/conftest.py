"""The benchmarks are run from a checkout, not installed: they are found beside the tests."""

import sys
from pathlib import Path

# Last, so that an installed fastrnn stays the one that is tested.
sys.path.append(str(Path(__file__).parent.parent.parent))
