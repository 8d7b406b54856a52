"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LayerCase:
    """One LSTM layer on one shape; `variable` draws lengths uniformly from T/8..T."""

    input_size: int
    hidden_size: int
    batch_size: int
    seq_len: int
    bidirectional: bool = False
    variable: bool = False

    @property
    def name(self) -> str:
        parts = [
            f"I={self.input_size}",
            f"H={self.hidden_size}",
            f"B={self.batch_size}",
            f"T={self.seq_len}",
        ]
        if self.bidirectional:
            parts.append("bidirectional")
        if self.variable:
            parts.append("lengths T/8..T")
        return ", ".join(parts)

    def inputs(self) -> tuple[Tensor, Tensor | None]:
        """Random input ``[T, B, I]`` and lengths ``[B]``, the same on every run."""
        import torch  # here, because the environments of other libraries have no torch

        rng = torch.Generator().manual_seed(0)
        x = torch.randn(self.seq_len, self.batch_size, self.input_size, generator=rng)
        if not self.variable:
            return x, None
        low, high = self.seq_len // 8, self.seq_len + 1
        return x, torch.randint(low, high, (self.batch_size,), generator=rng)

    def valid_steps(self) -> int:
        """Steps that are no padding, over the batch and both directions."""
        _, lengths = self.inputs()
        steps = self.batch_size * self.seq_len if lengths is None else int(lengths.sum())
        return steps * (2 if self.bidirectional else 1)


LAYER_CASES = (
    LayerCase(3, 64, 1, 1024),
    LayerCase(3, 64, 32, 1024),
    LayerCase(84, 64, 32, 1024),
    LayerCase(84, 128, 32, 1024),
    LayerCase(84, 256, 32, 512),
    LayerCase(84, 64, 32, 1024, bidirectional=True),
    LayerCase(84, 64, 32, 1024, variable=True),
)
