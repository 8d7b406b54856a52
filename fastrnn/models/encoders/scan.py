"""The encoder that reads strips line by line."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrnn.models.config import RecurrentConfig
from fastrnn.models.encoders.base import Encoded, Encoder
from fastrnn.models.encoders.recurrence import Recurrence
from fastrnn.nn.padding import blank_columns
from fastrnn.nn.scan import Lengths, Scan, check_strips, valid_steps


class ScanEncoder(Encoder):
    """Steps are what a scan reads of the strip: columns, rows, pixels; then the LSTM.

    Parameters
    ----------
    config : RecurrentConfig
        The LSTM.
    scan : Scan
        What a step is.
    device, dtype
        Of the parameters.
    """

    def __init__(
        self,
        config: RecurrentConfig,
        scan: Scan,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.scan = scan
        self.pixel_mean, self.pixel_std = config.pixel_mean, config.pixel_std
        self.recurrence = Recurrence(scan.input_size, config, device=device, dtype=dtype)
        self.size, self.bidirectional = config.features, config.bidirectional
        along = scan.scan not in ("pixels", "channels")
        self.pixels_per_step = scan.stack if along else 0

    def forward(
        self, strips: Tensor, lengths: Lengths | None = None, *, only_last: bool = False
    ) -> Encoded:
        """Encode strips; see `Encoder`."""
        dtype = next(self.recurrence.parameters()).dtype
        if self.scan.scan == "channels":
            # Lengths count columns, as for the other scans, but no step ends at them: padding is
            # blanked instead, and every channel is a valid step.
            strips = _blank_and_fill(strips, lengths, self.scan.long_side or 0)
            lengths = None
        sequence, valid = self.scan(strips, lengths, dtype=dtype)
        # sub makes a new tensor (the sequence may be the caller's strips), which div_ can reuse.
        steps = sequence.sub(self.pixel_mean).div_(self.pixel_std)
        return self.recurrence(steps, valid, only_last=only_last)  # type: ignore[no-any-return]


def _blank_and_fill(strips: Tensor, lengths: Lengths | None, width: int) -> Tensor:
    """Zero what lies past each strip's length, and fill up to `width` columns."""
    check_strips(strips)
    batch_size, columns = strips.shape[0], strips.shape[3]
    if columns > width:
        raise ValueError(f"strips must have at most {width} columns (width), got {columns}")
    if lengths is not None:
        lengths = valid_steps(lengths, batch_size, columns, unit="columns", device=strips.device)
        strips = blank_columns(strips, lengths)
    return nn.functional.pad(strips, (0, width - columns))
