"""Train a classifier on a folder of strips, save it, and use it.

    python examples/train_on_a_folder.py [folder]

The folder holds one folder of images per class. Without one, a small folder is made first.
"""

import sys
import tempfile
from pathlib import Path

from fastrnn.data import (
    StripDigits,
    StripFolder,
    StripSubset,
    export_strips,
    find_images,
    stratified_split,
)
from fastrnn.deploy import Predictor
from fastrnn.models import StripClassifier
from fastrnn.training import Trainer, TrainingConfig, evaluate


def main(folder: Path, epochs: int = 10) -> float:
    strips = StripFolder(folder, height=28)
    print(strips)

    held_out, rest = stratified_split(strips.targets, 0.2, seed=0)
    train, validation = StripSubset(strips, rest), StripSubset(strips, held_out)
    model = StripClassifier(
        in_channels=strips.channels,
        height=strips.height,
        num_classes=len(strips.labels),
        labels=strips.labels,
    )
    config = TrainingConfig(epochs=epochs, learning_rate=5e-3, max_padded_steps=4096)
    Trainer(model, config).fit(train, validation)
    result = evaluate(model, validation)
    print(f"{result.accuracy:.1%} of {len(validation)} validation strips right")

    with tempfile.TemporaryDirectory() as bundles:
        model.save(Path(bundles) / "model")
        predictor = Predictor(Path(bundles) / "model")
        files = find_images(folder)[:3]
        for path, prediction in zip(files, predictor.predict(files), strict=True):
            print(
                f"{path.parent.name}/{path.name}: {prediction.label}, {prediction.confidence:.0%}"
            )
    return result.accuracy


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            export_strips(StripDigits("train", size=1000), Path(made) / "strips")
            main(Path(made) / "strips")
