"""Explanations of image files, at the size of the picture that a person sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.checks import ValueRange
from fastrnn.data.image import read_image, read_image_size, scale_strip
from fastrnn.models import EncoderClassifier, Explanation, explain
from fastrnn.models.explain import spread

__all__ = ["FileExplanation", "explain_file"]


@dataclass(frozen=True, eq=False)
class FileExplanation:
    """What speaks for a class in the picture of a file, as `explain_file` finds it.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    picture : numpy.ndarray
        uint8 ``[C, H, W]``, the picture at its own size and as it is to be seen, grey or RGB as the
        model reads it.
    heat : numpy.ndarray
        float32 ``[H, W]``: how much each pixel of the picture matters. The sum is that of the
        strip's saliency, whatever the sizes of the two are.
    attention : numpy.ndarray or None
        float32 ``[W]``, the share of the attention that each column of the picture gets (of each
        row, if ``explanation.vertical``); they sum to 1. None where the strip has none.
    explanation : Explanation
        Of the strip that the model saw, the picture scaled to the model's height.
    """

    path: Path
    picture: NDArray[np.uint8]
    heat: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    explanation: Explanation

    def along(self) -> NDArray[np.float32]:
        """How much each place along the picture matters: the heat, summed across it."""
        along: NDArray[np.float32] = self.heat.sum(1 if self.explanation.vertical else 0)
        return along


def explain_file(
    model: EncoderClassifier | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    steps: int = 32,
    baseline: str | ArrayLike = "median",
    value_range: ValueRange | None = None,
) -> FileExplanation:
    """Explain what a model says of an image file, on the picture as it is in the file.

    The file is read as `Predictor` reads it: as its EXIF orientation says, scaled to the model's
    height. What is found there is scaled back.

    Parameters
    ----------
    model
        A classifier, or the folder that its `save` wrote.
    path
        The file.
    target, steps, baseline
        As for `fastrnn.models.explain`.
    value_range
        The two values of the file that become 0 and 255, as for `Predictor`.

    Returns
    -------
    FileExplanation

    Raises
    ------
    StripDecodeError
        If the file can't be read; a ValueError that names it.
    fastrnn.models.BundleError
        If the folder holds no model that can be loaded; a ValueError.
    ValueError, TypeError
        If the model reads no image files, as their pixels have one channel or three, or an
        argument is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from fastrnn.models import StripClassifier
    >>> model = StripClassifier(1, 28, 2, labels=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.linear_gradient("L").resize((300, 56)).save(f"{folder}/scan.png")
    ...     found = explain_file(model, f"{folder}/scan.png", target="dog")
    >>> found.explanation.attribution.shape, found.heat.shape, found.attention.shape
    ((1, 28, 150), (56, 300), (300,))
    """
    if not isinstance(model, EncoderClassifier):
        model = EncoderClassifier.load(model)
    channels = model.config.in_channels
    if channels not in (1, 3):
        raise ValueError(
            f"model must read grey or RGB pictures (1 or 3 channels), but it needs {channels}"
        )
    picture = read_image(path, read_image_size(path)[1], channels, value_range)
    strip = scale_strip(picture, model.config.height)
    explanation = explain(model, strip, target=target, steps=steps, baseline=baseline)
    rows, columns = picture.shape[1:]
    attention = explanation.attention
    if attention is not None:
        length = rows if explanation.vertical else columns
        attention = spread(attention, length / len(attention), length)
    heat = _scaled(explanation.saliency(), rows, columns)
    return FileExplanation(Path(path), picture, heat, attention, explanation)


def _scaled(saliency: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Scale a saliency to another size with its sum kept."""
    from PIL import Image

    scaled = Image.fromarray(saliency).resize((columns, rows), Image.Resampling.BILINEAR)
    heat = np.asarray(scaled, np.float32)
    total = float(heat.sum())
    return heat * np.float32(saliency.sum() / total if total else 1)
