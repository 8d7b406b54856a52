"""Why a model says what it says: where it looks, and which pixels speak for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.models import checks
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.encoders.scan import ScanEncoder
from fastrnn.models.integrated_gradients import Way, wide_logits
from fastrnn.nn.mode import mode
from fastrnn.nn.pooling import AttentionPooling
from fastrnn.nn.scan import check_strips

__all__ = ["BASELINES", "Explanation", "explain", "spread"]

BASELINES = ("median", "black", "white")


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
    its parameters and their gradients are not touched. Where it classifies a strip by windows, the
    mean of their logits is explained, also if they vote; then only the probabilities, shares of
    votes, are of the vote.

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
        Budget of a batch, so of memory: number of points times the length of the strip or window.

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
    wanted = None if target is None else _class_number(model, target)
    # Gradients are needed whatever the caller is in the middle of.
    with mode(model, training=False), torch.inference_mode(False), torch.enable_grad():
        pixels = _pixels(model, strip)
        start = _start(model, pixels, baseline)
        parts = _parts(model, pixels)
        shares, attention = _said(model, pixels, parts)
        number = int(shares.argmax()) if wanted is None else wanted
        attribution, change = torch.zeros_like(pixels), 0.0
        for part in parts:
            way = Way.of(model, start[..., part], pixels[..., part], number)
            attribution[..., part] += way.integrated(steps, max_padded_steps) / len(parts)
            change += way.change() / len(parts)
    return Explanation(
        label=model.labels[int(shares.argmax())],
        target=model.labels[number],
        probabilities=dict(zip(model.labels, shares.tolist(), strict=True)),
        attention=attention,
        attribution=attribution.float().cpu().numpy(),
        logit_change=change,
        completeness=float(attribution.sum(dtype=torch.float64)) - change,
        vertical=_is_vertical(model, pixels),
    )


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


def _class_number(model: EncoderClassifier, target: Any) -> int:
    """Give the number of a class of a model, named by its label or its number."""
    if isinstance(target, str):
        if target not in model.labels:
            raise ValueError(
                f"target must be one of the labels {', '.join(model.labels)}, got {target!r}"
            )
        return model.labels.index(target)
    return checks.integer("target", target, 0, len(model.labels) - 1)


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
    """Give the baseline [C, H, W]."""
    if not isinstance(baseline, str):
        return _given(model, pixels, baseline)
    checks.choice("baseline", baseline, BASELINES)
    if baseline == "median":
        return pixels.flatten(1).median(1).values[:, None, None].expand_as(pixels)
    return torch.full_like(pixels, 1.0 if baseline == "white" else 0.0)


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


def _parts(model: EncoderClassifier, pixels: Tensor) -> list[slice]:
    """Give the columns of the windows by which the model classifies the strip; one, if it is whole.

    They are those of `fastrnn.data.windows`, without its padding.
    """
    plan, columns = model.windows, pixels.shape[2]
    if plan is None:
        return [slice(0, columns)]
    count = 1 + max(0, -((plan.size - columns) // plan.stride))
    starts = range(0, count * plan.stride, plan.stride)
    return [slice(start, min(start + plan.size, columns)) for start in starts]


def _said(
    model: EncoderClassifier, pixels: Tensor, parts: Sequence[slice]
) -> tuple[Tensor, NDArray[np.float32] | None]:
    """Give the probabilities [K] of a strip, and the attention along it if there is one."""
    with torch.no_grad():
        seen = [_attended(model, pixels[..., part]) for part in parts]
    logits = torch.stack([one for one, _ in seen])
    if model.windows is not None and model.windows.combine == "vote":
        votes = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
        shares = votes.to(logits.dtype) / len(parts)
    else:
        shares = logits.mean(0).softmax(0)
    along = [one for _, one in seen if one is not None]
    if len(parts) == 1 or not along:
        return shares, along[0] if along else None
    attention = np.zeros(pixels.shape[2], np.float32)
    for part, one in zip(parts, along, strict=True):
        attention[part] += one / np.float32(len(parts))
    return shares, attention


def _attended(
    model: EncoderClassifier, pixels: Tensor
) -> tuple[Tensor, NDArray[np.float32] | None]:
    """Give the logits [K] of a window, and the attention along it if there is one."""
    along = _pixels_per_step(model)
    if not along:
        return wide_logits(model(pixels[None])[0]), None
    logits, weights = model(pixels[None], return_attention=True)
    length = pixels.shape[1 if _is_vertical(model, pixels) else 2]
    shares = weights[0].double().cpu().numpy()
    return wide_logits(logits[0]), spread(shares / shares.sum(), along, length)


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
