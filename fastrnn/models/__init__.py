"""Classifiers of image strips, and the folders they are saved in."""

from fastrnn.models.bundle import BundleError, load_bundle, save_bundle
from fastrnn.models.strip_classifier import StripClassifier, StripClassifierConfig

__all__ = [
    "BundleError",
    "StripClassifier",
    "StripClassifierConfig",
    "load_bundle",
    "save_bundle",
]
