"""Every backend against the float64 reference, over the grid and over random problems."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.recurrence.backends import CpuBackend
from fastrnn.recurrence.dispatch import BACKENDS
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs
from fastrnn.recurrence.verification import Expectation, expect, verify

from ..conftest import THOROUGH
from .conftest import Case
from .emulated import emulate_cuda
from .grid import HIDDEN_SIZES, LENGTHS, Share, share_of_grid

ISAS = ("avx512", "avx2", "portable")

INTERPRETED = ("triton", "")
EMULATED = ("cuda", "")
VARIANTS = [("eager", ""), *(("cpu", isa) for isa in ISAS)]
HAVE_THEIR_OWN_FILE = {"cudnn"}

DTYPES = {
    "eager": (torch.float32, torch.float64),
    "cpu": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    "triton": (torch.float32, torch.float16, torch.bfloat16),
    "cuda": (torch.float32, torch.float16, torch.bfloat16),
}
ALL = (*VARIANTS, INTERPRETED, EMULATED)
GRID = [(variant, dtype) for variant in ALL for dtype in DTYPES[variant[0]]]


def variant_id(variant: tuple[str, str]) -> str:
    return "-".join(filter(None, variant))


GRID_IDS = [f"{variant_id(variant)}-{str(dtype)[6:]}" for variant, dtype in GRID]


def prepared(variant: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    name, isa = variant
    if name == "cuda":
        emulate_cuda(monkeypatch)
    if isa:
        require_isa(isa)
        monkeypatch.setenv("FASTRNN_CPU_ISA", isa)
    return name


@pytest.fixture(params=VARIANTS, ids=variant_id)
def host_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return prepared(request.param, monkeypatch)


@pytest.fixture(params=ALL, ids=variant_id)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return prepared(request.param, monkeypatch)


@pytest.fixture(params=GRID, ids=GRID_IDS)
def backend_and_dtype(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, torch.dtype]:
    variant, dtype = request.param
    return prepared(variant, monkeypatch), dtype


def require_isa(isa: str) -> None:
    from fastrnn import _cpu

    if isa not in _cpu.usable_isas():
        pytest.skip(f"this CPU or this build has no {isa}")


@functools.cache
def expected_of(case: Case) -> Expectation:
    """The expectation of a case, computed once for all backends and instruction sets."""
    return expect(*case.build())


def assert_right(backend: str, case: Case) -> None:
    checks = verify(backend, *case.build(), expected_of(case))
    bad = [str(check) for check in checks if not check.ok]
    assert not bad, f"{case}: {'; '.join(bad)}"


def test_every_backend_is_in_the_grid() -> None:
    tested = {name for (name, _), _ in GRID} | HAVE_THEIR_OWN_FILE
    assert tested == {backend.name for backend in BACKENDS}


@pytest.mark.parametrize(("variant", "dtype"), GRID, ids=GRID_IDS)
@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_grid(
    variant: tuple[str, str],
    dtype: torch.dtype,
    hidden_size: int,
    num_directions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = prepared(variant, monkeypatch)
    # Triton's kernels are interpreted here, slowly. 16-bit numbers are converted for the same
    # float32 kernels on the CPU.
    few = variant == INTERPRETED or (variant[0] == "cpu" and dtype.itemsize == 2)
    share = Share.ALL if THOROUGH else Share.FEW if few else Share.PAIRS
    for case in share_of_grid(share, hidden_size, num_directions, dtype):
        assert_right(backend, case)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_every_option_together(
    backend: str, lengths: str, states: bool, bias: bool, num_directions: int
) -> None:
    for contiguous in (True, False):
        assert_right(backend, Case(9, 7, 6, 19, num_directions, lengths, states, bias, contiguous))


KERNEL_VARIANTS = [
    ("coupled_gates",),
    ("reset",),
    ("recurrent_dropout",),
    ("reset", "recurrent_dropout"),
    ("coupled_gates", "reset", "recurrent_dropout"),
]


@pytest.mark.parametrize("variants", KERNEL_VARIANTS, ids="+".join)
@pytest.mark.parametrize("lengths", ["none", "zeros"])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_variants_of_the_cell(
    host_backend: str, variants: tuple[str, ...], lengths: str, num_directions: int
) -> None:
    for states, dtype in ((False, torch.float32), (True, torch.float64), (True, torch.bfloat16)):
        sizes = (7, 7, 6, 19) if states else (6, 20, 3, 32)
        case = Case(*sizes, num_directions, lengths, states, dtype=dtype, variants=variants)
        assert_right(host_backend, case)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("num_directions", [1, 2])
def test_work_split_over_threads(host_backend: str, threads: int, num_directions: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_right(
            host_backend, Case(60, 150, 7, 33, num_directions, "random", states=True, seed=threads)
        )
    finally:
        torch.set_num_threads(before)


def test_large_sizes(host_backend: str) -> None:
    assert_right(host_backend, Case(40, 9, 300, 130, 2, "random"))
    assert_right(host_backend, Case(5, 2, 700, 300, 1, "none"))


def test_long_sequence(backend: str) -> None:
    steps = 200 if backend == INTERPRETED[0] else 600  # interpreted, one takes 20 ms
    assert_right(backend, Case(steps, 3, 2, 8, 2, "random"))


@pytest.mark.parametrize("scale", [1e-2, 1e-4])
def test_small_signals_keep_their_relative_accuracy(backend: str, scale: float) -> None:
    """Near 0 a formula for tanh may lose all digits in a difference, unseen among large values."""
    assert_right(backend, Case(12, 5, 20, 17, 2, "random", bias=False, scale=scale))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("cpu", torch.float32),
        *(
            (name, dtype)
            for name in ("eager", "triton", "cuda")
            for dtype in (torch.float32, torch.float16, torch.bfloat16)
        ),
    ],
)
def test_small_steps_of_the_cell_state_add_up(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step adds 2**-12 to a cell state of 1: rounded to 16 bits it would stay there."""
    prepared((name, ""), monkeypatch)
    hidden, steps, step = 8, 512, 2.0**-12
    bias = torch.zeros(1, 4, hidden)
    bias[:, :2], bias[:, 2] = 20.0, step  # i and f are open, g is the step
    weights = torch.zeros(1, 4 * hidden, hidden, dtype=dtype)
    state = torch.ones(1, 2, hidden, dtype=dtype)
    x = torch.zeros(steps, 2, 4, dtype=dtype)
    args = LayerArgs(x, weights[:, :, :4], weights, bias.view(1, -1).to(dtype), c_0=state)
    c_n = lstm_layer(args, name)[2]
    torch.testing.assert_close(c_n.float(), torch.full((1, 2, hidden), 1.0 + steps * step))


