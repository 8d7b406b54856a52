import os
import subprocess
import sys

import pytest

from fastrnn.cli import workers as module
from fastrnn.cli.workers import StopWithParent, is_worker, workers

WAITING = "import os; os.read(0, 1); raise SystemExit(3)"


@pytest.fixture
def stand_in(monkeypatch):
    """A process that runs some code, in the place of fastrnn."""

    def start(words):
        return subprocess.Popen([sys.executable, "-c", *words], stdin=subprocess.PIPE)

    monkeypatch.setattr(module, "_start", start)


def test_workers_end_with_the_block_that_started_them(stand_in):
    with workers(2, [WAITING]) as started:
        assert [worker.poll() for worker in started] == [None, None]
    assert [worker.poll() for worker in started] == [3, 3]


def test_workers_end_with_a_failure_of_their_parent(stand_in):
    with pytest.raises(OSError, match="disk full"), workers(1, [WAITING]) as started:
        raise OSError("disk full")
    assert started[0].poll() == 3


def test_a_worker_that_does_not_end_is_killed(stand_in, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with workers(1, ["import time; time.sleep(600)"]) as started:
        pass
    assert started[0].poll() < 0


def test_this_process_is_none():
    assert not is_worker()


def test_trainings_stop_when_the_parent_is_gone(monkeypatch):
    ours, theirs = os.pipe()
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: read(ours if fd == 0 else fd, size))
    callback = StopWithParent()
    assert not callback.on_step(None)
    os.close(theirs)
    assert callback._gone.wait(10)
    assert callback.on_step(None)
    os.close(ours)
