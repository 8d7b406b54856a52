"""A training that is killed at random moments, and resumed, as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

KILLS = 4

# Forks its trainings, so that torch is imported and the strips are made once.
SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch
from fastrnn.data import StripDigits
from fastrnn.data.augment import StripAugmentation
from fastrnn.models import StripClassifier
from fastrnn.training import Callback, Trainer, TrainingConfig

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
settings["augment"] = StripAugmentation(**settings["augment"])
strips = StripDigits("train", size=30), StripDigits("test", size=12)
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports much, too


class Started(Callback):
    def __init__(self, pipe):
        self.pipe = pipe

    def on_start(self, epochs):
        os.write(self.pipe, b"started")


def train(out, pipe, workers):
    config = TrainingConfig(**settings, num_workers=workers)
    torch.manual_seed(0)
    model = StripClassifier(1, 28, 10, hidden_size=5, dropout=0.2)
    trainer = Trainer(model, config, out_dir=out, progress=False, callbacks=[Started(pipe)])
    trainer.fit(*strips, resume=True)
    torch.save(model.state_dict(), out / "weights.pt")


def run(out, seconds=None, workers=0):
    # Trains in a process of its own, which is killed after some seconds, and returns how it ended.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            train(out, writing, workers)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    os.read(reading, 7)
    os.close(reading)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


clock = time.perf_counter()
codes = [run(folder / "straight")]
whole = time.perf_counter() - clock
kills = int(sys.argv[3])
for kill in range(kills):
    codes.append(run(folder / "killed", random.uniform(0, 2 * whole / kills), workers=kill % 2))
codes.append(run(folder / "killed"))
print(json.dumps(codes))
"""


def timeless(journal: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    return [{k: v for k, v in record.items() if "second" not in k} for record in records]


def test_a_training_killed_at_random_moments_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    settings = {
        "epochs": 3,
        "learning_rate": 0.02,
        "schedule": "onecycle",
        "ema_decay": 0.9,
        "amp": "bfloat16",
        "max_padded_steps": 1200,
        "accumulate": 2,
        "balanced_sampling": True,
        "augment": {"stretch": 0.2, "slant": 10, "noise": 8, "mixup": 0.4},
        "checkpoint_every_seconds": 0.0,
    }
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(settings), str(KILLS)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    codes = json.loads(process.stdout)
    assert codes[0] == codes[-1] == 0, process.stderr
    # Where a kill came too late, the training was at its end already.
    assert codes[1] == -9
    assert set(codes[1:-1]) <= {-9, 0}, process.stderr
    straight, killed = (
        torch.load(tmp_path / name / "weights.pt", weights_only=True)
        for name in ("straight", "killed")
    )
    for name, value in straight.items():
        assert torch.equal(value, killed[name]), name
    journals = [timeless(tmp_path / name / "metrics.jsonl") for name in ("straight", "killed")]
    assert journals[0] == journals[1]
    assert len(journals[0]) == 3
