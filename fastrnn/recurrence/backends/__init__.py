"""The backends: one file each, one protocol."""

from fastrnn.recurrence.backends.base import Backend
from fastrnn.recurrence.backends.cpu import CpuBackend
from fastrnn.recurrence.backends.eager import EagerBackend

__all__ = ["Backend", "CpuBackend", "EagerBackend"]
