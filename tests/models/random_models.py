"""Random valid settings of every model that bundles can hold, small ones, and strips for them."""

import dataclasses
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fastrnn.models import EncoderClassifier
from fastrnn.models.bundle import MODELS
from fastrnn.models.config import ConvConfig, ModelConfig, RecurrentConfig
from fastrnn.models.fusion import ENCODERS, FUSIONS
from fastrnn.nn.pooling import POOLINGS
from fastrnn.nn.scan import SCANS

CLASSES = tuple(MODELS.values())
HEIGHT, LONGEST, FRAME = 5, 9, 4

SHARES = st.sampled_from([0.0, 0.3])

Settings = dict[str, Any]


def seed(number: int) -> None:
    """Seed torch on the CPU, without the milliseconds that `torch.manual_seed` takes for GPUs."""
    torch.default_generator.manual_seed(number)


@st.composite
def model_settings(draw: st.DrawFn) -> Settings:
    """What `ModelConfig` has, but for the attention's heads, which depend on the rest."""
    window = draw(st.sampled_from([None, 6]))
    return {
        "in_channels": draw(st.integers(1, 3)),
        "height": HEIGHT,
        "num_classes": draw(st.integers(2, 4)),
        "pooling": draw(st.sampled_from(sorted(POOLINGS))),
        "dropout": draw(SHARES),
        "pixel_mean": draw(st.sampled_from([0.0, 0.5])),
        "pixel_std": draw(st.sampled_from([0.25, 1.0])),
        "window_size": window,
        "window_stride": window and draw(st.integers(1, window)),
        "window_combine": draw(st.sampled_from(["mean", "vote"])),
        "reader": draw(st.sampled_from([None, {"kind": "images", "height": HEIGHT}])),
    }


@st.composite
def recurrent_settings(draw: st.DrawFn) -> Settings:
    """What `RecurrentConfig` adds."""
    init = draw(st.sampled_from(["uniform", "orthogonal", "chrono"]))
    return {
        "hidden_size": 4,
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "layer_norm": draw(st.sampled_from(["none", "output", "gates"])),
        "input_dropout": draw(SHARES),
        "recurrent_dropout": draw(SHARES),
        "zoneout": draw(SHARES),
        "coupled_gates": draw(st.booleans()),
        "proj_size": draw(st.sampled_from([0, 2])),
        "recurrent_heads": draw(st.integers(1, 2)),
        "init": init,
        "forget_bias": None if init == "chrono" else draw(st.sampled_from([None, 1.0])),
        "chrono_range": (2, 9.5) if init == "chrono" else None,
    }


@st.composite
def conv_settings(draw: st.DrawFn) -> Settings:
    """What `ConvConfig` has."""
    channels = draw(st.lists(st.integers(2, 3), min_size=1, max_size=2))
    return {
        "conv_channels": channels,
        "conv_features": 4,
        "width_factor": draw(st.sampled_from([1, 2, 4][: len(channels) + 1])),
    }


@st.composite
def own_settings(draw: st.DrawFn, name: str) -> Settings:
    """What a model's config has of its own."""
    if name == "StripClassifier":
        scan = draw(st.sampled_from(SCANS))
        width = LONGEST + 3 if scan == "channels" else None
        return {"scan": scan, "stack": draw(st.integers(1, 3)), "width": width}
    if name == "CNNLSTMClassifier":
        if not draw(st.booleans()):
            return {"frames": False, "frame_width": None}
        windows = {"window_size": None, "window_stride": None}  # others are no whole frames
        return {"frames": True, "frame_width": FRAME, **windows}
    if name == "StripCNN":
        return {"depth": draw(st.integers(0, 2)), "kernel_size": draw(st.sampled_from([1, 3]))}
    modalities = draw(st.sampled_from([[("rgb", 3), ("depth", 1)], [("a", 1), ("b", 2), ("c", 1)]]))
    encoder = draw(st.sampled_from(ENCODERS))
    return {
        "in_channels": 4,
        "modalities": modalities,
        "fusion": draw(st.sampled_from(FUSIONS)),
        "encoder": encoder,
        "stack": draw(st.integers(1, 3)) if encoder == "lstm" else 1,
        "modality_dropout": draw(SHARES),
    }


@st.composite
def settings_of(draw: st.DrawFn, model_class: type[EncoderClassifier]) -> Settings:
    """Settings of a model; every one that its config has."""
    config_class = model_class.config_class
    parts: Settings = {}
    for base, drawn in (
        (ModelConfig, model_settings()),
        (RecurrentConfig, recurrent_settings()),
        (ConvConfig, conv_settings()),
    ):
        parts |= draw(drawn) if issubclass(config_class, base) else {}
    parts |= draw(own_settings(model_class.__name__))
    heads = [1, 2] if parts["pooling"] == "attention" else [1]
    parts["attention_heads"] = draw(st.sampled_from(heads))
    assert parts.keys() == {field.name for field in dataclasses.fields(config_class)}
    return parts


@st.composite
def models(
    draw: st.DrawFn, model_class: type[EncoderClassifier], **fixed: Any
) -> EncoderClassifier:
    """A model in float64 and in evaluation mode; with `fixed` settings."""
    seed(draw(st.integers(0, 99)))
    model = model_class(**(draw(settings_of(model_class)) | fixed), dtype=torch.float64)
    for parameter in model.parameters():  # no gain of 1 and no shift of 0
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@st.composite
def strips_for(draw: st.DrawFn, model: EncoderClassifier) -> list[Tensor]:
    """Strips [C, H, W] of a model, some of them empty, some without a modality."""
    widths = draw(st.lists(st.integers(0, LONGEST), min_size=1, max_size=3))
    shapes = [(model.config.in_channels, HEIGHT, width) for width in widths]
    strips = [torch.rand(shape, dtype=torch.float64) for shape in shapes]
    for strip in strips:
        if draw(st.booleans()):
            strip[:3] = 0
    return strips


def batch_of(
    model: EncoderClassifier, strips: list[Tensor], extra: int = 0, filler: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Strips in one batch, padded by so many columns more than they need, and their lengths."""
    lengths = [strip.shape[2] for strip in strips]
    width = max(1, *lengths) + extra
    if getattr(model.config, "frames", False):
        width += -width % FRAME
    batch = torch.full((len(strips), *strips[0].shape[:2], width), filler, dtype=torch.float64)
    for row, strip in zip(batch, strips, strict=True):
        row[..., : strip.shape[2]] = strip
    turned = getattr(model.config, "scan", None) == "rows"
    return batch.transpose(2, 3) if turned else batch, torch.tensor(lengths)


def random_strips(model: EncoderClassifier, *widths: int) -> tuple[Tensor, Tensor]:
    """A batch of random strips of these widths, and their lengths."""
    channels, height = model.config.in_channels, model.config.height
    return batch_of(model, [torch.rand(channels, height, width).double() for width in widths])
