import pytest
import torch

from fastrnn.training.precision import autocast, autocast_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("amp", "device", "has_bfloat16", "expected"),
    [
        ("off", GPU, True, None),
        ("auto", CPU, True, None),
        ("auto", GPU, True, torch.bfloat16),
        ("auto", GPU, False, None),
        ("bfloat16", CPU, False, torch.bfloat16),
        ("float16", GPU, True, torch.float16),
    ],
)
def test_auto_takes_bfloat16_where_a_gpu_has_it(
    monkeypatch, amp, device, has_bfloat16, expected
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        assert not including_emulation
        return has_bfloat16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert autocast_dtype(amp, device) == expected


def test_autocast_holds_within_and_not_after() -> None:
    with autocast(torch.bfloat16, CPU):
        assert torch.is_autocast_enabled("cpu")
    with autocast(None, CPU):
        assert not torch.is_autocast_enabled("cpu")
