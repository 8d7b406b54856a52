"""The backends: one file each, one protocol."""

from fastrnn.recurrence.backends.base import Backend
from fastrnn.recurrence.backends.cpu import CpuBackend
from fastrnn.recurrence.backends.cuda import CudaBackend
from fastrnn.recurrence.backends.cudnn import CudnnBackend
from fastrnn.recurrence.backends.eager import EagerBackend
from fastrnn.recurrence.backends.triton import TritonBackend

__all__ = ["Backend", "CpuBackend", "CudaBackend", "CudnnBackend", "EagerBackend", "TritonBackend"]
