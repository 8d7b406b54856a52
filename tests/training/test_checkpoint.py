import pickle
from pathlib import Path

import pytest
import torch

from fastrnn.training import CheckpointError
from fastrnn.training.checkpoint import (
    check_no_run,
    load_checkpoint,
    prepare_folder,
    save_checkpoint,
    write_atomically,
)

STATE = {"weights": {"w": torch.arange(3.0)}, "epoch": 3, "best": None, "losses": [0.5, 0.25]}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", "test", STATE)
    loaded = load_checkpoint(tmp_path / "c.pt", "test")
    assert torch.equal(loaded.pop("weights")["w"], torch.arange(3.0))
    assert loaded == {"epoch": 3, "best": None, "losses": [0.5, 0.25]}


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, "test", STATE)
    before = path.read_bytes()

    def fail(file) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, "test", STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"c\.pt can't be read: "):
        load_checkpoint(path, "test")


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    plain, zipped = tmp_path / "plain.pt", tmp_path / "zipped.pt"
    plain.write_bytes(pickle.dumps({"kind": "test", "state": Bomb()}))
    torch.save({"kind": "test", "state": Bomb()}, zipped)
    for path in (plain, zipped):
        with pytest.raises(CheckpointError, match="can't be read"):
            load_checkpoint(path, "test")
    assert not (tmp_path / "exploded").exists()


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", "test", STATE)
    with pytest.raises(CheckpointError, match="is not a trainer checkpoint"):
        load_checkpoint(tmp_path / "c.pt", "trainer")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="is not a trainer checkpoint"):
        load_checkpoint(tmp_path / "list.pt", "trainer")


def test_a_folder_is_made(tmp_path: Path) -> None:
    assert prepare_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"out_dir '.*file/run' can't be written: Not a directory"):
        prepare_folder(tmp_path / "file" / "run")


def test_a_folder_that_can_not_be_written_to_is_named(monkeypatch, tmp_path: Path) -> None:
    def refuse(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(ValueError, match="can't be written: Permission denied"):
        prepare_folder(tmp_path)


def test_a_former_training_is_not_overwritten(tmp_path: Path) -> None:
    check_no_run(tmp_path / "c.pt")
    save_checkpoint(tmp_path / "c.pt", "test", STATE)
    with pytest.raises(ValueError, match=r"already holds a training .*resume=True"):
        check_no_run(tmp_path / "c.pt")
