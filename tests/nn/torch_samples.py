"""Writes torch's own samples of its LSTM into a file: ``python torch_samples.py FILE``.

They come from the module database in `torch.testing._internal.common_modules`. It is read in a
process of its own, because importing it freezes torch's global flags and takes seconds.
"""

import sys
import types
import unittest
from typing import Any

import torch


def samples(info: Any, dtype: torch.dtype, training: bool) -> list[dict[str, Any]]:
    made = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=False, training=training
    )
    return [
        {
            "options": {**sample.constructor_input.kwargs},
            "inputs": sample.forward_input.args,
            "dtype": dtype,
            "training": training,
        }
        for sample in made
    ]


def wrong_calls(info: Any) -> list[dict[str, Any]]:
    made = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    calls = []
    for wrong in made:
        sample = wrong.module_error_input
        inputs = None if sample.forward_input is None else sample.forward_input.args
        calls.append(
            {
                "sizes": sample.constructor_input.args,
                "options": sample.constructor_input.kwargs,
                "inputs": inputs,
                "error": wrong.error_type.__name__,
                "message": wrong.error_regex,
            }
        )
    return calls


def main() -> None:
    # A package that only the base class of torch's test cases needs.
    stand_in = types.ModuleType("expecttest")
    stand_in.TestCase = unittest.TestCase  # type: ignore[attr-defined]
    sys.modules.setdefault("expecttest", stand_in)
    from torch.testing._internal.common_modules import module_db

    (info,) = (info for info in module_db if info.module_cls is torch.nn.LSTM)
    right = [
        sample
        for dtype in (torch.float32, torch.float64)
        for training in (True, False)
        for sample in samples(info, dtype, training)
    ]
    torch.save({"samples": right, "wrong_calls": wrong_calls(info)}, sys.argv[1])


if __name__ == "__main__":
    main()
