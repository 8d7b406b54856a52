"""Explanations of files, images at the size of the picture that a person sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.reading import StripReader
from fastrnn.deploy.reading import check_fits, model_reader
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
        uint8 ``[C, H, W]``. Of an image the picture at its own size and as it is to be seen, grey
        or RGB as the model reads it, and depth, scaled to it, after that; of other files the strip.
    heat : numpy.ndarray
        float32 ``[H, W]``: how much each pixel of the picture matters. The sum is that of the
        strip's saliency, whatever the sizes of the two are.
    attention : numpy.ndarray or None
        float32 ``[W]``, the share of the attention that each column of the picture gets (of each
        row, if ``explanation.vertical``); they sum to 1. None where the strip has none.
    explanation : Explanation
        Of the strip that the model saw.
    seen : tuple of int
        The first column of the picture that the model saw, and the one after the last: all, but of
        an image too long for the reader's ``max_width``.
    """

    path: Path
    picture: NDArray[np.uint8]
    heat: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    explanation: Explanation
    seen: tuple[int, int]

    @classmethod
    def of_strip(
        cls, path: str | os.PathLike[str], strip: NDArray[np.uint8], explanation: Explanation
    ) -> FileExplanation:
        """Make one whose picture is the strip itself."""
        heat, seen = explanation.saliency(), (0, strip.shape[2])
        return cls(Path(path), strip, heat, explanation.attention, explanation, seen)

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
    reader: StripReader | None = None,
) -> FileExplanation:
    """Explain what a model says of a file, of an image on the picture as it is in the file.

    The file is read as `Predictor` reads it. What is found in the strip of an image is brought back
    to the pixels of the picture: scaled to its size, and put where the strip was taken from.

    Parameters
    ----------
    model
        A classifier, or the folder that its `save` wrote.
    path
        The file.
    target, steps, baseline
        As for `fastrnn.models.explain`.
    reader
        How files become strips, as for `Predictor`.

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
        If the model does not say how to read files, or an argument is wrong.
    ModuleNotFoundError
        If a library is missing that reads such files.

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
    if reader is None:
        reader = model_reader(model)
    else:
        check_fits(reader, model)
    if reader is None:
        raise ValueError(
            "the model does not say how files become its strips of "
            f"{model.config.in_channels} channels: give reader="
        )
    strip = reader.read(path)
    explanation = explain(model, strip, target=target, steps=steps, baseline=baseline)
    picture = reader.picture(path)
    if picture is None:
        return FileExplanation.of_strip(path, strip, explanation)
    return _on_picture(Path(path), picture, reader, explanation)


def _on_picture(
    path: Path, picture: NDArray[np.uint8], reader: StripReader, explanation: Explanation
) -> FileExplanation:
    """Bring what was found in a strip back to the picture that it is a scaled part of."""
    rows, columns = picture.shape[1:]
    whole = reader.full_width(path)
    kept = reader.kept_of(whole)
    outside = (kept.start, whole - kept.stop)  # columns of the whole strip that were left out
    heat = _scaled(np.pad(explanation.saliency(), ((0, 0), outside)), rows, columns)
    attention = explanation.attention
    if attention is not None and explanation.vertical:
        attention = spread(attention, rows / len(attention), rows)
    elif attention is not None:
        attention = spread(np.pad(attention, outside), columns / whole, columns)
    seen = (kept.start * columns // whole, -(-kept.stop * columns // whole))
    return FileExplanation(path, picture, heat, attention, explanation, seen)


def _scaled(saliency: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Scale a saliency to another size with its sum kept."""
    from PIL import Image

    scaled = Image.fromarray(saliency).resize((columns, rows), Image.Resampling.BILINEAR)
    heat = np.asarray(scaled, np.float32)
    total = float(heat.sum())
    return heat * np.float32(saliency.sum() / total if total else 1)
