"""What one layer's call looks like, and the one place that checks its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastrnn.recurrence.hardware import is_capturing
from fastrnn.recurrence.precision import rnn_allows_tf32

_FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LENGTH_DTYPES = (torch.int32, torch.int64)


class LayerArgs(NamedTuple):
    """The tensors of one layer's call; D directions side by side.

    Attributes
    ----------
    x : Tensor
        Input, ``[T, B, I]``, time first.
    w_ih, w_hh : Tensor
        Weights ``[D, 4H, I]`` and ``[D, 4H, R]``, gate order i, f, g, o. R is the size of the
        recurrent state: H, or P with a projection.
    bias : Tensor or None
        ``[D, 4H]``, the sum of ``torch.nn.LSTM``'s two biases.
    w_hr : Tensor or None
        Projection ``[D, P, H]``.
    h_0, c_0 : Tensor or None
        Initial state ``[D, B, R]`` and ``[D, B, H]``; zeros when absent.
    lengths : Tensor or None
        Valid steps of each sequence, ``[B]``, int32 or int64, from 0 to T.
    """

    x: Tensor
    w_ih: Tensor
    w_hh: Tensor
    bias: Tensor | None = None
    w_hr: Tensor | None = None
    h_0: Tensor | None = None
    c_0: Tensor | None = None
    lengths: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerArgs:
        """Apply a function to every tensor that is there."""
        x, w_ih, w_hh, *optional = self
        changed = [None if t is None else change(t) for t in optional]
        return LayerArgs(change(x), change(w_ih), change(w_hh), *changed)


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything about a call that a backend's choice may depend on.

    Attributes
    ----------
    seq_len, batch_size, input_size, hidden_size, num_directions, proj_size : int
        T, B, I, H, D and P; ``proj_size`` is 0 without a projection.
    dtype, device : torch.dtype, torch.device
        Of the input and of every other floating-point tensor.
    variable_length : bool
        Whether lengths are given.
    training : bool
        Whether a backward pass may follow.
    last_state_only : bool
        Whether only ``h_n`` and ``c_n`` are wanted; without ``training``, y is then not written.
    allow_tf32 : bool
        Whether float32 products may round their operands to TF32; false on a CPU.
    """

    seq_len: int
    batch_size: int
    input_size: int
    hidden_size: int
    num_directions: int
    proj_size: int
    dtype: torch.dtype
    device: torch.device
    variable_length: bool = False
    training: bool = False
    last_state_only: bool = False
    allow_tf32: bool = False

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of y: ``[T, B, D * R]``, or ``[0, B, D * R]`` where nobody needs it."""
        steps = 0 if self.last_state_only and not self.training else self.seq_len
        return (steps, self.batch_size, self.num_directions * self.state_size)

    @property
    def state_size(self) -> int:
        """Size R of the recurrent state and of one direction's output."""
        return self.proj_size or self.hidden_size

    @classmethod
    def from_args(
        cls, args: LayerArgs, *, training: bool, last_state_only: bool = False
    ) -> Problem:
        """Check the tensors of a call against each other and describe it.

        Raises
        ------
        TypeError
            If a tensor has the wrong dtype, or is no tensor.
        ValueError
            If a shape, a device or a length is wrong.
        """
        x, w_ih, w_hh = args.x, args.w_ih, args.w_hh
        _check_floating("x", x)
        if x.dim() != 3:
            raise ValueError(f"x has shape {_shape(x)}; it should be [T, B, I]")
        seq_len, batch_size, input_size = x.shape
        if seq_len == 0:
            raise ValueError("x has no time steps (shape [0, B, I]); T should be at least 1")
        if w_ih.dim() != 3 or w_ih.shape[0] not in (1, 2) or w_ih.shape[1] % 4 != 0:
            raise ValueError(f"w_ih has shape {_shape(w_ih)}; it should be [D, 4H, I], D = 1 or 2")
        num_directions, hidden_size = w_ih.shape[0], w_ih.shape[1] // 4
        if hidden_size == 0:
            raise ValueError("w_ih has no hidden units; H should be at least 1")
        if w_ih.shape[2] != input_size:
            raise ValueError(
                f"x has {input_size} features, but w_ih {_shape(w_ih)} takes {w_ih.shape[2]}"
            )
        proj_size = 0
        if args.w_hr is not None:
            if args.w_hr.dim() != 3:
                raise ValueError(f"w_hr has shape {_shape(args.w_hr)}; it should be [D, P, H]")
            proj_size = args.w_hr.shape[1]
            _check_like(x, "w_hr", args.w_hr, (num_directions, proj_size, hidden_size))
        state_size = proj_size or hidden_size
        gates = 4 * hidden_size
        _check_like(x, "w_ih", w_ih, (num_directions, gates, input_size))
        _check_like(x, "w_hh", w_hh, (num_directions, gates, state_size))
        if args.bias is not None:
            _check_like(x, "bias", args.bias, (num_directions, gates))
        if args.h_0 is not None:
            _check_like(x, "h_0", args.h_0, (num_directions, batch_size, state_size))
        if args.c_0 is not None:
            _check_like(x, "c_0", args.c_0, (num_directions, batch_size, hidden_size))
        if args.lengths is not None:
            if args.lengths.device not in (x.device, torch.device("cpu")):
                raise ValueError(
                    f"lengths is on {args.lengths.device}; it should be on the CPU or, as x, on "
                    f"{x.device}"
                )
            check_lengths(args.lengths, batch_size, seq_len)
            copied = args.lengths.device != x.device and is_capturing(x.device)
            if copied and not leaves_nothing_out(args.lengths, seq_len):
                raise ValueError(
                    "lengths is on the CPU, from where a CUDA graph cannot capture a copy; it "
                    f"should be on {x.device} as long as one is captured"
                )
        return cls(
            seq_len=seq_len,
            batch_size=batch_size,
            input_size=input_size,
            hidden_size=hidden_size,
            num_directions=num_directions,
            proj_size=proj_size,
            dtype=x.dtype,
            device=x.device,
            variable_length=args.lengths is not None,
            training=training,
            last_state_only=last_state_only,
            allow_tf32=x.dtype == torch.float32 and x.device.type == "cuda" and rnn_allows_tf32(),
        )


