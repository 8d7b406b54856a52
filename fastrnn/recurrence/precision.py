"""Float32 arithmetic on a GPU: TF32 where torch's setting for RNNs allows it, exact elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_HAS_PRECISION_SETTINGS = hasattr(torch.backends, "fp32_precision")  # since torch 2.9


def rnn_allows_tf32() -> bool:
    """Whether torch lets its own RNNs round float32 operands to TF32 (it does by default).

    The setting is ``torch.backends.cudnn.rnn.fp32_precision``, before torch 2.9
    ``torch.backends.cudnn.allow_tf32``.
    """
    if _HAS_PRECISION_SETTINGS:
        return bool(torch.backends.cudnn.rnn.fp32_precision == "tf32")  # type: ignore[attr-defined]
    return bool(torch.backends.cudnn.allow_tf32)


class _MatmulSetting:
    """Torch's process-wide setting for float32 products, lent to one kind of caller at a time.

    Threads that want the same value hold it together: the first sets it, the last restores it. A
    setting that agrees already is left alone. While it is changed, products of other threads on
    the GPU follow it, and its older form, ``allow_tf32``, cannot be read: torch refuses where the
    two contradict each other.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._holders = 0
        self._held: bool | None = None
        self._restore: Callable[[], None] = _nothing

    def acquire(self, allow_tf32: bool) -> None:
        with self._condition:
            while self._holders and self._held != allow_tf32:
                self._condition.wait()
            if self._holders == 0:
                self._restore = _set_matmul_precision(allow_tf32)
                self._held = allow_tf32
            self._holders += 1

    def release(self) -> None:
        with self._condition:
            self._holders -= 1
            if self._holders == 0:
                self._restore()
                self._condition.notify_all()


def _nothing() -> None:
    return None


def _set_matmul_precision(allow_tf32: bool) -> Callable[[], None]:
    """Set how products round; returns what sets it back."""
    matmul = torch.backends.cuda.matmul
    if not _HAS_PRECISION_SETTINGS:
        allowed_before = matmul.allow_tf32
        matmul.allow_tf32 = allow_tf32
        return lambda: setattr(matmul, "allow_tf32", allowed_before)
    before = matmul.fp32_precision
    if (before == "tf32") == allow_tf32:
        return _nothing
    matmul.fp32_precision = "tf32" if allow_tf32 else "ieee"

    def restore() -> None:
        # What is read may be inherited; set explicitly, it would no longer follow its origin. Torch
        # does not tell: a setting that equals its origin is taken for inherited.
        inherited = torch.backends.cudnn.fp32_precision
        matmul.fp32_precision = "none" if before == inherited else before

    return restore


_matmul_setting = _MatmulSetting()


@contextmanager
def matmul_precision(*, allow_tf32: bool) -> Iterator[None]:
    """Run torch's float32 products on the GPU with TF32, or exactly.

    Torch has one setting for its RNNs and another for its products; the products of an LSTM layer
    follow that for RNNs, as they do in cuDNN.
    """
    _matmul_setting.acquire(allow_tf32)
    try:
        yield
    finally:
        _matmul_setting.release()
