"""Trials: who wins, who is dropped and why, and what is left alone."""

import datetime
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastrnn.recurrence import trial
from fastrnn.recurrence.backends import EagerBackend
from fastrnn.recurrence.backends.base import ForwardResult, InputGrads
from fastrnn.recurrence.problem import LayerArgs, Problem
from fastrnn.recurrence.reference import lstm_reference

from .stand_ins import COST, PROBLEM, WRONG_OUTPUTS, Bench, StandIn, raises

TRAINING = replace(PROBLEM, training=True)


# Who wins.


def test_the_fastest_wins_and_is_remembered(bench: Bench) -> None:
    assert bench.choose() == "fast"
    timed = bench.gpu.timed
    assert timed > 0
    assert bench.choose() == "fast"
    bench.restart()
    assert bench.choose() == "fast"
    assert bench.gpu.timed == timed  # neither memory nor the file needed another trial
    (decision,) = bench.decisions
    assert decision.microseconds == {"cudnn": COST, "fast": COST / 2}
    assert decision.ratio == 0.5
    assert datetime.date.fromisoformat(decision.date)


@pytest.mark.parametrize(("share", "winner"), [(0.95, "fast"), (0.98, "cudnn"), (1.3, "cudnn")])
def test_the_baseline_loses_by_a_margin_only(bench: Bench, share: float, winner: str) -> None:
    bench.fast.cost = share * COST
    assert bench.choose() == winner
    (decision,) = bench.decisions
    assert decision.winner == winner
    assert decision.microseconds["fast"] == pytest.approx(share * COST)


