"""Hidden units padded to a multiple: zero weights make units that stay zero and touch nothing."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import pad

from fastrnn.recurrence.backends.base import ForwardResult, OutputGrads
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.triton_kernels.config import UNIT_MULTIPLE


def missing_units(hidden_size: int) -> int:
    """Units to add, up to the next multiple.

    Examples
    --------
    >>> missing_units(64), missing_units(100)
    (0, 4)
    """
    return -hidden_size % UNIT_MULTIPLE


def pad_problem(problem: Problem) -> Problem:
    """Describe the call with padded units."""
    return replace(problem, hidden_size=problem.hidden_size + missing_units(problem.hidden_size))


def pad_args(problem: Problem, args: LayerArgs) -> LayerArgs:
    """Pad weights and states; they are returned as they are where nothing is missing."""
    missing = missing_units(problem.hidden_size)
    if missing == 0:
        return args

    def gates(tensor: Tensor, *widths: int) -> Tensor:
        by_gate = tensor.reshape(tensor.shape[0], 4, problem.hidden_size, *tensor.shape[2:])
        return pad(by_gate, widths).flatten(1, 2)

    return args._replace(
        w_ih=gates(args.w_ih, 0, 0, 0, missing),
        w_hh=gates(args.w_hh, 0, missing, 0, missing),
        bias=None if args.bias is None else gates(args.bias, 0, missing),
        h_0=_pad_units(args.h_0, missing),
        c_0=_pad_units(args.c_0, missing),
    )


def pad_output_grads(problem: Problem, grads: OutputGrads) -> OutputGrads:
    """Pad the gradients of the outputs."""
    missing = missing_units(problem.hidden_size)
    if missing == 0:
        return grads
    y = grads.y
    if y is not None:
        by_direction = y.reshape(*y.shape[:2], problem.num_directions, problem.hidden_size)
        y = pad(by_direction, (0, missing)).flatten(2)
    return OutputGrads(y, _pad_units(grads.h_n, missing), _pad_units(grads.c_n, missing))


def cut_result(problem: Problem, result: ForwardResult) -> ForwardResult:
    """Cut the padding off the outputs; the reserve stays padded."""
    if missing_units(problem.hidden_size) == 0:
        return result
    return ForwardResult(
        cut_units(result.y, problem, groups=problem.num_directions),
        cut_units(result.h_n, problem, groups=1),
        cut_units(result.c_n, problem, groups=1),
        result.reserve,
    )


def cut_units(tensor: Tensor, problem: Problem, *, groups: int) -> Tensor:
    """Cut the padding off ``[..., groups * H]``."""
    missing = missing_units(problem.hidden_size)
    if missing == 0:
        return tensor
    units = tensor.view(*tensor.shape[:-1], groups, problem.hidden_size + missing)
    # Contiguous, as operators promise: with one group, flattening alone would leave the gaps in.
    return units[..., : problem.hidden_size].flatten(-2).contiguous()


def _pad_units(tensor: Tensor | None, missing: int) -> Tensor | None:
    return None if tensor is None else pad(tensor, (0, missing))
