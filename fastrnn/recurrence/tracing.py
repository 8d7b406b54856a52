"""What torch's compiler must not look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def constant_while_tracing(function: _Function) -> _Function:
    """Let torch's compiler call a function while it traces, and take the result as it is.

    The same as `torch.compiler.assume_constant_result`, which imports the whole compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
