"""Predictor: classifies image files and arrays with a saved model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data import UNLABELLED, StripArrays, StripDecodeError
from fastrnn.data.checks import ValueRange, check_value_range
from fastrnn.data.image import read_image
from fastrnn.models import EncoderClassifier
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.evaluation import predict_probabilities

StripLike: TypeAlias = str | os.PathLike[str] | NDArray[np.generic] | Tensor

_Item = TypeVar("_Item")

_CHUNK = 256  # files decoded and predicted together: enough to find neighbours of similar length


@dataclass(frozen=True)
class Prediction:
    """What a model says about a strip.

    Attributes
    ----------
    label
        The most probable class.
    confidence
        Its probability, as the model sees it.
    probabilities
        The probability of every class.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]


class Predictor:
    """Classifies strips with a saved model.

    Strips of similar length are put into one batch, so that little work goes into padding.

    Parameters
    ----------
    bundle
        The folder that a classifier's `save` wrote, or the classifier.
    device
        Where the model runs.
    max_padded_steps
        Budget of a batch: number of strips times the columns of its longest strip.
    value_range
        The two values of the files that become 0 and 255, the same as in training; see
        `StripFiles`. Arrays are not mapped.

    Attributes
    ----------
    model : EncoderClassifier
        The model, in evaluation mode.
    labels : tuple of str
        The classes it knows.

    Raises
    ------
    fastrnn.models.BundleError
        If ``bundle`` holds no model that can be loaded; a ValueError.

    Examples
    --------
    >>> from fastrnn.models import StripClassifier
    >>> predictor = Predictor(StripClassifier(1, 28, 2, labels=["cat", "dog"]))
    >>> [prediction] = predictor.predict([np.zeros((28, 300), np.uint8)])
    >>> prediction.label in ("cat", "dog"), 0.5 <= prediction.confidence <= 1
    (True, True)
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | EncoderClassifier,
        *,
        device: torch.device | str = "cpu",
        max_padded_steps: int = DEFAULT_MAX_PADDED_STEPS,
        value_range: ValueRange | None = None,
    ) -> None:
        if value_range is not None:
            value_range = check_value_range("value_range", value_range)
        self._value_range = value_range
        if isinstance(bundle, EncoderClassifier):
            self.model = bundle.to(device).eval()
        else:
            self.model = EncoderClassifier.load(bundle, map_location=device)
        self.labels = self.model.labels
        self._height = self.model.config.height
        self._channels = self.model.config.in_channels
        self._max_padded_steps = max_padded_steps

    def predict(self, strips: Iterable[StripLike]) -> list[Prediction]:
        """Classify strips.

        Parameters
        ----------
        strips
            Image files, or arrays ``[H, W]`` or ``[C, H, W]`` of uint8 or of floats in [0, 1]. All
            are scaled to the model's height with their aspect kept; files are made grey or RGB
            as the model needs it.

        Returns
        -------
        list of Prediction
            In the order of ``strips``.

        Raises
        ------
        StripDecodeError
            If a file can't be read; a ValueError that names it.
        ValueError, TypeError
            If an array is not a strip, or has other channels than the model.
        """
        if isinstance(strips, (str, os.PathLike)):
            raise TypeError(f"strips is {strips!r}, but must be a sequence of files or arrays")
        predictions: list[Prediction] = []
        for chunk in _chunks(strips):
            predictions += self._predict_pixels([self._pixels(strip) for strip in chunk])
        return predictions

    def predict_files(
        self, paths: Iterable[str | os.PathLike[str]]
    ) -> Iterator[tuple[Path, Prediction | StripDecodeError]]:
        """Classify image files one after the other, going on after those that can't be read.

        Memory stays small however many files there are.

        Parameters
        ----------
        paths
            The files.

        Yields
        ------
        path : pathlib.Path
            The file.
        outcome : Prediction or StripDecodeError
            The prediction, or what was wrong with the file.
        """
        for chunk in _chunks(paths):
            read = [(Path(path), self._read(path)) for path in chunk]
            pixels = [content for _, content in read if isinstance(content, np.ndarray)]
            predictions = iter(self._predict_pixels(pixels))
            for path, content in read:
                yield path, next(predictions) if isinstance(content, np.ndarray) else content

    def _decode(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        return read_image(path, self._height, self._channels, self._value_range)

    def _read(self, path: str | os.PathLike[str]) -> NDArray[np.uint8] | StripDecodeError:
        try:
            return self._decode(path)
        except StripDecodeError as error:
            return error

    def _pixels(self, strip: StripLike) -> NDArray[np.generic]:
        if isinstance(strip, (str, os.PathLike)):
            return self._decode(strip)
        return strip.detach().cpu().numpy() if isinstance(strip, Tensor) else np.asarray(strip)

    def _predict_pixels(self, pixels: Sequence[NDArray[np.generic]]) -> list[Prediction]:
        if not pixels:
            return []
        targets = np.full(len(pixels), UNLABELLED)
        strips = StripArrays(pixels, targets, self.labels, height=self._height)
        if strips.channels != self._channels:
            raise ValueError(
                f"the strips have {strips.channels} channels, but the model needs {self._channels}"
            )
        probabilities = predict_probabilities(
            self.model, strips, max_padded_steps=self._max_padded_steps
        )
        return [self._prediction(row) for row in probabilities.tolist()]

    def _prediction(self, probabilities: list[float]) -> Prediction:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return Prediction(
            label=self.labels[best],
            confidence=probabilities[best],
            probabilities=dict(zip(self.labels, probabilities, strict=True)),
        )


def _chunks(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, _CHUNK)):
        yield chunk
