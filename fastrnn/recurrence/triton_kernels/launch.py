"""Launches of the Triton kernels: grids, constants, and the configuration found fastest."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.testing
from torch import Tensor

from fastrnn.recurrence.hardware import autotune_enabled
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels.backward import lstm_backward
from fastrnn.recurrence.triton_kernels.config import (
    KernelConfig,
    Pass,
    candidates,
    fuses_input,
    padded_size,
)
from fastrnn.recurrence.triton_kernels.forward import lstm_forward

INTERPRETED = not isinstance(lstm_forward, triton.JITFunction)
"""Whether ``TRITON_INTERPRET=1`` was set when the kernels were imported: then they run on a CPU."""

_KERNELS: dict[Pass, Any] = {"forward": lstm_forward, "backward": lstm_backward}

# Tensors that may be missing, in the order of their bits in `given`, and what is passed instead.
_OPTIONAL: dict[Pass, tuple[str, ...]] = {
    "forward": ("h_0", "c_0", "y"),
    "backward": ("c_0", "grad_h_n", "grad_c_n", "grad_y"),
}
_STAND_IN: dict[Pass, str] = {"forward": "h_n", "backward": "grad_h_0"}

# What a configuration is tried on: enough steps to hide the launch, few enough to take no time.
_TRIAL_STEPS = 128
_TRIAL_BATCH = 256


def constants(kind: Pass, problem: Problem, *, fast: bool) -> dict[str, Any]:
    """Compile-time constants of a kernel, but for the tile; none depends on T or B.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call.
    fast : bool
        Whether the hardware's tanh may be used where the dtype does not need better.
    """
    values: dict[str, Any] = {
        "HIDDEN_SIZE": problem.hidden_size,
        "PADDED_SIZE": padded_size(problem.hidden_size),
        "DIRECTIONS": problem.num_directions,
        "FAST": fast and problem.dtype != torch.float32,
        "PRECISION": "tf32" if problem.allow_tf32 else "ieee",
    }
    if INTERPRETED:
        values["PRECISION"] = "interpreted"
    if kind == "forward":
        fused = fuses_input(problem.dtype, problem.input_size)
        values["FUSED_INPUT"] = fused
        values["INPUT_SIZE"] = problem.input_size if fused else 0
        values["SAVE"] = problem.training
    return values


def launch(kind: Pass, problem: Problem, tensors: dict[str, Tensor | None]) -> None:
    """Run a kernel on the current stream of the tensors' device.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call.
    tensors : dict
        The kernel's tensors by their parameters' names, contiguous.
    """
    tensors = dict(tensors)
    given = 0
    for bit, name in enumerate(_OPTIONAL[kind]):
        if tensors[name] is None:
            tensors[name] = tensors[_STAND_IN[kind]]  # neither read nor written
        else:
            given |= 1 << bit
    config = _chosen(kind, problem)
    grid = (triton.cdiv(problem.batch_size, config.tile), problem.num_directions)
    _KERNELS[kind][grid](
        **tensors,
        seq_len=problem.seq_len,
        batch_size=problem.batch_size,
        given=given,
        **constants(kind, problem, fast=_has_fast_tanh()),
        TILE=config.tile,
        num_warps=config.num_warps,
        num_stages=1,
    )


def _has_fast_tanh() -> bool:
    return not INTERPRETED and torch.version.hip is None


def _chosen(kind: Pass, problem: Problem) -> KernelConfig:
    """Choose a configuration for this layer, by trial once per layer shape, never per T or B."""
    p = problem
    key = _layer(kind, p)
    if key in _known:
        return _known[key]
    configs = candidates(kind, p.dtype, p.hidden_size, p.input_size, allow_tf32=p.allow_tf32)
    if len(configs) == 1 or not may_tune():
        return configs[0]
    with _tuning:  # two trials at once would disturb each other's times
        if key not in _known:
            try:
                _known[key] = _fastest(kind, p, configs)
            except RuntimeError:  # no memory for a trial is no reason to fail the call
                _known[key] = configs[0]
    return _known[key]


_known: dict[tuple[Any, ...], KernelConfig] = {}
_tuning = threading.Lock()


def _layer(kind: Pass, p: Problem) -> tuple[Any, ...]:
    fused = p.input_size if fuses_input(p.dtype, p.input_size) else 0
    index = p.device.index
    return kind, index, p.dtype, p.hidden_size, fused, p.num_directions, p.allow_tf32, p.training


def may_tune() -> bool:
    """Whether kernels may be timed now: not interpreted, not captured, not switched off."""
    return not INTERPRETED and autotune_enabled() and not torch.cuda.is_current_stream_capturing()


def _fastest(kind: Pass, problem: Problem, configs: Sequence[KernelConfig]) -> KernelConfig:
    """Let Triton time the configurations on random data; it remembers the winner on disk."""
    trial = Problem(
        seq_len=_TRIAL_STEPS,
        batch_size=_TRIAL_BATCH,
        input_size=problem.input_size,
        hidden_size=problem.hidden_size,
        num_directions=problem.num_directions,
        proj_size=0,
        dtype=problem.dtype,
        device=problem.device,
        training=problem.training,
        allow_tf32=problem.allow_tf32,
    )
    tuner = _tuner(kind, tuple(configs))
    tuner[lambda meta: (triton.cdiv(trial.batch_size, meta["TILE"]), trial.num_directions)](
        **_trial_tensors(kind, trial),
        seq_len=trial.seq_len,
        batch_size=trial.batch_size,
        given=(1 << len(_OPTIONAL[kind])) - 1,
        **constants(kind, trial, fast=_has_fast_tanh()),
    )
    best = tuner.best_config
    return KernelConfig(tile=best.kwargs["TILE"], num_warps=best.num_warps)


@functools.cache
def _tuner(kind: Pass, configs: tuple[KernelConfig, ...]) -> Any:
    choices = [
        triton.Config({"TILE": c.tile}, num_warps=c.num_warps, num_stages=1) for c in configs
    ]
    key = ["HIDDEN_SIZE", "DIRECTIONS", "PRECISION"]
    if kind == "forward":
        key += ["INPUT_SIZE", "SAVE"]
    return triton.autotune(choices, key=key, cache_results=True, do_bench=_time)(_KERNELS[kind])


def _time(call: Callable[[], object], quantiles: Sequence[float]) -> Any:
    return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)


def _trial_tensors(kind: Pass, p: Problem) -> dict[str, Tensor | None]:
    generator = torch.Generator(p.device).manual_seed(0)
    t, b, i, h, d = p.seq_len, p.batch_size, p.input_size, p.hidden_size, p.num_directions

    def random(*shape: int, dtype: torch.dtype = p.dtype) -> Tensor:
        return torch.rand(shape, generator=generator, device=p.device).sub(0.5).to(dtype)

    tensors: dict[str, Tensor | None] = {
        "gates": random(t, b, d, 4, h),
        "cells": random(t, b, d, h, dtype=torch.float32),
        "c_0": random(d, b, h),
        "order": None,
        "lengths": None,
    }
    if kind == "backward":
        return tensors | {
            "w_hh_t": random(d, 4, h, h),
            "grad_y": random(t, b, d, h),
            "grad_h_n": random(d, b, h),
            "grad_c_n": random(d, b, h),
            "grad_gates": random(t, b, d, 4, h),
            "grad_h_0": random(d, b, h),
            "grad_c_0": random(d, b, h),
        }
    fused = fuses_input(p.dtype, i)
    return tensors | {
        "x": random(t, b, i) if fused else None,
        "w_ih": random(d, 4, h, i) if fused else None,
        "bias": random(d, 4, h) if fused else None,
        "w_hh": random(d, 4, h, h),
        "h_0": random(d, b, h),
        "y": random(t, b, d, h),
        "h_n": random(d, b, h),
        "c_n": random(d, b, h),
    }
