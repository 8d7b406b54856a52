"""Random problems for the engine's tests, on memory that is poisoned with NaN."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastrnn.recurrence.backends.base import OutputGrads
from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs

from .stand_ins import Bench


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN, so that an element never written is found."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A selector over stand-ins, with settings as usual."""
    monkeypatch.delenv("FASTRNN_AUTOTUNE", raising=False)
    monkeypatch.delenv("FASTRNN_BACKEND", raising=False)
    return Bench(tmp_path / "decisions.json")


@dataclass(frozen=True)
class Case:
    """One problem of the grid; `lengths` is none, random, zeros (some) or equal.

    `scale` is that of x; `variants` are names of `VARIANTS`.
    """

    seq_len: int
    batch_size: int
    input_size: int
    hidden_size: int
    num_directions: int = 1
    lengths: str = "none"
    states: bool = False
    bias: bool = True
    contiguous: bool = True
    dtype: torch.dtype = torch.float32
    scale: float = 1.0
    seed: int = 0
    variants: tuple[str, ...] = ()

    def build(self) -> tuple[LayerArgs, OutputGrads]:
        rng = torch.Generator().manual_seed(self.seed)

        def random(*shape: int, scale: float = 1.0) -> Tensor:
            values = torch.randn(*shape, generator=rng, dtype=torch.float64) * scale
            if not self.contiguous:  # same values, other strides
                values = values.transpose(0, -1).contiguous().transpose(0, -1)
            return values.to(self.dtype).requires_grad_()

        t, b, i, h, d = (
            self.seq_len,
            self.batch_size,
            self.input_size,
            self.hidden_size,
            self.num_directions,
        )
        gates = (3 if "coupled_gates" in self.variants else 4) * h
        args = LayerArgs(
            x=random(t, b, i, scale=self.scale),
            w_ih=random(d, gates, i, scale=i**-0.5),
            w_hh=random(d, gates, h, scale=h**-0.5),
            bias=random(d, gates, scale=0.5) if self.bias else None,
            h_0=random(d, b, h, scale=0.5) if self.states else None,
            c_0=random(d, b, h) if self.states else None,
            lengths=self._lengths(rng),
        )
        if "layer_norm" in self.variants:
            args = args._replace(norm=random(d, 2 * gates + 2 * h))
        if "reset" in self.variants:
            args = args._replace(reset=torch.rand(t, b, generator=rng) < 0.3)
        if "recurrent_dropout" in self.variants:
            kept = torch.rand(d, b, h, generator=rng) < 0.7
            args = args._replace(recurrent_mask=kept.to(self.dtype) / 0.7)
        if "zoneout" in self.variants:
            kept = torch.rand(d, t, b, 2 * h, generator=rng) < 0.3
            args = args._replace(zoneout=kept.to(self.dtype))
        grads = OutputGrads(
            *(random(*shape).detach() for shape in ((t, b, d * h), (d, b, h), (d, b, h)))
        )
        return args, grads

    def _lengths(self, rng: torch.Generator) -> Tensor | None:
        if self.lengths == "none":
            return None
        if self.lengths == "equal":
            return torch.full((self.batch_size,), (self.seq_len + 1) // 2)
        drawn = torch.randint(1, self.seq_len + 1, (self.batch_size,), generator=rng)
        if self.lengths == "zeros":
            drawn[::2] = 0
        return drawn


def detached(args: LayerArgs) -> LayerArgs:
    """The same numbers, none of which asks for gradients."""
    return args.map(Tensor.detach)


def assert_autocast_only_casts(backend: str, case: Case, create_graph: bool = False) -> None:
    """Under autocast a call gives what it gives for tensors cast by hand, to the bit."""
    args, grads = case.build()
    inputs = [t for t in args.differentiable if t is not None]
    grads = OutputGrads(*(None if g is None else g.bfloat16() for g in grads))

    def cast(tensor: Tensor) -> Tensor:
        return tensor.bfloat16() if tensor.is_floating_point() else tensor

    by_hand = lstm_layer(args.map(cast), backend)
    want = (*by_hand, *torch.autograd.grad(by_hand, inputs, grads, create_graph=create_graph))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = lstm_layer(args, backend)
        got = (*outputs, *torch.autograd.grad(outputs, inputs, grads, create_graph=create_graph))
    assert {t.dtype for t in outputs} == {torch.bfloat16}
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
