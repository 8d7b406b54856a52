"""The engine: one layer of LSTM, in one or two directions, on exchangeable backends."""
