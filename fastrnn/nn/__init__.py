"""Layers: the drop-in LSTM and its way into models, strips to sequences, and pooling."""

from fastrnn.nn.acceleration import AccelerationReport, accelerate, restore
from fastrnn.nn.lstm import LSTM

__all__ = ["LSTM", "AccelerationReport", "accelerate", "restore"]
