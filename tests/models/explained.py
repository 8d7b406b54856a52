"""Small models of every kind, to be explained."""

import torch

from fastrnn.models import CNNLSTMClassifier, FusionClassifier, StripClassifier, StripCNN

SMALL_CONV = {"conv_channels": (4, 6), "conv_features": 8}
SMALL = {"hidden_size": 5}
BOTH = SMALL | SMALL_CONV
RGBD = {"in_channels": 4, "height": 8, "num_classes": 3}
GREY = {"in_channels": 1, "height": 8, "num_classes": 3}


def make(kind, **arguments):
    torch.manual_seed(0)
    return kind(**arguments).eval()


def noise(channels=1, height=8, width=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=generator)


MODELS = {
    "lstm": lambda **more: make(StripClassifier, **GREY, **SMALL, **more),
    "cnn-lstm": lambda **more: make(CNNLSTMClassifier, **GREY, **BOTH, **more),
    "frames": lambda **more: make(
        CNNLSTMClassifier, **GREY, **BOTH, frames=True, frame_width=4, **more
    ),
    "cnn": lambda **more: make(StripCNN, **GREY, **SMALL_CONV, **more),
    "early": lambda **more: make(FusionClassifier, **RGBD, **BOTH, fusion="early", **more),
    "middle": lambda **more: make(FusionClassifier, **RGBD, **BOTH, fusion="middle", **more),
    "middle-lstm": lambda **more: make(
        FusionClassifier, **RGBD, **BOTH, fusion="middle", encoder="lstm", **more
    ),
    "late": lambda **more: make(FusionClassifier, **RGBD, **BOTH, fusion="late", **more),
}


def is_complete(explanation):
    """Kinks of ReLU and maxima leave a small error; a jump on the way would leave a large one."""
    return abs(explanation.completeness) < 0.02 * explanation.saliency().sum()


def strip_for(model, width=12):
    return noise(model.config.in_channels, 8, width)
