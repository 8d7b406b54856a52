"""Makes every `torch.nn.LSTM` of a model a `fastrnn.LSTM`, in place, and back again.

Both classes keep the same state in an instance, so only the instance's class is changed. What
refers to the module or to its parameters (an optimiser, tied weights, hooks and their handles,
weight norm, pruning, a wrapper such as DistributedDataParallel) goes on referring to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from fastrnn.nn.lstm import LSTM
from fastrnn.recurrence import dispatch
from fastrnn.recurrence.autoselect import considers
from fastrnn.recurrence.problem import Problem

__all__ = ["AccelerationReport", "accelerate", "restore"]

# In the instance, so that copies and pickled modules can be restored too.
_MARK = "_accelerated_by_fastrnn"

_DEVICES = ("cpu", "cuda")
_NAMES = ("LSTM", "LSTMCell")


@dataclass(frozen=True)
class AccelerationReport:
    """What `accelerate` replaced and what it left; `print` shows it line by line.

    Attributes
    ----------
    replaced : tuple of str
        Qualified name of every module that is a `fastrnn.LSTM` now and was none before, as
        `torch.nn.Module.get_submodule` takes it: the model itself is ``""``. A module that has
        several names is one entry, ``"encoder = decoder"``.
    left : dict of str to str
        Every other LSTM, `torch.nn.LSTMCell` included, and why it stays as it is.
    """

    replaced: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} torch.nn.LSTM replaced by fastrnn.LSTM"]
        lines += [f"  {_readable(name)}" for name in self.replaced]
        if self.left:
            lines.append(f"{len(self.left)} left as they are")
            lines += [f"  {_readable(name)}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def accelerate(model: nn.Module) -> AccelerationReport:
    """Make every `torch.nn.LSTM` of a model a `fastrnn.LSTM`, in place.

    The modules stay the same objects with the same parameters, so optimisers, tied weights,
    hooks, training mode, checkpoints and wrappers are not affected; nor are weight norm, spectral
    norm, pruning and parametrizations. `restore` undoes it. A second call changes nothing.

    Parameters
    ----------
    model : torch.nn.Module
        Searched with all its submodules; it may be an LSTM itself.

    Returns
    -------
    AccelerationReport
        Names of what was replaced, and of what was left with the reason: subclasses, whose own
        code has to run, quantized and scripted modules, `torch.nn.LSTMCell`, and what fastrnn has
        no fast kernel for.

    Raises
    ------
    TypeError
        If `model` is no module.

    Notes
    -----
    The kernels are made for whole sequences. A module that is called for one step or a few, as in
    a decoder with attention, may be slower than torch's: ``fastrnn.restore(model.decoder)``.

    `fastrnn.LSTM` is no subclass of `torch.nn.LSTM`: code that asks ``isinstance(m, nn.LSTM)``,
    and exporters that know torch's own layers (TorchScript, ONNX), want the model restored.

    Examples
    --------
    >>> from torch import nn
    >>> import fastrnn
    >>> tagger = nn.ModuleDict({"embed": nn.Embedding(90, 16), "rnn": nn.LSTM(16, 32)})
    >>> print(fastrnn.accelerate(tagger))
    1 torch.nn.LSTM replaced by fastrnn.LSTM
      rnn
    >>> fastrnn.restore(tagger)
    ('rnn',)
    """
    replaced: dict[str, nn.Module] = {}
    left: dict[str, str] = {}
    for name, module in _named_once(model):
        if not _is_an_lstm_of_torch(module):
            continue
        if reason := _reason_to_leave(module):
            left[name] = reason
        else:
            replaced[name] = module
    _change_classes(list(replaced.values()), LSTM)
    for module in replaced.values():
        module.__dict__[_MARK] = True
    return AccelerationReport(tuple(replaced), left)


def restore(model: nn.Module) -> tuple[str, ...]:
    """Undo `accelerate`: its modules are `torch.nn.LSTM` again, with the parameters of now.

    Parameters
    ----------
    model : torch.nn.Module
        Searched with all its submodules. A `fastrnn.LSTM` that was built as one stays one.

    Returns
    -------
    tuple of str
        Names of the restored modules, as in `AccelerationReport.replaced`.

    Raises
    ------
    TypeError
        If `model` is no module, or if something has changed the class of an accelerated module
        since; nothing is restored then.
    """
    marked = {name: module for name, module in _named_once(model) if _MARK in vars(module)}
    for name, module in marked.items():
        if type_before_parametrizations(module) is not LSTM:
            raise TypeError(
                f"{_readable(name)} is a {_class_name(module)} now; it should be the fastrnn.LSTM "
                "that accelerate made of it: undo what changed its class first"
            )
    _change_classes(list(marked.values()), nn.LSTM)
    for module in marked.values():
        del module.__dict__[_MARK]
    return tuple(marked)


def _named_once(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with all of its names, joined by " = "."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; it should be a torch.nn.Module")
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return ((" = ".join(all_names), module) for module, all_names in names.items())


def _readable(name: str) -> str:
    return name or "(the model itself)"


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _is_an_lstm_of_torch(module: nn.Module) -> bool:
    """Whether a user may wonder why it was not replaced."""
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return True
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", None) in _NAMES
    return _is_quantized(module)


def _is_quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.ao.") and type(module).__name__ in _NAMES


def _reason_to_leave(module: nn.Module) -> str | None:
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by TorchScript; accelerate the model that it was made from"
    if _is_quantized(module):
        return f"{_class_name(module)} has quantized weights, or is made for them"
    if isinstance(module, nn.LSTMCell):
        return "LSTMCell takes one step a call, so there are no steps to fuse"
    if type_before_parametrizations(module) is not nn.LSTM:
        return f"{_class_name(module)} is a subclass of torch.nn.LSTM, and may have code of its own"
    if "forward" in vars(module):
        return "its forward was replaced by another function, which may call torch.nn.LSTM's"
    return _reason_against_kernels(module)


def _reason_against_kernels(module: nn.Module) -> str | None:
    """Why `fastrnn.LSTM` would not run it, or only step by step, slower than torch."""
    # Not the weights: to read a parametrized one may draw random numbers.
    tensors = list(chain(module.parameters(), module.buffers()))
    if any(tensor.is_complex() for tensor in tensors):
        return "its numbers are complex"
    tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
    devices = {tensor.device for tensor in tensors}
    if not devices or any(device.type == "meta" for device in devices):
        return None  # it is not known yet where it will run
    if unknown := [str(device) for device in devices if device.type not in _DEVICES]:
        return f"it is on {unknown[0]}; fastrnn runs on {' and '.join(_DEVICES)}"
    problem = _typical_problem(module, tensors[0])
    if dispatch.merges_projection(problem):
        return None
    step_by_step = dispatch.BACKENDS[-1]
    fast = [backend for backend in dispatch.BACKENDS if backend is not step_by_step]
    if any(considers(backend, problem) for backend in fast):
        return None
    reasons = [
        reason
        for backend in fast
        if backend.devices is None or problem.device.type in backend.devices
        for reason in backend.supports(problem)
    ]
    return f"no fast kernel for it: {'; '.join(dict.fromkeys(reasons))}"


def _typical_problem(module: nn.Module, weight: Tensor) -> Problem:
    """Describe a call of the module; only dtype, device and projection matter here."""
    assert isinstance(module, nn.LSTM)
    return Problem(
        seq_len=2,
        batch_size=1,
        input_size=module.input_size,
        hidden_size=module.hidden_size,
        num_directions=2 if module.bidirectional else 1,
        proj_size=module.proj_size,
        dtype=weight.dtype,
        device=weight.device,
        training=True,
    )


def _change_classes(modules: list[nn.Module], base: type[nn.RNNBase]) -> None:
    """Give all modules their class upon `base`, or none of them if one raises."""
    classes = [_class_upon(base, module) for module in modules]
    for module, cls in zip(modules, classes, strict=True):
        module.__class__ = cls


def _class_upon(base: type[nn.RNNBase], module: nn.Module) -> type[nn.Module]:
    """Return `base`, or the class with properties that torch's parametrize would derive from it."""
    if not is_parametrized(module):
        return base
    current = type(module)
    members = {k: v for k, v in vars(current).items() if k not in ("__dict__", "__weakref__")}
    return type(current.__name__, (base,), members)
