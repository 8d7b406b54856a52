"""Saved models put to use."""

from fastrnn.deploy.explainer import FileExplanation, explain_file
from fastrnn.deploy.predictor import Prediction, Predictor

__all__ = ["FileExplanation", "Prediction", "Predictor", "explain_file"]
