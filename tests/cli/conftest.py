"""Strips, models and damaged files for the command line's tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fastrnn.cli import main
from fastrnn.data import StripDigits, StripSubset, export_strips, write_png
from fastrnn.models import StripClassifier

from .kinds import make_folder


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``fastrnn`` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("FASTRNN_BACKEND", "FASTRNN_CPU_ISA", "FASTRNN_DATA"):
        monkeypatch.delenv(variable, raising=False)

    def command(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def digits() -> StripSubset:
    """Forty strips of two classes, "0" and "1", among ten labels."""
    strips = StripDigits("train", size=400)
    return StripSubset(strips, [i for i in range(400) if strips.targets[i] < 2][:40])


@pytest.fixture(scope="session")
def strips_folder(digits: StripSubset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders and a manifest of the digits."""
    folder = tmp_path_factory.mktemp("data") / "strips"
    export_strips(digits, folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved, untrained model of the ten digits."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "model"
    StripClassifier(1, 28, 10, hidden_size=4).save(folder)
    return folder


@pytest.fixture(scope="session")
def bad_files(digits: StripSubset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are no images, one way or another."""
    folder = tmp_path_factory.mktemp("bad")
    names = ("truncated", "text", "empty", "missing", "good")
    files = {name: folder / f"{name}.png" for name in names}
    write_png(digits[0][0], files["good"])
    whole = files["good"].read_bytes()
    files["truncated"].write_bytes(whole[: len(whole) // 2])
    files["text"].write_text("these are words")
    files["empty"].write_bytes(b"")
    return files


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a folder with the class folders "a" and "b" of a kind of files, once."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("kinds") / kind
            make_folder(made[kind], kind)
        return made[kind]

    return make
