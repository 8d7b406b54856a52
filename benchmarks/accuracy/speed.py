"""Training steps per second with `fastrnn.LSTM`, and with `torch.nn.LSTM` in its place."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastrnn.data import StripBatch, StripDataset, collate, strip_batches
from fastrnn.nn import LSTM

from ..results_file import environment
from ..timing import side_by_side
from .recipes import Recipe

BATCHES = 4
"""Batches of a step: from short strips to long ones."""

TOLERANCE = 1e-3
"""Greatest difference of a gradient, as a share of its largest element, float32."""


class StockLSTM(nn.Module):
    """`torch.nn.LSTM` as its users handle lengths: packed, unless all are the same."""

    def __init__(self, stock: nn.LSTM) -> None:
        super().__init__()
        self.stock = stock

    def forward(
        self, steps: Tensor, *, lengths: Tensor | None, last_state_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run [T, B, I]; the outputs are made whether or not they are wanted."""
        if lengths is None or bool((lengths == len(steps)).all()):
            return self.stock(steps)  # type: ignore[no-any-return]
        packed = pack_padded_sequence(steps, lengths.cpu(), enforce_sorted=False)
        y, state = self.stock(packed)
        return pad_packed_sequence(y, total_length=len(steps))[0], state


def with_stock_lstm(model: nn.Module) -> nn.Module:
    """Copy a model, with `torch.nn.LSTM` where it has `fastrnn.LSTM`, of the same weights."""
    stock = copy.deepcopy(model)
    for module in list(stock.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LSTM):
                setattr(module, name, _stock_layer(child))
    return stock


def _stock_layer(layer: LSTM) -> StockLSTM:
    stock = nn.LSTM(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
        proj_size=layer.proj_size,
    )
    stock.load_state_dict(layer.state_dict())  # fails on options that torch.nn.LSTM lacks
    return StockLSTM(stock)


def measure_speed(recipe: Recipe, strips: StripDataset, seconds: float) -> dict[str, Any]:
    """Time a recipe's training steps with both layers, in turns.

    Parameters
    ----------
    recipe
        What to train.
    strips
        Its training strips.
    seconds
        About how long to measure.
    """
    torch.manual_seed(0)
    ours = recipe.build(strips).train()
    stock = with_stock_lstm(ours).train()
    batches = _typical(strips, recipe.training.max_padded_steps)
    for batch in batches:
        _check_same(ours, stock, batch)
    compared = side_by_side(
        _steps(stock, batches), _steps(ours, batches), seconds=seconds, min_rounds=3
    )
    return {
        "recipe": recipe.described_steps(),
        "torch_steps_per_second": len(batches) * 1e3 / compared.baseline_ms.p50,
        "fastrnn_steps_per_second": len(batches) * 1e3 / compared.ours_ms.p50,
        "ratio": compared.ratio.as_dict(),
        "rounds": compared.rounds,
        "environment": environment(),
    }


def _typical(strips: StripDataset, max_padded_steps: int) -> list[StripBatch]:
    """Batches at equal distances between the shortest strips and the longest."""
    plan = strip_batches(strips, max_padded_steps=max_padded_steps, shuffle=False).plan
    chosen = np.unique(np.linspace(0, len(plan) - 1, BATCHES + 2).round().astype(int)[1:-1])
    return [collate(strips, plan[number]) for number in chosen]


def _loss(model: nn.Module, batch: StripBatch) -> Tensor:
    return F.cross_entropy(model(batch.strips, batch.lengths), batch.targets)


def _steps(model: nn.Module, batches: list[StripBatch]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        for batch in batches:
            optimizer.zero_grad()
            _loss(model, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return train


def _check_same(ours: nn.Module, stock: nn.Module, batch: StripBatch) -> None:
    """Fail unless both models give the same gradients; without dropout, which draws anew."""
    gradients = []
    for model in (ours, stock):
        model.eval()
        gradients.append(torch.autograd.grad(_loss(model, batch), list(model.parameters())))
        model.train()
    for (name, _), got, want in zip(ours.named_parameters(), *gradients, strict=True):
        difference = ((got - want).abs().max() / want.abs().max().clamp_min(1e-6)).item()
        if not difference < TOLERANCE:  # NaN too
            sys.exit(
                f"the gradient of {name} differs by {difference:.1e} of its largest element, so "
                "the speed means nothing"
            )
