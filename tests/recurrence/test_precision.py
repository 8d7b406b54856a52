"""Which precision float32 products take on a GPU: the settings are torch's, and come back."""

import threading
from typing import Any

import pytest
import torch

from fastrnn.recurrence.precision import matmul_precision, rnn_allows_tf32
from fastrnn.recurrence.problem import Problem

from .conftest import Case


def test_the_setting_is_that_of_torchs_rnns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rnn_allows_tf32()  # torch's default
    monkeypatch.setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee")
    assert not rnn_allows_tf32()


def test_the_older_setting_counts_too() -> None:
    torch.backends.cudnn.allow_tf32 = False
    try:
        assert not rnn_allows_tf32()
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert rnn_allows_tf32()


def test_calls_on_the_cpu_never_round_to_tf32() -> None:
    args, _ = Case(2, 2, 2, 2).build()
    assert not Problem.from_args(args, training=False).allow_tf32


@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
def test_products_follow_and_the_users_setting_comes_back(before: str) -> None:
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = before
    try:
        for allow in (True, False):
            with matmul_precision(allow_tf32=allow):
                assert (matmul.fp32_precision == "tf32") == allow
            assert matmul.fp32_precision == before
        with pytest.raises(RuntimeError), matmul_precision(allow_tf32=True):
            raise RuntimeError
        assert matmul.fp32_precision == before
    finally:
        matmul.fp32_precision = "none"


@pytest.mark.parametrize("origin", [torch.backends, torch.backends.cudnn])
def test_an_inherited_setting_still_follows_its_origin_afterwards(origin: Any) -> None:
    matmul = torch.backends.cuda.matmul
    try:
        origin.fp32_precision = "tf32"
        assert matmul.fp32_precision == "tf32"
        with matmul_precision(allow_tf32=False):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
        origin.fp32_precision = "ieee"
        assert matmul.fp32_precision == "ieee"
    finally:
        origin.fp32_precision = "none"
    assert matmul.fp32_precision == "none"


def test_a_setting_that_agrees_is_left_alone() -> None:
    """So threads may read the older form of the setting, which torch refuses after a change."""
    matmul = torch.backends.cuda.matmul
    with matmul_precision(allow_tf32=False):
        assert matmul.fp32_precision == "none"
        assert not matmul.allow_tf32


def test_threads_with_one_wish_share_it_and_others_wait() -> None:
    matmul = torch.backends.cuda.matmul
    inside, leave = threading.Barrier(3), threading.Event()
    seen: list[str] = []

    def hold() -> None:
        with matmul_precision(allow_tf32=True):
            inside.wait(10)
            leave.wait(10)
            seen.append(matmul.fp32_precision)

    def wait_and_hold() -> None:
        with matmul_precision(allow_tf32=False):
            seen.append(matmul.fp32_precision)

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for thread in holders:
        thread.start()
    inside.wait(10)
    other = threading.Thread(target=wait_and_hold)
    other.start()
    other.join(0.1)
    assert seen == []
    leave.set()
    for thread in (*holders, other):
        thread.join(10)
    assert seen == ["tf32", "tf32", "none"]  # none: exact by default
    assert matmul.fp32_precision == "none"
