"""What `torch.nn.LSTM` and `fastrnn.LSTM` can do, on CPU and GPU: every answer comes from a run."""
