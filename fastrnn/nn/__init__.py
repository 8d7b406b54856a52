"""Layers: the drop-in LSTM, strips to sequences, and pooling."""

from fastrnn.nn.lstm import LSTM

__all__ = ["LSTM"]
