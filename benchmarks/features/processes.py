"""Layers in child processes; a child's error, or that none comes back, is raised in the parent."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TIMEOUT_S = 20.0


class ChildError(Exception):
    """What a child raised, in words."""


def run_in_child(method: str, layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, and gradients of the parameters by the sum of y's squares, from a child."""
    arrays = _in_child(method, _forward_and_backward, layer, x)
    return [torch.from_numpy(array) for array in arrays]


def changed_in_child(layer: nn.Module) -> None:
    """Let a spawned child double every parameter in place."""
    _in_child("spawn", _double, layer)


def _in_child(method: str, work: Callable[..., Any], *arguments: Any) -> Any:
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, work, arguments))
    child.start()
    sender.close()
    try:
        if not receiver.poll(TIMEOUT_S):
            raise TimeoutError(f"the child gave no answer within {TIMEOUT_S:.0f} s")
        try:
            went_well, answer = receiver.recv()
        except EOFError as error:
            child.join(5)
            raise ChildError(f"the child ended with exit code {child.exitcode}") from error
    finally:
        if child.is_alive():
            child.join(5)
        child.kill()
        child.join()
        receiver.close()
    if not went_well:
        raise ChildError(answer)
    return answer


def _answer(sender: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send((True, work(*arguments)))
    except BaseException as error:  # whatever it is, the parent tells it
        sender.send((False, f"{type(error).__name__}: {error}"))
    sender.close()


def _forward_and_backward(layer: nn.Module, x: Tensor) -> list[np.ndarray]:
    y, (h_n, c_n) = layer(x)
    y.square().sum().backward()
    tensors = [y, h_n, c_n, *(p.grad for p in layer.parameters())]
    return [t.detach().cpu().numpy() for t in tensors]


def _double(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2)
