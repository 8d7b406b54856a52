"""Saved models put to use."""

from fastrnn.deploy.explainer import FileExplanation, explain_file
from fastrnn.deploy.predictor import Prediction, Predictor
from fastrnn.deploy.reading import model_reader

__all__ = ["FileExplanation", "Prediction", "Predictor", "explain_file", "model_reader"]
