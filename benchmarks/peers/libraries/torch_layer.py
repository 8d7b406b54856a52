"""`torch.nn.LSTM`, and `fastrnn.LSTM`, which is called the same way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn.recurrence.backends import recycling

from ..work import Array, Work

_NAMES = ("weight_ih", "weight_hh", "bias_ih")


class TorchLayer:
    """Torch's layer; where lengths vary it gets a `PackedSequence`, packed beforehand."""

    kind: type[torch.nn.RNNBase] = torch.nn.LSTM

    def __init__(self, work: Work) -> None:
        case = work.case
        self.work = work
        self.layer = self.kind(  # type: ignore[call-arg]
            case.input_size, case.hidden_size, bidirectional=case.bidirectional
        )
        self.layer.load_state_dict(_state_dict(work))
        self.x: Any = torch.from_numpy(work.x)
        self.grad = None if work.grad_y is None else torch.from_numpy(work.grad_y)
        self.lengths = None if work.lengths is None else torch.from_numpy(work.lengths)
        self.adopt_lengths()

    def adopt_lengths(self) -> None:
        """Put x and the gradient into the form in which the layer takes varying lengths."""
        if self.lengths is not None:
            self.x = pack_padded_sequence(self.x, self.lengths, enforce_sorted=False)
            if self.grad is not None:
                packed = pack_padded_sequence(self.grad, self.lengths, enforce_sorted=False)
                self.grad = packed.data

    def prepare(self) -> None:
        """Nothing: torch compiles nothing."""

    def call(self) -> Any:
        return self.layer(self.x)[0]

    def run(self) -> Any:
        if self.grad is None:
            with torch.inference_mode():
                return self.call()
        self.layer.zero_grad()
        y = self.call()
        (y.data if isinstance(y, PackedSequence) else y).backward(self.grad)
        return y

    def results(self, output: Any) -> dict[str, Array]:
        if isinstance(output, PackedSequence):
            output, _ = pad_packed_sequence(output, total_length=self.work.case.seq_len)
        found = {"y": output.detach().numpy()}
        if self.grad is not None:
            for result, name in zip(("w_ih", "w_hh", "bias"), _NAMES, strict=True):
                found[f"grad {result}"] = torch.stack(self._grads(name)).numpy()
        return found

    def _grads(self, name: str) -> list[Tensor]:
        grads = [p.grad for key, p in self.layer.named_parameters() if key.startswith(name)]
        return [grad for grad in grads if grad is not None]


class FastrnnLayer(TorchLayer):
    """Our layer on the backend `cpu`; padding and lengths go in as they are."""

    kind = fastrnn.LSTM

    def __init__(self, work: Work) -> None:
        # What another cell left would not be counted as taken by this one.
        recycling.clear()
        super().__init__(work)

    def adopt_lengths(self) -> None:
        pass

    def call(self) -> Any:
        with fastrnn.use_backend("cpu"):
            return self.layer(self.x, lengths=self.lengths)[0]


def _state_dict(work: Work) -> dict[str, Tensor]:
    state = {}
    for direction, suffix in zip(range(work.directions), ("_l0", "_l0_reverse"), strict=False):
        arrays = (work.w_ih, work.w_hh, work.bias)
        for name, array in zip(_NAMES, arrays, strict=True):
            state[name + suffix] = torch.from_numpy(array[direction])
        state["bias_hh" + suffix] = torch.zeros(work.bias.shape[1])
    return state


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "fastrnn": fastrnn.__version__}


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)
