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

VARIANTS = ("coupled_gates", "layer_norm", "reset", "recurrent_dropout", "zoneout")
"""What a layer may do beyond the equations of `torch.nn.LSTM`."""


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
    norm : Tensor or None
        For layer normalisation, ``[D, (2G + 2) * H]`` with G gates: gains of the input's and of the
        state's share of the gates, gain and shift of the cell state.
    lengths : Tensor or None
        Valid steps of each sequence, ``[B]``, int32 or int64, from 0 to T.
    reset : Tensor or None
        Steps before which the state becomes zero, ``[T, B]``, bool.
    recurrent_mask : Tensor or None
        What the state is multiplied by where it enters ``w_hh``, ``[D, B, R]``.
    zoneout : Tensor or None
        Share of the state before that a step keeps, ``[D, T or 1, B or 1, R + H]``.

    Notes
    -----
    Everything up to ``norm`` can be differentiated. Gates are coupled, ``f = 1 - i``, where the
    weights have three gates, i, g, o, instead of four. `reference` has the equations.
    """

    x: Tensor
    w_ih: Tensor
    w_hh: Tensor
    bias: Tensor | None = None
    w_hr: Tensor | None = None
    h_0: Tensor | None = None
    c_0: Tensor | None = None
    norm: Tensor | None = None
    lengths: Tensor | None = None
    reset: Tensor | None = None
    recurrent_mask: Tensor | None = None
    zoneout: Tensor | None = None

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        """The tensors that can have gradients: all before ``lengths``."""
        return self[:8]

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
    variants : tuple of str
        What the cell does beyond `torch.nn.LSTM`'s, in the terms of `VARIANTS`.
    checkpoint_every : int
        Steps from one state that is kept for backward to the next; 0 where a backend keeps what it
        needs of every step. Backends themselves see 0 only.
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
    variants: tuple[str, ...] = ()
    checkpoint_every: int = 0

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of y: ``[T, B, D * R]``, or ``[0, B, D * R]`` where nobody needs it."""
        for_backward = self.training and not self.checkpoint_every
        steps = self.seq_len if for_backward or not self.last_state_only else 0
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
        _check(args)
        return cls.of(args, training=training, last_state_only=last_state_only)

    @classmethod
    def of(cls, args: LayerArgs, *, training: bool, last_state_only: bool = False) -> Problem:
        """Describe tensors that have been checked."""
        x, w_ih, w_hh, w_hr = args.x, args.w_ih, args.w_hh, args.w_hr
        seq_len, batch_size, input_size = x.shape
        num_directions, rows, _ = w_ih.shape
        hidden_size = w_hh.shape[2] if w_hr is None else w_hr.shape[2]
        return cls(
            seq_len=seq_len,
            batch_size=batch_size,
            input_size=input_size,
            hidden_size=hidden_size,
            num_directions=num_directions,
            proj_size=0 if w_hr is None else w_hr.shape[1],
            dtype=x.dtype,
            device=x.device,
            variable_length=args.lengths is not None,
            training=training,
            last_state_only=last_state_only,
            allow_tf32=x.dtype == torch.float32 and x.device.type == "cuda" and rnn_allows_tf32(),
            variants=_variants(args, rows == 3 * hidden_size),
        )


def _variants(args: LayerArgs, coupled_gates: bool) -> tuple[str, ...]:
    """Names of what a call does beyond the plain cell, in the order of `VARIANTS`."""
    there = (
        coupled_gates,
        args.norm is not None,
        args.reset is not None,
        args.recurrent_mask is not None,
        args.zoneout is not None,
    )
    if not any(there):
        return ()
    return tuple(name for name, is_there in zip(VARIANTS, there, strict=True) if is_there)


def _check(args: LayerArgs) -> None:
    """Check the tensors of a call against each other."""
    x, w_ih, w_hh = args.x, args.w_ih, args.w_hh
    _check_floating("x", x)
    if x.dim() != 3:
        raise ValueError(f"x has shape {_shape(x)}; it should be [T, B, I]")
    seq_len, batch_size, input_size = x.shape
    if seq_len == 0:
        raise ValueError("x has no time steps (shape [0, B, I]); T should be at least 1")
    num_directions, num_gates, hidden_size = _weight_sizes(args)
    if w_ih.shape[2] != input_size:
        raise ValueError(
            f"x has {input_size} features, but w_ih {_shape(w_ih)} takes {w_ih.shape[2]}"
        )
    proj_size = 0
    if args.w_hr is not None:
        proj_size = args.w_hr.shape[1]
        check_like(x, "w_hr", args.w_hr, (num_directions, proj_size, hidden_size))
    state_size = proj_size or hidden_size
    gates = num_gates * hidden_size
    check_like(x, "w_ih", w_ih, (num_directions, gates, input_size))
    check_like(x, "w_hh", w_hh, (num_directions, gates, state_size))
    if args.bias is not None:
        check_like(x, "bias", args.bias, (num_directions, gates))
    if args.h_0 is not None:
        check_like(x, "h_0", args.h_0, (num_directions, batch_size, state_size))
    if args.c_0 is not None:
        check_like(x, "c_0", args.c_0, (num_directions, batch_size, hidden_size))
    if args.lengths is not None:
        _check_lengths_of(x, args.lengths)
    _check_options(args, gates, state_size)


