"""Classifiers of image strips, and the folders they are saved in."""

from fastrnn.models.bundle import BundleError, load_bundle, save_bundle
from fastrnn.models.classifier import EncoderClassifier
from fastrnn.models.cnn_lstm import CNNLSTMClassifier, CNNLSTMConfig
from fastrnn.models.config import ConvConfig, ModelConfig, RecurrentConfig
from fastrnn.models.explain import Explanation, explain
from fastrnn.models.fusion import FusionClassifier, FusionConfig
from fastrnn.models.strip_classifier import StripClassifier, StripClassifierConfig
from fastrnn.models.strip_cnn import StripCNN, StripCNNConfig

__all__ = [
    "BundleError",
    "CNNLSTMClassifier",
    "CNNLSTMConfig",
    "ConvConfig",
    "EncoderClassifier",
    "Explanation",
    "FusionClassifier",
    "FusionConfig",
    "ModelConfig",
    "RecurrentConfig",
    "StripCNN",
    "StripCNNConfig",
    "StripClassifier",
    "StripClassifierConfig",
    "explain",
    "load_bundle",
    "save_bundle",
]
