"""One LSTM layer of every library on the CPU, in turns, on the same weights and inputs."""