def _weight_sizes(args: LayerArgs) -> tuple[int, int, int]:
    """Directions, gates and hidden units, as the weights have them."""
    w_ih, w_hh, w_hr = args.w_ih, args.w_hh, args.w_hr
    for name, weight in (("w_ih", w_ih), ("w_hh", w_hh), ("w_hr", w_hr)):
        if weight is not None and (weight.dim() != 3 or weight.shape[0] not in (1, 2)):
            raise ValueError(
                f"{name} has shape {_shape(weight)}; it should have three dimensions, the first of "
                "size D = 1 or 2"
            )
    rows, hidden_size = w_ih.shape[1], w_hh.shape[2] if w_hr is None else w_hr.shape[2]
    if hidden_size == 0 or rows == 0:
        raise ValueError("w_ih has no hidden units; H should be at least 1")
    if rows not in (4 * hidden_size, 3 * hidden_size):
        source = "w_hh" if w_hr is None else "w_hr"
        raise ValueError(
            f"w_ih has shape {_shape(w_ih)}, but {source} {_shape(w_hh if w_hr is None else w_hr)} "
            f"is of {hidden_size} hidden units: it should be [D, {4 * hidden_size}, I], or "
            f"[D, {3 * hidden_size}, I] with coupled gates"
        )
    return w_ih.shape[0], rows // hidden_size, hidden_size


def _check_lengths_of(x: Tensor, lengths: Tensor) -> None:
    seq_len, batch_size, _ = x.shape
    if lengths.device not in (x.device, torch.device("cpu")):
        raise ValueError(
            f"lengths is on {lengths.device}; it should be on the CPU or, as x, on {x.device}"
        )
    check_lengths(lengths, batch_size, seq_len)
    copied = lengths.device != x.device and is_capturing(x.device)
    if copied and not leaves_nothing_out(lengths, seq_len):
        raise ValueError(
            "lengths is on the CPU, from where a CUDA graph cannot capture a copy; it "
            f"should be on {x.device} as long as one is captured"
        )


def _check_options(args: LayerArgs, gates: int, state_size: int) -> None:
    """Check what goes beyond the plain cell."""
    x, num_directions = args.x, args.w_ih.shape[0]
    seq_len, batch_size, _ = x.shape
    hidden_size = args.w_hh.shape[2] if args.w_hr is None else args.w_hr.shape[2]
    if args.norm is not None:
        check_like(x, "norm", args.norm, (num_directions, 2 * gates + 2 * hidden_size))
    if args.reset is not None:
        check_reset(args.reset, (seq_len, batch_size))
        if args.reset.device != x.device:
            raise ValueError(f"reset is on {args.reset.device}; it should be, as x, on {x.device}")
    if args.recurrent_mask is not None:
        shape = (num_directions, batch_size, state_size)
        check_like(x, "recurrent_mask", args.recurrent_mask, shape)
    if args.zoneout is not None:
        steps, rows = args.zoneout.shape[1:3] if args.zoneout.dim() == 4 else (seq_len, batch_size)
        steps, rows = 1 if steps == 1 else seq_len, 1 if rows == 1 else batch_size
        full = (num_directions, steps, rows, state_size + hidden_size)
        check_like(x, "zoneout", args.zoneout, full)


def check_reset(reset: Tensor, shape: tuple[int, ...]) -> None:
    """Check a mask of the steps before which the state becomes zero.

    Raises
    ------
    TypeError
        If it is no tensor, or its dtype is not bool.
    ValueError
        If it does not have this shape.
    """
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool:
        is_tensor = isinstance(reset, Tensor)
        what = f"has dtype {reset.dtype}" if is_tensor else f"is a {type(reset).__name__}"
        raise TypeError(f"reset {what}; it should be a tensor of torch.bool")
    if tuple(reset.shape) != shape:
        raise ValueError(
            f"reset has shape {_shape(reset)}; it should be {list(shape)}, one for each step"
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
    if not can_be_read(lengths):
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
    if lengths is None or not can_be_read(lengths):
        return False
    # A trace would keep what is true of its example for all calls to come.
    return torch._C._get_tracing_state() is None and int(lengths.min()) == seq_len


def can_be_read(lengths: Tensor) -> bool:
    """Whether there are values that can be read without waiting for a GPU or breaking a trace."""
    if torch.compiler.is_compiling() or lengths.device.type != "cpu" or lengths.shape[0] == 0:
        return False
    if torch._C._are_functorch_transforms_active():  # one of many, none of which is there alone
        return False
    return type(lengths.detach()) is Tensor  # a fake or functional tensor has no values


def _check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; it should be a tensor")
    if tensor.dtype not in _FLOAT_DTYPES:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}; it should be float32, float64, float16 or bfloat16"
        )


def check_like(x: Tensor, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Check a tensor's shape, and its dtype and device against those of x.

    Raises
    ------
    TypeError
        If it is no tensor, or of another dtype.
    ValueError
        If its shape or its device is another.
    """
    _check_floating(name, tensor)
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {_shape(tensor)}; it should be {list(shape)}")
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name} has dtype {tensor.dtype}, but x has {x.dtype}; they should agree")
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device}, but x is on {x.device}; move one of them")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