def test_a_stutter_of_the_baseline_does_not_make_it_lose(bench: Bench) -> None:
    bench.fast.cost = COST

    def stutter(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        bench.gpu.now += 10 * COST * (len(bench.cudnn.runs) in (4, 6))
        return result

    bench.cudnn.after_forward = stutter
    assert bench.choose() == "cudnn"


@pytest.mark.parametrize("factor", [0.94, 1.06])
def test_a_drifting_clock_does_not_decide(bench: Bench, factor: float) -> None:
    def drift(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        bench.fast.cost = bench.cudnn.cost = bench.cudnn.cost * factor
        return result

    bench.fast.cost = COST
    bench.fast.after_forward = bench.cudnn.after_forward = drift
    assert bench.choose() == "cudnn"


def test_the_best_of_several_wins(bench: Bench) -> None:
    best = StandIn("best", bench.gpu, COST / 4)
    hopeless = StandIn("hopeless", bench.gpu, 50 * COST)
    bench.backends = (hopeless, best, *bench.backends)
    bench.restart()
    assert bench.choose() == "best"
    assert len(hopeless.runs) == 3  # two checks and one look at its time


def test_training_times_both_passes(bench: Bench) -> None:
    def slow_backward(problem: Problem, args: LayerArgs, grads: InputGrads) -> InputGrads:
        bench.gpu.now += 2 * COST
        return grads

    bench.fast.after_backward = slow_backward
    assert bench.choose(TRAINING) == "cudnn"
    assert bench.choose(PROBLEM) == "fast"


def test_a_recordable_backend_is_differentiated_as_in_use(bench: Bench) -> None:
    class Recordable(StandIn):
        recordable = True

        def forward(self, problem: Problem, args: LayerArgs) -> ForwardResult:
            assert torch.is_grad_enabled() == problem.training
            self.gpu.now += self.cost
            y, h_n, c_n = lstm_reference(args)
            return ForwardResult(y, h_n, c_n, y.new_empty(0))

        def backward(self, *_: object) -> InputGrads:
            raise AssertionError("its forward can be differentiated")

    bench.backends = (Recordable("fast", bench.gpu, COST / 2), *bench.backends[1:])
    bench.restart()
    assert bench.choose(TRAINING) == "fast"


# Who is dropped.


@pytest.mark.parametrize("reason", WRONG_OUTPUTS)
def test_wrong_outputs_are_dropped(bench: Bench, reason: str) -> None:
    bench.fast.after_forward = WRONG_OUTPUTS[reason]
    assert bench.choose() == "cudnn"
    (decision,) = bench.decisions
    assert reason in decision.dropped["fast"]
    assert decision.ratio is None  # nobody was left to race with


def test_results_get_memory_that_is_full_of_nan(bench: Bench) -> None:
    """The fixture for all tests fills all memory; a GPU's allocator hands out what was freed."""

    filled: set[tuple[int, ...]] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is torch.ops.aten.new_full.default and result.isnan().all():
                filled.add(tuple(result.shape))
            return result

    missing: list[set[tuple[int, ...]]] = []

    def note(problem: Problem, args: LayerArgs, grads: InputGrads) -> InputGrads:
        shapes = {tuple(t.shape) for t in grads if t is not None} | {problem.output_shape}
        missing.append(shapes - filled)
        return grads

    bench.fast.after_backward = note
    with Watch():
        trial.hold_trial(TRAINING, [bench.fast], bench.cudnn, bench.gpu)
    assert missing[:2] == [set(), set()]


@pytest.mark.parametrize("name", ["x", "w_ih", "w_hh", "bias", "h_0", "c_0"])
def test_each_wrong_gradient_is_dropped(bench: Bench, name: str) -> None:
    bench.fast.after_backward = lambda problem, args, grads: (
        grads
        if getattr(grads, name) is None
        else grads._replace(**{name: getattr(grads, name) + 0.01})
    )
    assert bench.choose(TRAINING) == "cudnn"
    assert f"grad {name} is wrong" in bench.decisions[0].dropped["fast"]
    assert bench.choose(PROBLEM) == "fast"  # its forward is right


def test_a_missing_gradient_is_dropped(bench: Bench) -> None:
    bench.fast.after_backward = lambda problem, args, grads: grads._replace(bias=None)
    assert bench.choose(TRAINING) == "cudnn"
    assert bench.decisions[0].dropped["fast"] == "grad bias is missing"


def test_what_is_wrong_with_lengths_only_may_run_without(bench: Bench) -> None:
    def ignores_lengths(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        return EagerBackend.forward(bench.fast, problem, args._replace(lengths=None))

    bench.fast.after_forward = ignores_lengths
    assert bench.choose(replace(PROBLEM, variable_length=True)) == "cudnn"
    assert bench.choose(PROBLEM) == "fast"


def test_an_error_at_length_zero_is_found(bench: Bench) -> None:
    def forgets_states(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        return result._replace(h_n=result.h_n * (args.lengths > 0)[None, :, None])

    bench.fast.after_forward = forgets_states
    assert bench.choose(replace(PROBLEM, variable_length=True)) == "cudnn"


def test_an_error_in_long_sequences_and_large_batches_is_found(bench: Bench) -> None:
    def wrong_late(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        y = result.y.clone()
        y[20:, 9:] += 0.5
        return result._replace(y=y)

    bench.fast.after_forward = wrong_late
    assert bench.choose(replace(PROBLEM, seq_len=30, batch_size=10)) == "cudnn"
    assert bench.choose(PROBLEM) == "fast"


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_one_that_raises_is_dropped_with_its_words(bench: Bench, when: str) -> None:
    setattr(bench.fast, f"after_{when}", raises("no\n kernel  image"))
    with pytest.warns(RuntimeWarning, match="fast: it raised RuntimeError: no kernel image"):
        assert bench.choose(TRAINING) == "cudnn"
    bench.fast.runs.clear()
    assert bench.choose(TRAINING) == "cudnn"
    assert not bench.fast.runs  # remembered as long as the process lives


def test_one_that_raised_gets_another_chance_in_the_next_process(bench: Bench) -> None:
    """A full disk or a missing compiler may be mended by then."""
    bench.fast.after_forward = raises("failed to find C compiler")
    with pytest.warns(RuntimeWarning, match="so 'cudnn' is taken"):
        assert bench.choose(TRAINING) == "cudnn"
    assert bench.decisions == []
    bench.fast.after_forward = lambda problem, args, result: result
    bench.restart()
    assert bench.choose(TRAINING) == "fast"


def test_one_that_raises_late_is_dropped(bench: Bench) -> None:
    def fail_when_timed(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        if len(bench.fast.runs) > 4:
            raise RuntimeError("out of luck")
        return result

    bench.fast.after_forward = fail_when_timed
    with pytest.warns(RuntimeWarning, match="out of luck"):
        assert bench.choose() == "cudnn"
    (decision,) = bench.selector.store._memory.values()
    assert set(decision.microseconds) == {"cudnn"}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("full"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_lack_of_memory_is_not_held_against_anyone_tomorrow(
    bench: Bench, error: RuntimeError
) -> None:
    bench.fast.after_forward = raises(str(error), type(error))
    assert bench.choose() == "cudnn"
    assert bench.choose() == "cudnn"
    assert len(bench.fast.runs) == 1
    assert bench.decisions == []


def test_one_that_refuses_the_small_check_is_dropped(bench: Bench) -> None:
    bench.fast.refuses = lambda problem: problem.batch_size < 5
    assert bench.choose() == "cudnn"
    assert "it does not want to" in bench.decisions[0].dropped["fast"]


def test_a_baseline_that_fails_is_taken_with_a_warning(bench: Bench) -> None:
    bench.cudnn.after_forward = raises("no plan")
    with pytest.warns(RuntimeWarning, match=r"'cudnn' is taken \(cudnn: .*no plan.*AUTOTUNE=0"):
        assert bench.choose() == "cudnn"
    assert bench.choose() == "cudnn"
    assert bench.decisions == []  # another process may be luckier


def test_a_device_that_a_backend_broke_is_not_broken_again(bench: Bench) -> None:
    def breaks(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        bench.cudnn.after_forward = raises("illegal memory access")
        raise RuntimeError("illegal memory access")

    other = StandIn("other", bench.gpu)
    bench.fast.after_forward = breaks
    bench.backends = (bench.fast, other, *bench.backends[1:])
    bench.restart()
    with pytest.warns(RuntimeWarning, match="fast: it raised RuntimeError: illegal memory access"):
        assert bench.choose() == "cudnn"
    assert set(bench.decisions[0].dropped) == {"fast", "cudnn", "other"}
    bench.cudnn.after_forward = lambda problem, args, result: result
    bench.fast.runs.clear()
    bench.restart()
    assert bench.choose() == "cudnn"
    assert not bench.fast.runs


def test_a_default_device_of_the_caller_changes_nothing(bench: Bench) -> None:
    with torch.device("meta"):
        assert bench.choose(replace(TRAINING, variable_length=True)) == "fast"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_passes_its_own_bound(bench: Bench, dtype: torch.dtype) -> None:
    assert bench.choose(replace(TRAINING, dtype=dtype, last_state_only=True)) == "fast"
    assert bench.choose(replace(TRAINING, dtype=dtype, variable_length=True)) == "fast"
    assert bench.choose(replace(PROBLEM, dtype=dtype, last_state_only=True)) == "fast"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_hides_no_wrong_row(bench: Bench, dtype: torch.dtype) -> None:
    def wrong_row(problem: Problem, args: LayerArgs, result: ForwardResult) -> ForwardResult:
        y = result.y.clone()
        y[:, 4:] += 0.2
        return result._replace(y=y)

    bench.fast.after_forward = wrong_row
    assert bench.choose(replace(PROBLEM, dtype=dtype)) == "cudnn"


def test_the_last_state_alone_is_tried_as_it_is_used(bench: Bench) -> None:
    grads_of_y: list[object] = []

    def backward(problem: Problem, args: LayerArgs, y: Tensor, reserve: Tensor, grads, wanted):
        grads_of_y.append(grads.y)
        return StandIn.backward(bench.fast, problem, args, y, reserve, grads, wanted)

    bench.fast.backward = backward
    assert bench.choose(replace(TRAINING, last_state_only=True)) == "fast"
    assert not any(run.last_state_only for run in bench.fast.runs)  # backward needs y
    assert set(grads_of_y) == {None}
    bench.fast.runs.clear()
    assert bench.choose(replace(PROBLEM, last_state_only=True)) == "fast"
    assert all(run.last_state_only for run in bench.fast.runs)


@pytest.mark.parametrize(
    ("batch_size", "hidden_size"), [(1 << 20, 64), (256, 4096), (1, 1 << 14), (1 << 14, 8)]
)
def test_trials_stay_small(batch_size: int, hidden_size: int) -> None:
    p = trial.trial_problem(
        replace(PROBLEM, seq_len=4096, batch_size=batch_size, hidden_size=hidden_size)
    )
    assert 16 <= p.seq_len <= trial.MAX_STEPS
    assert 1 <= p.batch_size <= batch_size
    assert p.seq_len * p.batch_size * 12 * hidden_size * 4 <= 1 << 30 or p.batch_size == 1


# What a trial leaves alone.


def test_random_states_and_modes_of_the_caller_are_untouched(bench: Bench) -> None:
    state = torch.get_rng_state()
    packed: list[Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        assert bench.choose(TRAINING) == "fast"
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
    assert packed == []
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode():
        assert bench.choose(replace(TRAINING, hidden_size=6)) == "fast"
        assert torch.is_inference_mode_enabled()
    with torch.no_grad():
        bench.choose(replace(TRAINING, hidden_size=7))
        assert not torch.is_grad_enabled()
