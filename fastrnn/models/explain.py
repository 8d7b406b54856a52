"""Why a model says what it says: where it looks, and which pixels speak for a class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.models import checks
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.encoders.fusion import modalities_present
from fastrnn.models.encoders.scan import ScanEncoder
from fastrnn.models.fusion import FusionClassifier
from fastrnn.nn.mode import mode
from fastrnn.nn.pooling import AttentionPooling
from fastrnn.nn.scan import check_strips

__all__ = ["BASELINES", "Explanation", "check_baseline", "explain", "explained_class", "spread"]

BASELINES = ("median", "black", "white")

# Fusion takes a modality of nothing but zeros for missing: at a black baseline itself the model may
# be another function than on all of the path from there. So the path begins as near to it as
# float32 can tell from zero, with room for the darkest pixel.
_BEGIN = 1e-30


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for a class in a strip, as `explain` finds it.

    Attributes
    ----------
    label : str
        The most probable class.
    target : str
        The class that is explained.
    probabilities : dict of str to float
        The probability of every class.
    attention : numpy.ndarray or None
        float32 ``[W]``, the share of the attention that each column of the strip gets (each row,
        of a strip that runs from top to bottom); they sum to 1. None where the model has no
        attention, or none that follows the strip.
    attribution : numpy.ndarray
        float32 ``[C, H, W]``: what each pixel adds to the target's logit. Negative where it speaks
        against it.
    logit_change : float
        The target's logit of the strip minus that of the baseline: what attributions should sum to.
    completeness : float
        The sum of the attributions minus `logit_change`. Far from zero means: take more steps.
    vertical : bool
        Whether the strip runs from top to bottom.
    """

    label: str
    target: str
    probabilities: dict[str, float]
    attention: NDArray[np.float32] | None
    attribution: NDArray[np.float32]
    logit_change: float
    completeness: float
    vertical: bool = False

    def saliency(self) -> NDArray[np.float32]:
        """How much each pixel matters, ``[H, W]``: absolute attributions, summed over channels."""
        saliency: NDArray[np.float32] = np.abs(self.attribution).sum(0)
        return saliency

    def along(self) -> NDArray[np.float32]:
        """How much each place along the strip matters: the saliency, summed across it."""
        along: NDArray[np.float32] = self.saliency().sum(1 if self.vertical else 0)
        return along


