"""Draw what models look at into docs/gallery.md: ``python -m benchmarks.gallery``.

Trains a small model for each task, about a minute each on one thread. Better ones, trained on the
training part alone, may be given: ``--model strip-mnist=runs/train/model``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image

from fastrnn.data import (
    GestureClips,
    RGBDStrips,
    SpokenDigits,
    StripCache,
    StripDataset,
    StripMNIST,
    StripSubset,
    group_k_fold,
    pixel_statistics,
)
from fastrnn.data.checks import counted
from fastrnn.deploy import FileExplanation
from fastrnn.explanation_plots import draw_explanation
from fastrnn.models import (
    CNNLSTMClassifier,
    EncoderClassifier,
    FusionClassifier,
    StripClassifier,
    explain,
)
from fastrnn.training import Trainer, TrainingConfig
from fastrnn.training.checkpoint import write_atomically
from fastrnn.training.evaluation import predict_logits

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"
IMAGES = ROOT / "docs" / "images" / "gallery"

RIGHT, WRONG = 3, 2
"""Pictures of each task."""
WIDEST = 300
"""Columns of a strip that is shown: the picture of a long clip is as large as all of a task."""


@dataclass(frozen=True)
class Task:
    """A part of the page.

    Parameters
    ----------
    name
        In file names and on the command line.
    title, text
        Heading, and what the strips are.
    parts
        Gives training and test strips.
    model, settings, training
        What is trained where no model is given.
    """

    name: str
    title: str
    text: str
    parts: Callable[[], tuple[StripDataset, StripDataset]]
    model: type[EncoderClassifier]
    settings: Mapping[str, Any]
    training: TrainingConfig

    def train(self, strips: StripDataset) -> EncoderClassifier:
        """Train its small model."""
        mean, std = pixel_statistics(strips)
        torch.manual_seed(self.training.seed)
        model = self.model(
            strips.channels,
            strips.height,
            len(strips.labels),
            labels=strips.labels,
            pixel_mean=mean,
            pixel_std=std,
            **self.settings,
        )
        Trainer(model, self.training).fit(strips)
        return model


def _strip_mnist(task: str) -> tuple[StripDataset, StripDataset]:
    train = StripMNIST(size=6000, task=task)  # type: ignore[arg-type]
    test = StripMNIST(split="test", size=1000, task=task)  # type: ignore[arg-type]
    return StripCache(train), StripCache(test)


def _spoken_digits() -> tuple[StripDataset, StripDataset]:
    spoken = SpokenDigits()
    train, test = next(group_k_fold(spoken.groups))
    return StripCache(StripSubset(spoken, train)), StripCache(StripSubset(spoken, test))


def _synthetic(kind: type[RGBDStrips | GestureClips]) -> tuple[StripDataset, StripDataset]:
    return StripCache(kind("train")), StripCache(kind("test"))


_TRAINING = TrainingConfig(epochs=5, learning_rate=8e-3, max_padded_steps=8192, ema_decay=0.99)
_SMALL = {"conv_channels": (16, 32), "conv_features": 48, "hidden_size": 48, "dropout": 0.2}

TASKS = (
    Task(
        "strip-mnist",
        "One digit to find",
        "Strips of `StripMNIST`: one handwritten digit somewhere, and pieces of others.",
        partial(_strip_mnist, "find"),
        StripClassifier,
        {},
        _TRAINING,
    ),
    Task(
        "strip-mnist-first",
        "The first of several digits",
        'Strips of `StripMNIST(task="first")`: two to six digits, and the leftmost one is the '
        "class. Which digits there are does not tell it.",
        partial(_strip_mnist, "first"),
        StripClassifier,
        {},
        _TRAINING,
    ),
    Task(
        "spoken-digits",
        "Spoken digits",
        "Recordings of `SpokenDigits` as log-mel pictures: time runs from left to right, high "
        "tones are above. The model is tested on a speaker whom it has never heard.",
        _spoken_digits,
        CNNLSTMClassifier,
        {"conv_channels": (16, 32), "conv_features": 48, "hidden_size": 48, "dropout": 0.3},
        dataclasses.replace(_TRAINING, epochs=40, learning_rate=5e-3),
    ),
    Task(
        "rgbd",
        "Colour and depth",
        "Strips of `RGBDStrips`: three bars of colour, from red to blue or from blue to red, and "
        "elsewhere three steps in depth, up or down, among others. Both are needed for the class. "
        "Depth is below the colours; what matters of the two is added up.",
        partial(_synthetic, RGBDStrips),
        FusionClassifier,
        _SMALL,
        dataclasses.replace(_TRAINING, epochs=20, learning_rate=5e-3),
    ),
    Task(
        "gestures",
        "Gestures",
        "Clips of `GestureClips`, frame beside frame: what a blob does shows in their order alone.",
        partial(_synthetic, GestureClips),
        CNNLSTMClassifier,
        {"frames": True, "frame_width": GestureClips.frame_width, **_SMALL},
        dataclasses.replace(_TRAINING, epochs=20, learning_rate=5e-3),
    ),
)

HEAD = f"""\
<!-- Written by `python -m benchmarks.gallery`. -->

