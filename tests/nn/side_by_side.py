"""`torch.nn.LSTM` and `fastrnn.LSTM` with the same weights, on the same inputs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import fastrnn

State = tuple[Tensor, Tensor]


def make_pair(*sizes: int, seed: int = 0, **options: object) -> tuple[nn.LSTM, fastrnn.LSTM]:
    """Stock and ours, with equal weights."""
    torch.manual_seed(seed)
    stock = nn.LSTM(*sizes, **options)
    ours = fastrnn.LSTM(*sizes, **options)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def make_state(layer: nn.RNNBase, *batch: int, seed: int = 1) -> State:
    """Random ``h_0`` and ``c_0`` that ask for gradients; without `batch` for one sequence."""
    rng = torch.Generator().manual_seed(seed)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    dtype = layer.weight_ih_l0.dtype
    h_0, c_0 = (
        torch.randn(rows, *batch, size, generator=rng, dtype=dtype).requires_grad_()
        for size in (layer.proj_size or layer.hidden_size, layer.hidden_size)
    )
    return h_0, c_0


def flat(result: tuple[Tensor | PackedSequence, State]) -> list[Tensor]:
    """y, h_n and c_n of a call."""
    y, (h_n, c_n) = result
    return [y.data if isinstance(y, PackedSequence) else y, h_n, c_n]


def gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor], seed: int = 2) -> list[Tensor]:
    """Gradients of a random weighting of all outputs, the same for the same shapes."""
    rng = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=rng, dtype=o.dtype) for o in outputs]
    return list(torch.autograd.grad(outputs, leaves, weights))


def assert_equal(got: Sequence[Tensor], want: Sequence[Tensor], label: object = "") -> None:
    """Equal but for rounding, as torch's own tests compare; the label says which failed."""
    for position, (a, b) in enumerate(zip(got, want, strict=True)):
        where = f"{label}, tensor {position}"
        torch.testing.assert_close(a, b, msg=lambda m, where=where: f"{where}: {m}")


def error_of(call: Callable[[], object]) -> Exception:
    """What a call raises; that it raises nothing is an error itself."""
    try:
        call()
    except Exception as error:  # whatever it is, it is what is compared
        return error
    raise AssertionError("the call went through")
