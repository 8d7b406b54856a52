from pathlib import Path

import numpy as np
import pytest

from fastrnn.data import StripSubset
from fastrnn.training import SelfTrainer, SelfTrainingConfig, TrainingConfig
from fastrnn.training.self_training_run import SelfTrainingData

QUICK = SelfTrainingConfig(training=TrainingConfig(epochs=1), threshold=0.5, max_iter=1)


def test_a_part_of_every_class_is_held_out_and_not_trained_on(clusters) -> None:
    data = clusters(60, classes=3)
    targets = np.where(np.arange(60) < 30, data.targets, -1)
    dataset = StripSubset(data, range(60), targets=targets)
    split = SelfTrainingData.split(dataset, None, data.targets, SelfTrainingConfig())
    assert np.bincount(targets[split.held_out_positions]).tolist() == [2, 2, 2]
    together = np.concatenate([split.labelled, split.held_out_positions])
    assert sorted(together) == list(range(30))
    assert split.unlabelled.tolist() == list(range(30, 60))
    assert split.truth.tolist() == data.targets[30:].tolist()
    assert split.held_out.targets.tolist() == targets[split.held_out_positions].tolist()


def test_what_can_not_be_self_trained_on_is_refused(row_means, clusters, tmp_path: Path) -> None:
    model, data, validation = row_means(), clusters(168), clusters(60, seed=1)
    truth = data.targets
    few = StripSubset(data, range(168), targets=[*truth[:8], *[-1] * 160])
    out = tmp_path / "run"
    trainer = SelfTrainer(model, QUICK, out_dir=out, progress=False)

    def subset(targets) -> StripSubset:
        return StripSubset(data, range(len(targets)), targets=targets)

    with pytest.raises(ValueError, match="none of the 168 strips is unlabelled"):
        trainer.fit(subset(truth), validation)
    with pytest.raises(ValueError, match="none of the 9 strips is labelled"):
        trainer.fit(subset([-1] * 9))
    with pytest.raises(ValueError, match="at least two classes, found one"):
        trainer.fit(subset([0, 0, -1]), validation)
    with pytest.raises(ValueError, match="the 2 labelled strips are too few to hold 20% of them"):
        trainer.fit(subset([0, 1, -1]))
    with pytest.raises(ValueError, match=r"true_targets has shape \(3,\), it should be \(168,\)"):
        trainer.fit(few, validation, true_targets=[0, 1, 0])
    with pytest.raises(ValueError, match="validation has labels"):
        trainer.fit(few, clusters(9, classes=3))
    assert not out.exists()
    with pytest.raises(ValueError, match="resume is True, but out_dir is None"):
        SelfTrainer(model, QUICK, progress=False).fit(few, validation, resume=True)


@pytest.mark.parametrize(
    ("labeller", "message"),
    [
        (lambda p, previous: previous[:-1], r"torch\.int64 of shape \(159,\), it should give"),
        (lambda p, previous: p[:, 0], r"gave torch\.float32 of shape \(160,\)"),
        (lambda p, previous: previous + 3, r"labels outside -1\.\.1"),
    ],
)
def test_a_labeller_that_gives_nonsense_is_named(row_means, clusters, labeller, message) -> None:
    data, validation = clusters(168), clusters(60, seed=1)
    dataset = StripSubset(data, range(168), targets=[*data.targets[:8], *[-1] * 160])
    trainer = SelfTrainer(row_means(), QUICK, labeller=labeller, progress=False)
    with pytest.raises(ValueError, match=message):
        trainer.fit(dataset, validation)
