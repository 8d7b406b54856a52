"""The registered operators, their fake kernels, and automatic differentiation around them.

``fastrnn::lstm_forward`` and ``fastrnn::lstm_backward`` are opaque to tracing; the
`torch.autograd.Function` stays outside of them because that costs less per call than an autograd
formula registered with the operator.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrnn.recurrence import dispatch
from fastrnn.recurrence.autocast import autocast, no_autocast
from fastrnn.recurrence.backends.base import Backend, OutputGrads, WantedGrads
from fastrnn.recurrence.backends.eager import reference_gradients
from fastrnn.recurrence.backends.memory import run_or_raise_memory_error
from fastrnn.recurrence.checkpoint import Checkpointed
from fastrnn.recurrence.problem import LayerArgs, Problem, check_like, leaves_nothing_out
from fastrnn.recurrence.reference import lstm_reference
from fastrnn.recurrence.rewriting import projected, uncoupled, with_merged_projection
from fastrnn.recurrence.trial_calls import Call, Results, named_results

_ARGS = (
    "Tensor x, Tensor w_ih, Tensor w_hh, Tensor? bias, Tensor? w_hr, "
    "Tensor? h_0, Tensor? c_0, Tensor? norm, Tensor? lengths, Tensor? reset, "
    "Tensor? recurrent_mask, Tensor? zoneout"
)

_library = torch.library.Library("fastrnn", "DEF")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    f"lstm_forward({_ARGS}, str backend, bool training, bool last_state_only=False, "
    "int checkpoint_every=0) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor reserve)"
)
_library.define(  # type: ignore[no-untyped-call]
    f"lstm_backward(Tensor? grad_y, Tensor? grad_h_n, Tensor? grad_c_n, {_ARGS}, "
    "Tensor y, Tensor reserve, str backend, bool[] wanted, int checkpoint_every=0) "
    "-> (Tensor x, Tensor w_ih, Tensor w_hh, Tensor bias, Tensor w_hr, Tensor h_0, Tensor c_0, "
    "Tensor norm)"
)


class _Checked(threading.local):
    """Whether an operator is called with what `lstm_layer` has checked, not by a program."""

    here = False


_checked = _Checked()


def _described(inputs: tuple[Any, ...]) -> tuple[Problem, LayerArgs, str]:
    num_tensors = len(LayerArgs._fields)
    return _describe(LayerArgs(*inputs[:num_tensors]), *inputs[num_tensors:])


def _describe(
    args: LayerArgs,
    backend: str,
    training: bool,
    last_state_only: bool = False,  # the dispatcher leaves out what has its default value
    checkpoint_every: int = 0,
) -> tuple[Problem, LayerArgs, str]:
    describe = Problem.of if _checked.here else Problem.from_args
    problem = describe(args, training=training, last_state_only=last_state_only)
    return _in_segments(problem, checkpoint_every), args, backend


def _in_segments(problem: Problem, checkpoint_every: int = 0) -> Problem:
    return replace(problem, checkpoint_every=checkpoint_every) if checkpoint_every else problem


def _runner(backend: str, problem: Problem) -> Backend | Checkpointed:
    chosen = dispatch.backend_by_name(backend)
    return Checkpointed(chosen) if problem.checkpoint_every else chosen


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem, args, backend = _described(inputs)
    with no_autocast(args.x):
        run = _runner(backend, problem).forward
        y, h_n, c_n, reserve = run_or_raise_memory_error(run, problem, args)
    return y, h_n, c_n, reserve


def _backward(
    grad_y: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, *inputs: Any
) -> tuple[Tensor, ...]:
    args = LayerArgs(*inputs[: len(LayerArgs._fields)])
    y, reserve, backend, wanted, *rest = inputs[len(LayerArgs._fields) :]
    output_grads = OutputGrads(grad_y, grad_h_n, grad_c_n)
    describe = Problem.of if _checked.here else Problem.from_args
    problem = _in_segments(describe(args, training=True), *rest)
    runner = _runner(backend, problem)
    if not _checked.here:
        _check_results(problem, args.x, y, reserve, runner, output_grads)
    with no_autocast(args.x):
        grads = run_or_raise_memory_error(
            runner.backward, problem, args, y, reserve, output_grads, WantedGrads(*wanted)
        )
    # An operator cannot return None: an unwanted gradient is an empty tensor here.
    return tuple(args.x.new_empty(0) if grad is None else grad for grad in grads)


def _check_results(
    problem: Problem,
    x: Tensor,
    y: Tensor,
    reserve: Tensor,
    runner: Backend | Checkpointed,
    grads: OutputGrads,
) -> None:
    """Check what forward gave, and its gradients: kernels would read beyond the ends of less."""
    p = problem
    state = (p.num_directions, p.batch_size)
    if not p.checkpoint_every:  # segments are run again without it
        check_like(x, "y", y, p.output_shape)
    check_like(x, "reserve", reserve, runner.reserve_shape(p))
    shapes = (p.output_shape, (*state, p.state_size), (*state, p.hidden_size))
    for name, grad, shape in zip(grads._fields, grads, shapes, strict=True):
        if grad is not None:
            check_like(x, f"grad_{name}", grad, shape)


def _forward_fake(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    p, args, backend = _described(inputs)
    x = args.x
    return (
        x.new_empty(p.output_shape),
        x.new_empty(p.num_directions, p.batch_size, p.state_size),
        x.new_empty(p.num_directions, p.batch_size, p.hidden_size),
        x.new_empty(_runner(backend, p).reserve_shape(p)),
    )


def _backward_fake(
    grad_y: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, *inputs: Any
) -> tuple[Tensor, ...]:
    args = LayerArgs(*inputs[: len(LayerArgs._fields)])
    _y, _reserve, _backend, wanted, *_ = inputs[len(LayerArgs._fields) :]
    x = args.x
    return tuple(
        x.new_empty(tensor.shape) if want and tensor is not None else x.new_empty(0)
        for tensor, want in zip(args.differentiable, wanted, strict=True)
    )


_library.impl("lstm_forward", _forward, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
_library.impl("lstm_backward", _backward, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fastrnn::lstm_forward", _forward_fake, lib=_library)
torch.library.register_fake("fastrnn::lstm_backward", _backward_fake, lib=_library)


class _Recording(NamedTuple):
    """A forward pass that torch itself can differentiate: its leaves and its results."""

    args: LayerArgs
    outputs: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, backend: Backend, args: LayerArgs) -> _Recording:
        with torch.enable_grad(), no_autocast(args.x):
            leaves = args.map(lambda t: t.detach().requires_grad_(t.requires_grad))
            problem = Problem.from_args(leaves, training=True)
            return cls(leaves, backend.forward(problem, leaves)[:3])

    def gradients(
        self, output_grads: tuple[Tensor | None, ...], wanted: WantedGrads
    ) -> tuple[Tensor | None, ...]:
        pairs = [(o, g) for o, g in zip(self.outputs, output_grads, strict=True) if g is not None]
        chosen = [t for t, want in zip(self.args, wanted, strict=False) if want and t is not None]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in pairs],
                chosen,
                [g for _, g in pairs],
                allow_unused=True,
                materialize_grads=True,
            )
        )
        return tuple(next(found) if want else None for want in wanted)


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, backend: str, last_state_only: bool, every: int, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        ctx.recording = None
        chosen = dispatch.backend_by_name(backend)
        if chosen.recordable and not every and not torch.compiler.is_compiling():
            ctx.recording = _Recording.of(chosen, LayerArgs(*tensors))  # type: ignore[arg-type]
            y, h_n, c_n = (output.detach() for output in ctx.recording.outputs)
            reserve = y.new_empty(0)
        else:
            options = (backend, True, last_state_only and every > 0, every)
            y, h_n, c_n, reserve = _undifferentiated(*tensors, *options)
        # Segments are run again from their first states alone, so y may go, or not come at all.
        ctx.save_for_backward(*tensors, y.new_empty(0) if every else y, reserve)
        ctx.backend, ctx.every = backend, every
        ctx.set_materialize_grads(False)
        return y, h_n, c_n

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, *grads_of_state: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *tensors, y, reserve = ctx.saved_tensors
        wanted = WantedGrads(*ctx.needs_input_grad[3 : 3 + len(WantedGrads._fields)])
        has_steps = grad_y is not None and grad_y.shape[0] > 0
        output_grads = (grad_y if has_steps else None, *grads_of_state)
        if torch.is_grad_enabled():  # gradients of gradients: only the reference has them
            with no_autocast(y):
                grads: tuple[Tensor | None, ...] = reference_gradients(
                    LayerArgs(*tensors), OutputGrads(*output_grads), wanted, create_graph=True
                )
        elif ctx.recording is not None:
            # Kept for one backward only, like torch's own buffers; a second one runs forward again.
            with no_autocast(y):
                grads = ctx.recording.gradients(output_grads, wanted)
            ctx.recording = None
        else:
            grads = _with_checked(
                torch.ops.fastrnn.lstm_backward,
                *(*output_grads, *tensors, y, reserve, ctx.backend, list(wanted), ctx.every),
            )
            grads = tuple(g if want else None for g, want in zip(grads, wanted, strict=True))
        return None, None, None, *grads, *[None] * (len(tensors) - len(grads))


def _with_checked(operator: Any, *inputs: Any) -> tuple[Tensor, ...]:
    """Call an operator with what `lstm_layer` has checked."""
    if torch.compiler.is_compiling():  # which cannot trace the guard
        return operator(*inputs)  # type: ignore[no-any-return]
    _checked.here = True
    try:
        return operator(*inputs)  # type: ignore[no-any-return]
    finally:
        _checked.here = False


def _undifferentiated(*inputs: Any) -> tuple[Tensor, ...]:
    """Call the operator past `_forward_autograd`."""
    operator = torch.ops.fastrnn.lstm_forward
    if torch.compiler.is_compiling():  # which records no gradients here
        return operator(*inputs)  # type: ignore[no-any-return]
    with torch._C._AutoDispatchBelowAutograd():
        return _with_checked(operator, *inputs)


def _forward_autograd(*inputs: Any) -> tuple[Tensor, ...]:
    """Differentiate an operator that a program calls: one exported, traced, or written by hand."""
    problem, args, backend = _described(inputs)
    if _is_transformed():
        y, h_n, c_n = _reference(args)
    elif not torch.is_grad_enabled() or not _asks_for_gradients(args):
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.fastrnn.lstm_forward(*inputs)  # type: ignore[no-any-return]
    else:
        options = (problem.last_state_only, problem.checkpoint_every)
        y, h_n, c_n = _Lstm.apply(backend, *options, *args)  # type: ignore[no-untyped-call]
    y = y if problem.output_shape[0] else y[:0]
    shape = _runner(backend, problem).reserve_shape(problem)
    return y, h_n, c_n, y.new_empty(shape)  # nobody reads it: what backward needs is kept


_library.impl("lstm_forward", _forward_autograd, "Autograd")  # type: ignore[no-untyped-call]


def _asks_for_gradients(args: LayerArgs) -> bool:
    return any(isinstance(t, Tensor) and t.requires_grad for t in args.differentiable)


def _run_as_called(backend: Backend, call: Call) -> Results:
    """Run a trial's call as users do, through operators and differentiation."""
    problem, args, grads, wanted = call
    if not problem.training:
        outputs = lstm_layer(args, backend.name, last_state_only=problem.last_state_only)
        return named_results(outputs)
    with torch.enable_grad():
        outputs = lstm_layer(args, backend.name)
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    inputs = [t for t in args.differentiable if t is not None]
    found = iter(torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs]))
    return named_results(outputs, [next(found) if want else None for want in wanted])