def explain(
    model: EncoderClassifier,
    strip: Tensor | NDArray[np.generic],
    *,
    target: str | int | None = None,
    steps: int = 32,
    baseline: str | ArrayLike | Tensor = "median",
    max_padded_steps: int = 16_384,
) -> Explanation:
    """Explain what a model says of a strip, by its attention and by integrated gradients [1]_.

    The attributions are the gradients of the target's logit, averaged along a straight path from a
    baseline, an empty strip, to the strip, times the way that each pixel goes. They sum to the
    difference between the two logits, up to an error that falls with `steps`.

    The model runs in evaluation mode, on the device where it is. It has its former mode afterwards;
    its parameters and their gradients are not touched. Windows that its config may ask for are not
    cut: the strip is explained as a whole.

    Parameters
    ----------
    model : EncoderClassifier
        Any model of `fastrnn.models`.
    strip : Tensor or numpy.ndarray [C, H, W]
        uint8 pixels, or float pixels as the model takes them, best in [0, 1].
    target : str or int, optional
        The class to explain: its label, or its number. Default: the most probable one.
    steps : int, default 32
        Points on the path.
    baseline : {"median", "black", "white"} or array, default "median"
        What counts as empty. "median" is the strip's median in each channel, its ground, be it dark
        or light; an array is pixels as those of the strip, of its shape or one that broadcasts to
        it. Pixels that are equal in baseline and strip get no attribution.
    max_padded_steps : int, default 16384
        Budget of a batch, so of memory: number of points times the length of the strip.

    Returns
    -------
    Explanation

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the strip does not fit the model; names it.

    Notes
    -----
    A modality that is missing from a strip of a `FusionClassifier` stays missing on the path.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> import torch
    >>> from fastrnn.models import StripClassifier, explain
    >>> model = StripClassifier(in_channels=1, height=28, num_classes=3, labels=["a", "b", "c"])
    >>> strip = torch.randint(0, 256, (1, 28, 140), dtype=torch.uint8)
    >>> explanation = explain(model, strip, target="b")
    >>> explanation.target, explanation.attribution.shape, explanation.attention.shape
    ('b', (1, 28, 140), (140,))
    >>> abs(explanation.completeness) < 0.01
    True
    """
    if not isinstance(model, EncoderClassifier):
        raise TypeError(f"model must be an EncoderClassifier, got {type(model).__name__}")
    steps = checks.integer("steps", steps, 1, 2**20)
    max_padded_steps = checks.integer("max_padded_steps", max_padded_steps, 1, 2**62)
    wanted = None if target is None else explained_class(model, target)
    # Gradients are needed whatever the caller is in the middle of.
    with mode(model, training=False), torch.inference_mode(False), torch.enable_grad():
        pixels = _pixels(model, strip)
        start = _start(model, pixels, baseline)
        with torch.no_grad():
            logits, attention = _attended(model, pixels)
            number = int(logits.argmax()) if wanted is None else wanted
            begin = model((start + _BEGIN * (pixels - start))[None])[0, number]
        batch_size = max(1, max_padded_steps // max(pixels.shape[1:]))
        gradient = _mean_gradient(model, start, pixels, number, steps, batch_size)
    attribution = (pixels - start) * gradient
    change = float(logits[number]) - float(begin)
    return Explanation(
        label=model.labels[int(logits.argmax())],
        target=model.labels[number],
        probabilities=dict(zip(model.labels, logits.softmax(0).tolist(), strict=True)),
        attention=attention,
        attribution=attribution.float().cpu().numpy(),
        logit_change=change,
        completeness=float(attribution.sum(dtype=torch.float64)) - change,
        vertical=_is_vertical(model, pixels),
    )


def explained_class(model: EncoderClassifier, target: Any) -> int:
    """Give the number of a class of a model, named by its label or its number."""
    if isinstance(target, str):
        if target not in model.labels:
            raise ValueError(
                f"target must be one of the labels {', '.join(model.labels)}, got {target!r}"
            )
        return model.labels.index(target)
    return checks.integer("target", target, 0, len(model.labels) - 1)


def check_baseline(baseline: Any) -> None:
    """Raise ValueError if a baseline is a name, but none of `BASELINES`."""
    if isinstance(baseline, str):
        checks.choice("baseline", baseline, BASELINES)


def spread(shares: ArrayLike, pixels_per_step: float, length: int) -> NDArray[np.float32]:
    """Spread what steps have over the pixels that they stand for; the sum stays.

    Parameters
    ----------
    shares : array [T]
        One number a step.
    pixels_per_step : float
        Pixels that a step stands for. The last one has what is left of `length`; steps of the model
        that see less than a pixel share it.
    length : int
        Pixels.

    Returns
    -------
    numpy.ndarray
        float32 ``[length]``.

    Examples
    --------
    >>> from fastrnn.models.explain import spread
    >>> spread([0.5, 0.25, 0.25], 2, 5).tolist()
    [0.25, 0.25, 0.125, 0.125, 0.25]
    """
    values = np.asarray(shares, np.float64)
    edges = np.minimum(np.arange(len(values) + 1) * pixels_per_step, length)
    before = np.concatenate([[0.0], np.cumsum(values)])
    up_to = np.interp(np.arange(length + 1), edges, before)
    parts: NDArray[np.float32] = np.diff(up_to).astype(np.float32)
    return parts


def _pixels(model: EncoderClassifier, strip: Any) -> Tensor:
    """Give the strip as float pixels [C, H, W] where the model is."""
    if isinstance(strip, np.ndarray):
        strip = torch.from_numpy(np.ascontiguousarray(strip))
    if not isinstance(strip, Tensor):
        raise TypeError(f"strip must be a tensor or an array, got {type(strip).__name__}")
    if strip.dim() != 3:
        raise ValueError(
            f"strip must have 3 dimensions [channels, height, width], got {tuple(strip.shape)}"
        )
    check_strips(strip[None])
    pixels = _as_float(model, strip)
    if not bool(pixels.isfinite().all()):
        raise ValueError("strip must have finite pixels, got NaN or infinity")
    return pixels


def _as_float(model: EncoderClassifier, values: Tensor) -> Tensor:
    """Copy pixels to the model's device, as float32, or float64 where the model has that."""
    parameter = next(model.parameters())
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    pixels = values.detach().to(parameter.device, dtype, copy=True)
    return pixels / 255 if values.dtype == torch.uint8 else pixels


def _start(model: EncoderClassifier, pixels: Tensor, baseline: str | ArrayLike | Tensor) -> Tensor:
    """Give the baseline [C, H, W]; a modality that is missing from the strip is missing there."""
    check_baseline(baseline)
    if not isinstance(baseline, str):
        start = _given(model, pixels, baseline)
    elif baseline == "median":
        start = pixels.flatten(1).median(1).values[:, None, None].expand_as(pixels)
    else:
        start = torch.full_like(pixels, 1.0 if baseline == "white" else 0.0)
    if not isinstance(model, FusionClassifier):
        return start
    sizes = [channels for _, channels in model.config.modalities]
    present = modalities_present(pixels[None], None, sizes)[0]
    channels = present.repeat_interleave(torch.tensor(sizes, device=present.device))
    return torch.where(channels[:, None, None], start, pixels)


def _given(model: EncoderClassifier, pixels: Tensor, baseline: ArrayLike | Tensor) -> Tensor:
    values = baseline if isinstance(baseline, Tensor) else torch.from_numpy(np.array(baseline))
    if values.dtype != torch.uint8 and not values.is_floating_point():
        raise TypeError(f"baseline must hold uint8 or floating-point pixels, got {values.dtype}")
    start = _as_float(model, values)
    if not bool(start.isfinite().all()):
        raise ValueError("baseline must have finite pixels, got NaN or infinity")
    try:
        return start.expand_as(pixels)
    except RuntimeError as error:
        raise ValueError(
            f"baseline must have a shape that broadcasts to the strip's {tuple(pixels.shape)}, got "
            f"{tuple(start.shape)}"
        ) from error


def _attended(
    model: EncoderClassifier, pixels: Tensor
) -> tuple[Tensor, NDArray[np.float32] | None]:
    """Give the logits [K] of a strip, and the attention along it if there is one."""
    along = _pixels_per_step(model)
    if not along:
        return _wide(model(pixels[None])[0]), None
    logits, weights = model(pixels[None], return_attention=True)
    length = pixels.shape[1 if _is_vertical(model, pixels) else 2]
    shares = weights[0].double().cpu().numpy()
    return _wide(logits[0]), spread(shares / shares.sum(), along, length)


def _pixels_per_step(model: EncoderClassifier) -> float:
    """Columns, or rows, that each attention weight stands for; 0 if it stands for none."""
    # Late fusion has neither an encoder nor a pooling of its own.
    if not isinstance(getattr(model, "pooling", None), AttentionPooling):
        return 0
    encoder = model.encoder
    if isinstance(encoder, ScanEncoder) and encoder.scan.scan == "pixels":
        return encoder.scan.stack / model.config.height  # steps go across first
    return encoder.pixels_per_step


def _is_vertical(model: EncoderClassifier, pixels: Tensor) -> bool:
    """Say whether the strip runs from top to bottom; it fits the model."""
    return getattr(model.config, "scan", "") == "rows" or pixels.shape[1] != model.config.height


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _mean_gradient(
    model: EncoderClassifier, start: Tensor, end: Tensor, number: int, steps: int, batch_size: int
) -> Tensor:
    """Average the gradient [C, H, W] of a class's logit over the way from start to end."""
    total = torch.zeros_like(end)
    for shares in _midpoints(steps, batch_size, end):
        strips = (start + shares * (end - start)).requires_grad_()
        logits = model(strips)[:, number]
        (gradients,) = torch.autograd.grad(_wide(logits).sum(), strips)
        total += gradients.sum(0)
    return total / steps


def _midpoints(steps: int, batch_size: int, like: Tensor) -> Iterator[Tensor]:
    """Give the middle of each step as parts [B, 1, 1, 1].

    Of trained models, whose logits have kinks and steep parts along the way, equal steps gave a
    smaller error than as many points of Gauss and Legendre.
    """
    middles = (torch.arange(steps, device=like.device, dtype=like.dtype) + 0.5) / steps
    yield from torch.split(middles[:, None, None, None], batch_size)
