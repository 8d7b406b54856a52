import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fastrnn.training import Callback, Trainer, TrainingConfig, evaluate

CONFIG = TrainingConfig(epochs=12, learning_rate=0.05, max_padded_steps=120)


def test_an_easy_problem_is_learned(clusters, row_means) -> None:
    model = row_means()
    result = Trainer(model, CONFIG, progress=False).fit(clusters(60), clusters(40, seed=1))
    losses = [record.loss for record in result.history]
    assert losses[-1] < losses[0] / 3
    assert result.stopped_by == "epochs"
    assert result.checkpoint is None
    assert evaluate(model, clusters(100, seed=2)).accuracy > 0.95


def test_the_history_tells_each_epoch(clusters, row_means) -> None:
    model, validation = row_means(), clusters(40, seed=1)
    result = Trainer(model, CONFIG, progress=False).fit(clusters(60), validation)
    assert [record.epoch for record in result.history] == list(range(1, 13))
    last = result.history[-1]
    evaluation = evaluate(model, validation)
    assert last.validation_loss == pytest.approx(evaluation.loss)
    assert last.validation_accuracy == evaluation.accuracy
    assert last.strips_per_second > 0
    assert last.seconds > 0
    assert 0 < last.learning_rate < result.history[2].learning_rate <= 0.05
    ranked = [(r.validation_accuracy, -r.validation_loss) for r in result.history]
    assert result.best_epoch == ranked.index(max(ranked)) + 1


def test_without_validation_there_is_no_best_epoch(clusters, row_means) -> None:
    result = Trainer(row_means(), TrainingConfig(epochs=1), progress=False).fit(clusters(20))
    assert result.best_epoch is None
    assert result.history[0].validation_loss is None


def test_the_seed_decides_everything_random(clusters, row_means) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = row_means()
        config = TrainingConfig(epochs=2, seed=seed, max_padded_steps=60)
        Trainer(model, config, progress=False).fit(clusters(30))
        return model.output.weight.detach().clone()

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_torchs_generator_and_the_models_mode_are_left_as_they_were(clusters, row_means) -> None:
    model = row_means().eval()
    before = torch.get_rng_state()
    Trainer(model, TrainingConfig(epochs=1), progress=False).fit(clusters(20))
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training


def test_progress_is_one_line_an_epoch_on_standard_error(clusters, row_means, capsys) -> None:
    Trainer(row_means(), TrainingConfig(epochs=3)).fit(clusters(20))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:10] for line in err.splitlines()] == ["epoch 1/3:", "epoch 2/3:", "epoch 3/3:"]


def test_callbacks_see_every_step_and_may_stop(clusters, row_means) -> None:
    class Watch(Callback):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_start(self, epochs):
            self.seen.append(f"start {epochs}")

        def on_step(self, info):
            self.seen.append(f"step {info.epoch}.{info.step}/{info.steps}")

        def on_epoch(self, record):
            self.seen.append(f"epoch {record.epoch}")
            return record.epoch == 2

        def on_end(self):
            self.seen.append("end")

    watch = Watch()
    config = TrainingConfig(epochs=5, max_padded_steps=10**6)
    trainer = Trainer(row_means(), config, progress=False, callbacks=[watch])
    result = trainer.fit(clusters(20))
    expected = ["start 5", "step 1.1/1", "epoch 1", "step 2.1/1", "epoch 2", "end"]
    assert watch.seen == expected
    assert result.stopped_by == "interrupt"
    assert len(result.history) == 2


def test_another_thread_may_train_and_be_stopped(clusters, row_means) -> None:
    trainer = Trainer(row_means(), TrainingConfig(epochs=10**6), progress=False)
    results = []
    thread = threading.Thread(target=lambda: results.append(trainer.fit(clusters(20))))
    thread.start()
    trainer.request_stop()
    thread.join(timeout=30)
    assert results[0].stopped_by == "interrupt"


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once_and_leaves_the_checkpoint(
    clusters, row_means, tmp_path: Path
) -> None:
    class Impatient(Callback):
        def on_step(self, info):
            if info.epoch == 2:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    trainer = Trainer(
        row_means(), CONFIG, out_dir=tmp_path, progress=False, callbacks=[Impatient()]
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(clusters(40))
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = Trainer(row_means(), CONFIG, out_dir=tmp_path, progress=False)
    assert len(resumed.fit(clusters(40), resume=True).history) == 12


SCRIPT = """
import signal, sys, time
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
from conftest import make_clusters, make_row_means
from fastrnn.training import Callback, Trainer, TrainingConfig

class Slow(Callback):
    def on_step(self, info):
        if (info.epoch, info.step) == (2, 2):
            print("ready", flush=True)
            while not trainer._stop:
                time.sleep(0.01)

config = TrainingConfig(epochs=4, learning_rate=0.05, max_padded_steps=60)
trainer = Trainer(make_row_means(), config, out_dir={out!r}, callbacks=[Slow()])
print(trainer.fit(make_clusters(40)).stopped_by)
"""


def test_ctrl_c_in_a_real_process_leaves_a_checkpoint_to_go_on_from(
    clusters, row_means, tmp_path: Path
) -> None:
    tests = str(Path(__file__).parent)
    script = SCRIPT.format(tests=tests, out=str(tmp_path / "run"))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "interrupt\n"), err
    journal = tmp_path / "run" / "metrics.jsonl"
    assert [json.loads(line)["epoch"] for line in journal.read_text().splitlines()] == [1]

    config = TrainingConfig(epochs=4, learning_rate=0.05, max_padded_steps=60)
    resumed, straight = row_means(), row_means()
    trainer = Trainer(resumed, config, out_dir=tmp_path / "run", progress=False)
    trainer.fit(clusters(40), resume=True)
    Trainer(straight, config, progress=False).fit(clusters(40))
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
