"""Fast LSTM kernels for long sequences, and classifiers of image strips built on them."""

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# Run from a checkout, this folder shadows the installed package; its native module is found there.
__path__ = extend_path(__path__, __name__)

from fastrnn._version import __version__
from fastrnn.nn.acceleration import accelerate, restore
from fastrnn.nn.lstm import LSTM
from fastrnn.nn.state import LSTMState
from fastrnn.recurrence.dispatch import use_backend

if TYPE_CHECKING:
    from fastrnn.models.strip_classifier import StripClassifier

__all__ = [
    "LSTM",
    "LSTMState",
    "StripClassifier",
    "__version__",
    "accelerate",
    "restore",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name == "StripClassifier":  # on demand: the engine alone should import quickly
        from fastrnn.models.strip_classifier import StripClassifier

        return StripClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
