"""Predictor: classifies files and arrays with a saved model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastrnn.data import UNLABELLED, StripArrays, StripDataset, StripDecodeError
from fastrnn.data.reading import StripReader
from fastrnn.deploy.reading import check_fits, model_reader
from fastrnn.models import EncoderClassifier
from fastrnn.training.config import DEFAULT_MAX_PADDED_STEPS
from fastrnn.training.evaluation import predict_probabilities

StripLike: TypeAlias = str | os.PathLike[str] | NDArray[np.generic] | Tensor

_Key = TypeVar("_Key")
_Content = TypeVar("_Content")

# Files decoded and predicted together: enough to find neighbours of similar length. Those of a
# chunk have so many bytes of pixels, or the last one makes them more.
_CHUNK = 256
_CHUNK_BYTES = 1 << 28


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
    reader
        How files become strips. By default as in the model's training, if the model says how;
        otherwise files are images.

    Attributes
    ----------
    model : EncoderClassifier
        The model, in evaluation mode.
    reader : StripReader or None
        How files become strips; None if that is not known.
    labels : tuple of str
        The classes it knows.

    Raises
    ------
    fastrnn.models.BundleError
        If ``bundle`` holds no model that can be loaded, or ``reader`` does not fit the model; a
        ValueError.

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
        reader: StripReader | None = None,
    ) -> None:
        if isinstance(bundle, EncoderClassifier):
            self.model = bundle.to(device).eval()
        else:
            self.model = EncoderClassifier.load(bundle, map_location=device)
        if reader is None:
            self.reader = model_reader(self.model)
        else:
            check_fits(reader, self.model)
            self.reader = reader
        self.labels = self.model.labels
        self._height = self.model.config.height
        self._channels = self.model.config.in_channels
        self._max_padded_steps = max_padded_steps

    def predict(self, strips: Iterable[StripLike]) -> list[Prediction]:
        """Classify strips.

        Parameters
        ----------
        strips
            Files, which the reader reads, or arrays ``[H, W]`` or ``[C, H, W]`` of uint8 or of
            floats in [0, 1], which are scaled to the model's height with their aspect kept.

        Returns
        -------
        list of Prediction
            In the order of ``strips``.

        Raises
        ------
        StripDecodeError
            If a file can't be read; a ValueError that names it.
        ValueError, TypeError
            If an array is not a strip, or has other channels than the model; or if there are files,
            and the model does not say how to read them.
        ModuleNotFoundError
            If a library is missing that reads such files.
        """
        if isinstance(strips, (str, os.PathLike)):
            raise TypeError(f"strips is {strips!r}, but must be a sequence of files or arrays")
        predictions: list[Prediction] = []
        for chunk in _chunks((None, self._pixels(strip)) for strip in strips):
            predictions += self._predict_pixels([pixels for _, pixels in chunk])
        return predictions

    def predict_files(
        self, paths: Iterable[str | os.PathLike[str]]
    ) -> Iterator[tuple[Path, Prediction | StripDecodeError]]:
        """Classify files one after the other, going on after those that can't be read.

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

        Raises
        ------
        ValueError, ModuleNotFoundError
            If it is not known how to read files, or a library is missing that reads them.
        """
        for chunk in _chunks((Path(path), self._read_or_error(path)) for path in paths):
            pixels = [content for _, content in chunk if isinstance(content, np.ndarray)]
            predictions = iter(self._predict_pixels(pixels))
            for path, content in chunk:
                yield path, next(predictions) if isinstance(content, np.ndarray) else content

    def predict_dataset(self, strips: StripDataset) -> list[Prediction]:
        """Classify all strips of a dataset, in their order.

        Parameters
        ----------
        strips
            Of the model's height and channels; their targets are not looked at.

        Raises
        ------
        StripDecodeError
            If a strip can't be read.
        ValueError
            If they have another height or other channels.
        """
        for name, found, needed in (
            ("rows", strips.height, self._height),
            ("channels", strips.channels, self._channels),
        ):
            if found != needed:
                raise ValueError(f"the strips have {found} {name}, but the model needs {needed}")
        probabilities = predict_probabilities(
            self.model, strips, max_padded_steps=self._max_padded_steps
        )
        return [self._prediction(row) for row in probabilities.tolist()]

    def _read(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        if self.reader is None:
            raise ValueError(
                f"the model does not say how files become its strips of {self._channels} channels: "
                "give reader=, or arrays"
            )
        return self.reader.read(path)

    def _read_or_error(self, path: str | os.PathLike[str]) -> NDArray[np.uint8] | StripDecodeError:
        try:
            return self._read(path)
        except StripDecodeError as error:
            return error

    def _pixels(self, strip: StripLike) -> NDArray[np.generic]:
        if isinstance(strip, (str, os.PathLike)):
            return self._read(strip)
        return strip.detach().cpu().numpy() if isinstance(strip, Tensor) else np.asarray(strip)

    def _predict_pixels(self, pixels: Sequence[NDArray[np.generic]]) -> list[Prediction]:
        if not pixels:
            return []
        targets = np.full(len(pixels), UNLABELLED)
        return self.predict_dataset(StripArrays(pixels, targets, self.labels, height=self._height))

    def _prediction(self, probabilities: list[float]) -> Prediction:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return Prediction(
            label=self.labels[best],
            confidence=probabilities[best],
            probabilities=dict(zip(self.labels, probabilities, strict=True)),
        )


def _chunks(items: Iterable[tuple[_Key, _Content]]) -> Iterator[list[tuple[_Key, _Content]]]:
    """Collect items until they are many, or their pixels are."""
    chunk: list[tuple[_Key, _Content]] = []
    size = 0
    for key, content in items:
        chunk.append((key, content))
        size += content.nbytes if isinstance(content, np.ndarray) else 0
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
