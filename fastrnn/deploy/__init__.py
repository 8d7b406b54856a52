"""Saved models put to use."""

from fastrnn.deploy.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