def as_lengths(lengths: Tensor | Sequence[int]) -> Tensor:
    """Turn a sequence of ints into a tensor of lengths; a tensor is returned as it is.

    Raises
    ------
    TypeError
        If it is neither.

    Examples
    --------
    >>> as_lengths([3, 1])
    tensor([3, 1])
    """
    if isinstance(lengths, Tensor):
        return lengths
    try:
        tensor = torch.tensor(list(lengths))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"lengths is {lengths!r}; it should be a tensor or a sequence of integers"
        ) from error
    return tensor.to(torch.int64) if tensor.numel() == 0 else tensor


def check_lengths(lengths: Tensor, batch_size: int, seq_len: int, *, steps: str = "steps") -> None:
    """Check valid lengths of a padded batch: dtype, shape, and values where they can be read.

    Values are checked on the CPU only: reading them from another device, or while tracing, would
    force a synchronisation or break the trace.

    Raises
    ------
    TypeError
        If ``lengths`` is not of dtype int32 or int64.
    ValueError
        If its shape is not ``[B]``, or a value lies outside ``0..seq_len``.
    """
    if lengths.dtype not in _LENGTH_DTYPES:
        raise TypeError(
            f"lengths has dtype {lengths.dtype}; it should be torch.int64 or torch.int32"
        )
    if lengths.dim() != 1 or lengths.shape[0] != batch_size:
        raise ValueError(
            f"lengths has shape {_shape(lengths)}; it should be [{batch_size}], one per sequence"
        )
    if not _can_be_read(lengths):
        return
    low, high = (int(bound) for bound in torch.aminmax(lengths))
    if low < 0 or high > seq_len:
        value = low if low < 0 else high
        position = int((lengths == value).nonzero()[0])
        raise ValueError(
            f"lengths[{position}] is {value}; it should be between 0 and {seq_len}, "
            f"the number of {steps}"
        )


def leaves_nothing_out(lengths: Tensor | None, seq_len: int) -> bool:
    """Whether all sequences are known to be of full length: kernels run faster without lengths."""
    if lengths is None or not _can_be_read(lengths):
        return False
    # A trace would keep what is true of its example for all calls to come.
    return torch._C._get_tracing_state() is None and int(lengths.min()) == seq_len


def _can_be_read(lengths: Tensor) -> bool:
    """Whether there are values that can be read without waiting for a GPU or breaking a trace."""
    if torch.compiler.is_compiling() or lengths.device.type != "cpu" or lengths.shape[0] == 0:
        return False
    return type(lengths.detach()) is Tensor  # a fake or functional tensor has no values


def _check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; it should be a tensor")
    if tensor.dtype not in _FLOAT_DTYPES:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}; it should be float32, float64, float16 or bfloat16"
        )


def _check_like(x: Tensor, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    _check_floating(name, tensor)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {_shape(tensor)}; it should be {list(shape)}")
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name} has dtype {tensor.dtype}, but x has {x.dtype}; they should agree")
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device}, but x is on {x.device}; move one of them")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
