"""Layers: the drop-in LSTM, its state, its way into models, strips to sequences, and pooling."""

from fastrnn.nn.acceleration import AccelerationReport, accelerate, restore
from fastrnn.nn.light_lstm import LightLSTM
from fastrnn.nn.lstm import LSTM
from fastrnn.nn.state import LSTMState

__all__ = ["LSTM", "AccelerationReport", "LSTMState", "LightLSTM", "accelerate", "restore"]