dispatch.run_trials_by(_run_as_called)


def lstm_layer(
    args: LayerArgs,
    backend: str | None = None,
    *,
    last_state_only: bool = False,
    checkpoint_every: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one layer on the backend that `dispatch.select` chooses.

    Parameters
    ----------
    args : LayerArgs
        The tensors; all of one floating-point dtype and on one device.
    backend : str, optional
        Force a backend by name.
    last_state_only : bool, default False
        Do not return y; where no gradients are asked for, it is not even written.
    checkpoint_every : int, optional
        Keep the states at every so many steps only, and run forward again in backward; see
        `checkpoint`. It changes nothing where no gradients are asked for, or x is no longer.

    Returns
    -------
    y, h_n, c_n : Tensor
        ``[T, B, D * R]`` (``[0, B, D * R]`` if ``last_state_only``), ``[D, B, R]``, ``[D, B, H]``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; see `Problem.from_args`.
    BackendError
        If the forced backend cannot run the call.
    """
    args = autocast(args)
    if _is_transformed():
        Problem.from_args(args, training=True)
        y, h_n, c_n = _reference(args)
        return (y[:0] if last_state_only else y), h_n, c_n
    training = torch.is_grad_enabled() and _asks_for_gradients(args)
    problem = Problem.from_args(args, training=training, last_state_only=last_state_only)
    if dispatch.merges_projection(problem, backend):
        return _run_merged(args, backend, last_state_only, checkpoint_every)
    if leaves_nothing_out(args.lengths, problem.seq_len):
        args, problem = args._replace(lengths=None), replace(problem, variable_length=False)
    if "coupled_gates" in problem.variants and problem.device.type != "cpu":
        args, problem = uncoupled(args, problem)
    every = _segment_length(problem, checkpoint_every)
    called = replace(problem, seq_len=every, num_directions=1) if every else problem
    chosen = dispatch.select(called, backend).name
    if torch._C._get_tracing_state() is not None:
        # One operator, with gradients or without: it can be saved, and differentiates itself.
        options = (chosen, False, last_state_only, every)
        y, h_n, c_n, _ = torch.ops.fastrnn.lstm_forward(*args, *options)
    elif training:
        y, h_n, c_n = _Lstm.apply(chosen, last_state_only, every, *args)  # type: ignore[no-untyped-call]
    else:
        y, h_n, c_n, _ = _undifferentiated(*args, chosen, False, last_state_only)
    return (y[:0] if last_state_only else y), h_n, c_n


def _run_merged(
    args: LayerArgs, backend: str | None, last_state_only: bool, checkpoint_every: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    with no_autocast(args.x):
        outputs = lstm_layer(
            with_merged_projection(args),
            backend,
            last_state_only=last_state_only,
            checkpoint_every=checkpoint_every,
        )
        return projected(outputs, args)


def _segment_length(problem: Problem, checkpoint_every: int | None) -> int:
    """Give the steps of a segment, or 0 where the layer runs as a whole."""
    if checkpoint_every is None:
        return 0
    if torch._C._get_tracing_state() is not None:  # the program may be trained, on any length
        return checkpoint_every
    # While torch compiles, a comparison would bind the program to lengths on one side of it.
    in_one = not torch.compiler.is_compiling() and problem.seq_len <= checkpoint_every
    return 0 if in_one or not problem.training else checkpoint_every


def _is_transformed() -> bool:
    """Whether gradients go forward, or `torch.func` maps or differentiates: nothing for kernels."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _reference(args: LayerArgs) -> tuple[Tensor, Tensor, Tensor]:
    with no_autocast(args.x):
        return lstm_reference(args)