# Gallery

What trained models looked at. Of each task these are the first strips of the test part, of up to
{WIDEST} columns, that the model got right, of different classes, and the first ones that it got
wrong. Each picture is what

```sh
fastrnn explain MODEL IMAGE
```

draws, or, in Python, `fastrnn.deploy.explain_file` and
`fastrnn.explanation_plots.draw_explanation`. It shows the strip; below it the strip in pale grey,
with the pixels that matter for the predicted class in purple, by integrated gradients
(Sundararajan, Taly, Yan 2017); below that, along the strip, the model's attention (orange) and the
purple pixels summed; and to the right the most probable classes.
"""


def write_gallery(
    tasks: Sequence[Task], models: Mapping[str, Path], page: Path, images: Path
) -> None:
    """Write the page and its pictures; pictures that it no longer shows are deleted.

    Parameters
    ----------
    tasks
        The parts of the page.
    models
        Saved models, by the names of tasks; the others are trained.
    page, images
        The file, and the folder of its pictures.
    """
    text, shown = [HEAD], set()
    images.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        train, test = task.parts()
        if task.name in models:
            model, origin = EncoderClassifier.load(models[task.name]), ""
        else:
            model = task.train(train)
            epochs = counted(task.training.epochs, "epoch")
            origin = f", trained on {len(train):,} strips in {epochs}"
        predicted = predict_logits(model, test).argmax(1).numpy()
        share = float((predicted == test.targets).mean())
        size = sum(parameter.numel() for parameter in model.parameters())
        text.append(
            f"\n## {task.title}\n\n{task.text} The model is a `{type(model).__name__}` of {size:,} "
            f"parameters{origin}. It gets {share:.1%} of {len(test):,} test strips right.\n"
        )
        for kind, chosen in choose(test, predicted).items():
            for number, index in enumerate(chosen, 1):
                path = images / f"{task.name}-{kind}-{number}.png"
                text.append(_picture(model, test, index, int(predicted[index]), path, page))
                shown.add(path)
    for path in set(images.glob("*.png")) - shown:
        path.unlink()
    write_atomically(page, lambda file: file.write("".join(text).encode()))


def choose(strips: StripDataset, predicted: np.ndarray) -> dict[str, list[int]]:
    """Give the first strips that were predicted rightly, and wrongly, each of another class."""
    found, targets = {}, strips.targets
    shown = strips.lengths <= WIDEST
    for kind, most in (("right", RIGHT), ("wrong", WRONG)):
        places = np.flatnonzero(shown & ((targets == predicted) == (kind == "right")))
        _, first = np.unique(targets[places], return_index=True)
        found[kind] = places[np.sort(first)][:most].tolist()
    return found


def _picture(
    model: EncoderClassifier, strips: StripDataset, index: int, said: int, path: Path, page: Path
) -> str:
    """Draw a strip and give the line of the page that shows the picture."""
    strip, target = strips[index]
    true, named = strips.labels[target], strips.labels[said]
    title = f"{true}, correctly" if true == named else f"{true}, taken for {named}"
    found = FileExplanation.of_strip("strip", strip.numpy(), explain(model, strip))
    with tempfile.TemporaryDirectory() as folder:
        drawing = Path(folder, "drawing.png")
        draw_explanation(drawing, found, title=title, right=true == named)
        write_atomically(path, partial(_write_small, drawing))
    return f"\n![{title}]({path.relative_to(page.parent).as_posix()})\n"


def _write_small(drawing: Path, file: IO[bytes]) -> None:
    """Write a drawing with a palette: a third of the size, and nothing is seen of it."""
    with Image.open(drawing) as image:
        # The usual palettes leave out colours of few pixels, or light greys.
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    small.save(file, format="PNG", optimize=True)


def given_models(words: Sequence[str]) -> dict[str, Path]:
    """Read the command line: saved models by the names of tasks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="TASK=FOLDER",
        help=f"a saved model for one of {', '.join(task.name for task in TASKS)}",
    )
    models = {}
    for word in parser.parse_args(words).model:
        name, separator, folder = word.partition("=")
        if not separator or name not in {task.name for task in TASKS}:
            parser.error(f"--model {word} should be TASK=FOLDER with a known task")
        models[name] = Path(folder)
    return models


if __name__ == "__main__":
    write_gallery(TASKS, given_models(sys.argv[1:]), PAGE, IMAGES)
