import signal
import threading

import pytest

from fastrnn.training.interrupt import StopFlag, StopRequested, stop_on_interrupt


@pytest.mark.usefixtures("interruptible")
def test_the_first_interrupt_asks_and_the_second_one_raises() -> None:
    flag = StopFlag()
    with stop_on_interrupt(flag):
        flag.check()
        signal.raise_signal(signal.SIGINT)
        assert flag
        with pytest.raises(StopRequested):
            flag.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
def test_the_former_handler_comes_back() -> None:
    former = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt(StopFlag()):
        assert signal.getsignal(signal.SIGINT) is not former
    assert signal.getsignal(signal.SIGINT) is former
    with pytest.raises(RuntimeError), stop_on_interrupt(StopFlag()):
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.usefixtures("interruptible")
def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    flag = StopFlag()
    with stop_on_interrupt(flag):
        signal.raise_signal(signal.SIGINT)
        assert not flag


def test_another_thread_is_left_alone() -> None:
    seen = []

    def work() -> None:
        with stop_on_interrupt(StopFlag()):
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
