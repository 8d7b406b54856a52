"""Use fastrnn.LSTM in a model of your own: sequences of different lengths, without packing.

    python examples/lstm_with_lengths.py

The task: which of two tones is hidden in a noisy signal, 50 to 400 samples long?
"""

import torch
from torch import Tensor, nn

from fastrnn import LSTM


class ToneClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = LSTM(1, 32, bidirectional=True, batch_first=True)  # was: nn.LSTM(...)
        self.head = nn.Linear(64, 2)

    def forward(self, signals: Tensor, lengths: Tensor) -> Tensor:
        # Padding costs no arithmetic, and h_n is each signal's own last state: in place of
        # pack_padded_sequence(...), self.lstm(packed) and pad_packed_sequence(...).
        _, (h_n, _) = self.lstm(signals, lengths=lengths)
        return self.head(torch.cat([h_n[0], h_n[1]], dim=1))


def make_signals(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Signals [B, T, 1] of two tones with noise, their lengths [B] and classes [B]."""
    lengths = torch.randint(50, 401, (count,), generator=generator)
    classes = torch.randint(0, 2, (count,), generator=generator)
    frequencies = torch.where(classes == 0, 0.10, 0.16)[:, None]
    phases = torch.rand(count, 1, generator=generator) * 6.28
    times = torch.arange(400)[None]
    signals = torch.sin(6.28 * frequencies * times + phases)
    signals += 0.7 * torch.randn(signals.shape, generator=generator)
    signals[times >= lengths[:, None]] = 0
    return signals[..., None], lengths, classes


def main(steps: int = 80) -> float:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = ToneClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(1, steps + 1):
        signals, lengths, classes = make_signals(32, generator)
        loss = nn.functional.cross_entropy(model(signals, lengths), classes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    signals, lengths, classes = make_signals(500, generator)
    with torch.no_grad():
        accuracy = (model(signals, lengths).argmax(1) == classes).float().mean().item()
    print(f"{accuracy:.1%} of 500 new signals right")

    # The weights are torch's own: a checkpoint of one loads into the other.
    torch_lstm = nn.LSTM(1, 32, bidirectional=True, batch_first=True)
    torch_lstm.load_state_dict(model.lstm.state_dict())
    ours, _ = model.lstm(signals[:4])
    theirs, _ = torch_lstm(signals[:4])
    print(f"largest difference from torch.nn.LSTM: {(ours - theirs).abs().max().item():.1e}")
    return accuracy


if __name__ == "__main__":
    main()
