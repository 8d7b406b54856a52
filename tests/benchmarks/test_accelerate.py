"""The benchmark of `fastrnn.accelerate`: only what is right is timed, all of it is shown."""

import sys

import pytest
import torch

import fastrnn
from benchmarks import accelerate
from benchmarks.accelerate import ACCELERATE_FILE, ARCHITECTURES, Architecture
from benchmarks.results_file import load

SMALL = Architecture(
    "agent",
    "actor_critic",
    "small",
    lambda m: m.ActorCritic(observation_size=3, actions=2, hidden_size=8),
    lambda m: m.random_batch(2, steps=6, observation_size=3, actions=2, episode=4),
)


def test_every_architecture_is_measured() -> None:
    folder = accelerate.ROOT / "examples" / "architectures"
    assert {path.stem for path in folder.glob("*.py")} == {a.file for a in ARCHITECTURES}


def test_both_modes_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate, "SECONDS", {False: 0.0, True: 0.0})
    cells = accelerate.measure(SMALL)
    assert list(cells) == ["agent; inference", "agent; forward+backward"]
    assert all(cell["before_ms"]["p50"] > 0 < cell["after_ms"]["p50"] for cell in cells.values())
    assert "times the speed before" in capsys.readouterr().out


@pytest.mark.parametrize("value", [2.0, torch.nan])
def test_wrong_results_are_not_timed(value: float) -> None:
    module = SMALL.module()
    stock, ours = accelerate.models(SMALL, module)
    assert isinstance(ours.rnn, fastrnn.LSTM)
    batch = SMALL.batch(module)
    accelerate.check_first(SMALL, module, (stock, ours), batch)
    with torch.no_grad():
        ours.rnn.weight_hh_l0[0, 0] = value
    with pytest.raises(SystemExit, match=r"agent: .* so its speed means nothing"):
        accelerate.check_first(SMALL, module, (stock, ours), batch)


def test_the_table_shows_every_stored_cell() -> None:
    table = accelerate.table()
    assert table.count("\n| ") == len(ARCHITECTURES)
    for cell in load(ACCELERATE_FILE).values():
        assert f"**{cell['ratio']['p50']:.2f}**" in table


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["accelerate", "resnet"])
    with pytest.raises(SystemExit, match="unknown: resnet; choose from actor_critic"):
        accelerate.main()
