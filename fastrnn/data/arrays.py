"""Strips that are in memory already."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastrnn.data.checks import check_labels, positive_int
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.image import scale_strip


class StripArrays(StripDataset):
    """Strips given as arrays.

    Parameters
    ----------
    strips
        Arrays ``[H, W]`` or ``[C, H, W]``, each of its own width; uint8, or float in [0, 1].
    targets
        ``[N]`` class numbers (-1: unlabelled), or class names ("": unlabelled).
    labels
        Class names. By default the names in ``targets``, sorted, or "0", "1", ... up to the
        largest number in ``targets``.
    height
        Scale every strip to so many rows, aspect kept. By default all must have one height.

    Raises
    ------
    ValueError, TypeError
        If a strip or a target is not as it should be; names it.

    Examples
    --------
    >>> strips = [np.zeros((28, 200), np.uint8), np.ones((28, 310), np.float32)]
    >>> data = StripArrays(strips, ["blank", "white"])
    >>> data.labels, data.lengths.tolist(), int(data[1][0].max())
    (('blank', 'white'), [200, 310], 255)
    """

    def __init__(
        self,
        strips: Sequence[ArrayLike],
        targets: ArrayLike,
        labels: Sequence[str] | None = None,
        *,
        height: int | None = None,
    ) -> None:
        pixels = [_as_pixels(f"strips[{number}]", strip) for number, strip in enumerate(strips)]
        if not pixels:
            raise ValueError("strips is empty; give at least one strip")
        if height is not None:
            height = positive_int("height", height)
            pixels = [scale_strip(strip, height) for strip in pixels]
        channels, rows, _ = pixels[0].shape
        for number, strip in enumerate(pixels):
            if strip.shape[:2] != (channels, rows):
                raise ValueError(
                    f"strips[{number}] has {strip.shape[0]} channels and {strip.shape[1]} rows, "
                    f"but strips[0] has {channels} and {rows}; "
                    "give height= to scale all strips to one height"
                )
        names, numbers = _named_targets(np.asarray(targets), labels)
        self._strips = pixels
        super().__init__(
            labels=names,
            targets=numbers,
            lengths=[strip.shape[-1] for strip in pixels],
            height=rows,
            channels=channels,
        )

    def read_strip(self, index: int) -> Tensor:
        """Copy the array of strip ``index``."""
        return torch.tensor(self._strips[index])


def _as_pixels(name: str, strip: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(strip)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}, but must be [H, W] or [C, H, W]")
    array = array.reshape(-1, *array.shape[-2:])
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, but must be uint8 or float")
    least, most = float(array.min()), float(array.max())
    if not (least >= 0 and most <= 1):  # false for NaN too
        raise ValueError(
            f"{name} has values in [{least:g}, {most:g}], but floats must be in [0, 1]"
        )
    pixels: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return pixels


def _named_targets(
    targets: np.ndarray, labels: Sequence[str] | None
) -> tuple[tuple[str, ...], ArrayLike]:
    """Labels and class numbers, from class numbers or class names."""
    if targets.dtype.kind != "U":
        if labels is None:
            numeric = targets.size and np.issubdtype(targets.dtype, np.integer)
            labels = [str(k) for k in range(int(targets.max()) + 1 if numeric else 0)]
        return check_labels(labels), targets
    names = check_labels(sorted(set(targets.tolist()) - {""}) if labels is None else labels)
    target_of = {name: target for target, name in enumerate(names)} | {"": UNLABELLED}
    for number, name in enumerate(targets.tolist()):
        if name not in target_of:
            raise ValueError(f"targets[{number}] is {name!r}, which is not among labels {names}")
    return names, [target_of[name] for name in targets.tolist()]
