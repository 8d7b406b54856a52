"""Which configuration a kernel is launched in: found by trial, once per layer shape and GPU.

What is fastest where every program has a multiprocessor to itself need not be so where programs
wait for each other. Both are tried at once, on data of fixed sizes; which of the two winners a call
takes is then plain arithmetic, so that no length or batch ever starts a trial of its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import triton
import triton.testing
from torch import Tensor

from fastrnn.recurrence.hardware import autotune_enabled, is_capturing
from fastrnn.recurrence.problem import Problem
from fastrnn.recurrence.triton_kernels.config import (
    KernelConfig,
    Multiprocessors,
    Pass,
    candidates,
    fuses_input,
    resident_programs,
)
from fastrnn.recurrence.triton_kernels.kernels import INTERPRETED, KERNELS, arguments

# Steps of a trial: enough to hide the launch, few enough to take no time, nor much memory.
_ROOMY_STEPS = 128
_CROWDED_STEPS = 32


class _Winners(NamedTuple):
    """The fastest configurations, and the most programs for which the first is meant."""

    roomy: KernelConfig
    crowded: KernelConfig
    resident: int


_known: dict[tuple[Any, ...], _Winners] = {}
_tuning = threading.Lock()
_forced: dict[Pass, KernelConfig] = {}


def choose(kind: Pass, problem: Problem) -> KernelConfig:
    """Choose a configuration; a trial is held for the first call of a layer shape, if it may be.

    Parameters
    ----------
    kind : {"forward", "backward"}
        Which kernel.
    problem : Problem
        The call; of its sizes, T never counts, and B only to tell whether all programs find room on
        the GPU at once.
    """
    if kind in _forced:
        return _forced[kind]
    p = problem
    configs = _candidates(kind, p)
    if len(configs) == 1:
        return configs[0]
    key = _layer(kind, p)
    if key not in _known:
        if not may_tune(p.device):
            return configs[0]
        with _tuning:  # two trials at once would disturb each other's times
            if key not in _known:
                _known[key] = _hold_trial(kind, p, configs)
    winners = _known[key]
    return winners.crowded if _programs(p, configs[0]) > winners.resident else winners.roomy


@contextmanager
def forced(**configs: KernelConfig) -> Iterator[None]:
    """Launch ``forward``, ``backward`` or both in a given configuration: for checks of each."""
    before = dict(_forced)
    _forced.update(configs)  # type: ignore[arg-type]
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def may_tune(device: torch.device) -> bool:
    """Whether kernels may be timed now: not interpreted, not captured, not switched off."""
    return not INTERPRETED and autotune_enabled() and not is_capturing(device)


def _candidates(kind: Pass, p: Problem) -> tuple[KernelConfig, ...]:
    return candidates(kind, p.dtype, p.hidden_size, p.input_size, allow_tf32=p.allow_tf32)


def _layer(kind: Pass, p: Problem) -> tuple[Any, ...]:
    fused = kind == "forward" and fuses_input(p.dtype, p.input_size)
    input_size = p.input_size if fused else 0  # multiplied beforehand, it is nothing to the kernel
    weights = p.dtype, p.hidden_size, input_size, p.num_directions
    return kind, p.device.index, *weights, p.allow_tf32, p.training


def _programs(p: Problem, config: KernelConfig) -> int:
    return -(-p.batch_size // config.tile) * p.num_directions


def _hold_trial(kind: Pass, problem: Problem, configs: Sequence[KernelConfig]) -> _Winners:
    """Time all configurations on a GPU with room, and on one with twice the programs it holds."""
    first = configs[0]
    gpu = multiprocessors(problem.device)
    resident = resident_programs(first, problem.dtype, problem.hidden_size, gpu)

    def fastest(steps: int, programs: int) -> KernelConfig:
        batch_size = max(1, programs // problem.num_directions) * first.tile
        trial = replace(problem, seq_len=steps, batch_size=batch_size)
        try:
            return _fastest(kind, trial, configs)
        except Exception:  # no memory, a damaged file in Triton's cache: no reason to fail the call
            return first

    roomy = fastest(_ROOMY_STEPS, max(1, gpu.number // 2))
    return _Winners(roomy, fastest(_CROWDED_STEPS, 2 * resident), resident)


def multiprocessors(device: torch.device) -> Multiprocessors:
    """Ask what a GPU's multiprocessors hold."""
    gpu = torch.cuda.get_device_properties(device)
    return Multiprocessors(
        number=gpu.multi_processor_count,
        # Not every build of torch tells these two.
        shared_memory=getattr(gpu, "shared_memory_per_multiprocessor", 0),
        threads=gpu.max_threads_per_multi_processor,
        registers=getattr(gpu, "regs_per_multiprocessor", 65_536),
    )


def _fastest(kind: Pass, trial: Problem, configs: Sequence[KernelConfig]) -> KernelConfig:
    """Let Triton time the configurations on random data; it remembers the winner on disk."""
    tuner = _tuner(kind, tuple(configs), trial.device)
    tuner[lambda meta: (triton.cdiv(trial.batch_size, meta["TILE"]), trial.num_directions)](
        **arguments(kind, trial, _trial_tensors(kind, trial))
    )
    best = tuner.best_config
    return KernelConfig(tile=best.kwargs["TILE"], num_warps=best.num_warps)


@functools.cache
def _tuner(kind: Pass, configs: tuple[KernelConfig, ...], device: torch.device) -> Any:
    """Make a tuner for one GPU: by itself it would remember one result for all of them."""
    choices = [
        triton.Config({"TILE": c.tile}, num_warps=c.num_warps, num_stages=1) for c in configs
    ]
    # The size of a trial's batch stands for the GPU, and for whether its programs find room on it.
    key = ["HIDDEN_SIZE", "DIRECTIONS", "PRECISION", "batch_size"]
    if kind == "forward":
        key += ["INPUT_SIZE", "SAVE"]
    return triton.autotune(choices, key=key, cache_results=True, do_bench=_time)(KERNELS[kind])


def _time(call: Callable[[], object], quantiles: Sequence[float]) -> Any:
    return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)


def _trial_tensors(kind: Pass, p: Problem) -> dict[str, Tensor | None]:
    generator = torch.Generator(p.device).manual_seed(0)
    t, b, i, h, d = p.seq_len, p.batch_size, p.input_size, p.hidden_size, p.num_directions

    def random(*shape: int, dtype: torch.dtype = p.dtype) -> Tensor:
        return torch.rand(shape, generator=generator, device=p.device).sub(0.5).to(dtype)

    # What a call leaves out is left out here as well: a trial then compiles what calls will run.
    fused = kind == "forward" and fuses_input(p.dtype, i)
    varies = p.variable_length
    tensors: dict[str, Tensor | None] = {
        "gates": random(t, b, d, 4, h) if p.training or not fused else None,
        "cells": random(t, b, d, h, dtype=torch.float32) if p.training else None,
        "c_0": random(d, b, h),
        "order": torch.arange(b, device=p.device) if varies else None,
        "lengths": torch.full((b,), t, dtype=torch.int32, device=p.device) if varies else None,
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