@given(
    seq_len=st.integers(1, 24),
    batch_size=st.integers(1, 40),
    input_size=st.integers(1, 40),
    hidden_size=st.integers(1, 40),
    num_directions=st.sampled_from([1, 2]),
    lengths=st.sampled_from(LENGTHS),
    states=st.booleans(),
    bias=st.booleans(),
    contiguous=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    variants=st.sampled_from([(), (), *KERNEL_VARIANTS]),
    scale=st.sampled_from([1.0, 1e-3]),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 2**31),
)
def test_random_problems(isa: str, **options: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        from fastrnn import _cpu

        # An instruction set this CPU lacks is replaced, not skipped: the problem still counts.
        patch.setenv("FASTRNN_CPU_ISA", isa if isa in _cpu.usable_isas() else "portable")
        assert_right("cpu", Case(**options))  # type: ignore[arg-type]


def test_padding_is_never_read(backend_and_dtype: tuple[str, torch.dtype]) -> None:
    backend, dtype = backend_and_dtype
    args, grads = Case(8, 5, 3, 6, 2, "zeros", dtype=dtype).build()
    lengths = args.lengths
    assert lengths is not None
    outside = torch.arange(8)[:, None] >= lengths[None, :]
    with torch.no_grad():
        args.x[outside] = torch.nan
        for grad in grads[:1]:
            grad[outside] = torch.nan
    y, h_n, c_n = lstm_layer(args, backend)
    inputs = [t for t in args.differentiable if t is not None]
    found = torch.autograd.grad([y, h_n, c_n], inputs, list(grads))
    assert all(t.isfinite().all() for t in (y, h_n, c_n, *found))
    assert (y[outside] == 0).all()
    assert (found[0][outside] == 0).all()


def test_backward_is_bit_identical_from_run_to_run(backend: str) -> None:
    runs = []
    for _ in range(3):
        args, grads = Case(20, 40, 5, 32, 2, "random").build()
        outputs = lstm_layer(args, backend)
        inputs = [t for t in args.differentiable if t is not None]
        runs.append([*outputs, *torch.autograd.grad(outputs, inputs, grads)])
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


# Exp is meant to overflow: one over infinity is the saturated gate. Only the interpreter warns.
@pytest.mark.filterwarnings("ignore:overflow encountered in (exp|multiply)")
def test_saturated_and_extreme_inputs_stay_finite(
    backend_and_dtype: tuple[str, torch.dtype],
) -> None:
    backend, dtype = backend_and_dtype
    args, grads = Case(6, 3, 3, 9, 1, states=True, dtype=dtype, scale=1e4).build()
    outputs = lstm_layer(args, backend)
    found = torch.autograd.grad(outputs, [t for t in args.differentiable if t is not None], grads)
    assert all(t.isfinite().all() for t in (*outputs, *found))


def test_nan_in_a_valid_step_reaches_only_its_own_sequence(
    backend_and_dtype: tuple[str, torch.dtype],
) -> None:
    backend, dtype = backend_and_dtype
    args, _ = Case(6, 3, 3, 9, dtype=dtype).build()
    with torch.no_grad():
        args.x[2, 1] = torch.nan
    with torch.no_grad():
        y, _, _ = lstm_layer(args, backend)
    assert y[2:, 1].isnan().all()
    assert y[:2].isfinite().all()
    assert y[:, [0, 2]].isfinite().all()


def test_cpu_backend_takes_every_usable_isa_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrnn import _cpu

    cpu = CpuBackend()
    monkeypatch.delenv("FASTRNN_CPU_ISA", raising=False)
    assert cpu.isa == _cpu.usable_isas()[0]
    for isa in _cpu.usable_isas():
        monkeypatch.setenv("FASTRNN_CPU_ISA", isa)
        assert cpu.isa == isa


def test_unknown_isa_is_named_with_the_usable_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRNN_CPU_ISA", "sse9")
    with pytest.raises(ValueError, match=r"FASTRNN_CPU_ISA is 'sse9'.*portable"):
        CpuBackend().isa  # noqa: B018


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("isa", ISAS)
def test_activations_are_within_four_ulp(
    isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_isa(isa)
    monkeypatch.setenv("FASTRNN_CPU_ISA", isa)
    # One step from x alone: the reserve then holds the activations of x itself.
    x = torch.cat([torch.linspace(-60, 60, 40_001), torch.linspace(-1e-3, 1e-3, 2001)]).to(dtype)
    args = LayerArgs(
        x.reshape(1, -1, 1), torch.ones(1, 4, 1, dtype=dtype), torch.zeros(1, 4, 1, dtype=dtype)
    )
    reserve = torch.ops.fastrnn.lstm_forward(*args, "cpu", True)[3][0, :, 0, :, 0]
    eps = torch.finfo(dtype).eps
    floor = 1e-6 if dtype == torch.float32 else 1e-15
    for gate, name in enumerate(("sigmoid", "sigmoid", "tanh", "sigmoid")):
        exact = getattr(x.double(), name)()
        error = (reserve[:, gate].double() - exact).abs()
        assert (error <= (4 * eps * exact.abs()).clamp(min=floor)).all()
