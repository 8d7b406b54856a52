"""Self-training: learn from few labelled strips and many unlabelled ones.

python examples/few_labels.py
"""

import numpy as np
import torch

from fastrnn.data import UNLABELLED, StripCache, StripDigits, StripSubset, label_split
from fastrnn.models import StripClassifier
from fastrnn.training import SelfTrainer, SelfTrainingConfig, TrainingConfig, evaluate


def main(strips: int = 600, epochs: int = 40, rounds: int = 3) -> tuple[float, float]:
    everything = StripCache(StripDigits("train", size=strips))
    test = StripCache(StripDigits("test"))

    # Hide most labels, as if nobody had found the time to label those strips.
    _, unlabelled = label_split(everything.targets, 0.15, seed=0)
    targets = everything.targets.copy()
    targets[unlabelled] = UNLABELLED
    data = StripSubset(everything, np.arange(strips), targets=targets)

    torch.manual_seed(0)
    model = StripClassifier(1, 28, 10, hidden_size=32)
    config = SelfTrainingConfig(
        training=TrainingConfig(epochs=epochs, learning_rate=5e-3, max_padded_steps=4096),
        fine_tuning=TrainingConfig(epochs=8, learning_rate=5e-3, max_padded_steps=4096),
        threshold=0.9,
        max_iter=rounds,
    )
    # The true targets serve the report only: how many pseudo-labels are right?
    result = SelfTrainer(model, config).fit(data, true_targets=everything.targets)

    first, best = result.rounds[0], result.rounds[result.best_round or 0]
    print(f"held out: {first.held_out_accuracy:.1%} with the labels alone, ", end="")
    print(f"{best.held_out_accuracy:.1%} in round {best.round}, the one that is kept")
    accuracy = evaluate(model, test).accuracy
    print(f"{accuracy:.1%} of {len(test)} new strips right ({result.termination_condition_})")
    return first.held_out_accuracy, best.held_out_accuracy


if __name__ == "__main__":
    main()
