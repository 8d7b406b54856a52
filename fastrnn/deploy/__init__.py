"""Saved models put to use."""

from fastrnn.deploy.predictor import Prediction, Predictor
from fastrnn.deploy.reading import model_reader

__all__ = ["Prediction", "Predictor", "model_reader"]
