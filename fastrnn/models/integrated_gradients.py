"""Integrated gradients along a straight path, of one class of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.encoders.fusion import modalities_present
from fastrnn.models.fusion import FusionClassifier

# Fusion takes a modality of nothing but zeros for missing: at a black baseline itself the model may
# be another function than on all of the path from there. So the path begins as near to it as
# float32 can tell from zero, with room for the darkest pixel.
_BEGIN = 1e-30


@dataclass(frozen=True, eq=False)
class Way:
    """The straight path from a baseline to a window, and the class whose logit is followed."""

    model: EncoderClassifier
    start: Tensor
    end: Tensor
    number: int

    @classmethod
    def of(cls, model: EncoderClassifier, start: Tensor, end: Tensor, number: int) -> Way:
        """Make a path on which a modality that is missing at the end is missing all the way."""
        if isinstance(model, FusionClassifier):
            sizes = [channels for _, channels in model.config.modalities]
            present = modalities_present(end[None], None, sizes)[0]
            channels = present.repeat_interleave(torch.tensor(sizes, device=present.device))
            start = torch.where(channels[:, None, None], start, end)
        return cls(model, start, end, number)

    def change(self) -> float:
        """Give the logit at the end minus that at the start."""
        with torch.no_grad():
            begin, end = (self._logits(self._at(share))[0] for share in (_BEGIN, 1.0))
        return float(end) - float(begin)

    def integrated(self, steps: int, max_padded_steps: int) -> Tensor:
        """Integrate the gradient along the path: attributions [C, H, W].

        At the middle of each step: of trained models, whose logits have kinks and steep parts on
        the way, that left a smaller error than as many points of Gauss and Legendre.
        """
        middles = torch.arange(steps, device=self.end.device, dtype=self.end.dtype) + 0.5
        batch_size = max(1, max_padded_steps // max(self.end.shape[1:]))
        total = torch.zeros_like(self.end)
        for shares in torch.split(middles[:, None, None, None] / steps, batch_size):
            strips = self._at(shares).requires_grad_()
            (gradients,) = torch.autograd.grad(self._logits(strips).sum(), strips)
            total += gradients.sum(0)
        return (self.end - self.start) * total / steps

    def _at(self, shares: Tensor | float) -> Tensor:
        """Give the strips [B, C, H, W] at some shares of the way."""
        strips = self.start + shares * (self.end - self.start)
        return strips if strips.dim() == 4 else strips[None]

    def _logits(self, strips: Tensor) -> Tensor:
        return wide_logits(self.model(strips)[:, self.number])


def wide_logits(logits: Tensor) -> Tensor:
    """Give logits as float32, or as they are if they are wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
