"""What Triton compiled is found in its own caches."""

from types import SimpleNamespace

import pytest

from benchmarks.gpu.kernel_resources import compiled_kernels

jit = pytest.importorskip("triton.runtime.jit")


def kernel(x, HIDDEN) -> None:  # type: ignore[no-untyped-def]  # noqa: N803
    pass


def compiled(function: object, registers: int, hidden: int) -> SimpleNamespace:
    metadata = SimpleNamespace(target=SimpleNamespace(arch=90), num_warps=8, shared=1024)
    source = SimpleNamespace(fn=function, constants={(1,): hidden})
    return SimpleNamespace(
        name="kernel", metadata=metadata, src=source, n_regs=registers, n_spills=0
    )


def test_registers_spills_and_shared_memory_of_every_variant_are_told() -> None:
    function = jit.JITFunction(kernel)
    function.__module__ = "fastrnn.somewhere"
    variants = {"a": compiled(function, 86, 64), "b": compiled(function, 168, 128)}
    function.device_caches[0] = (variants, {}, None, None, None)
    small, large = sorted(
        (found for found in compiled_kernels() if found["kernel"] == "kernel"),
        key=lambda found: found["registers"],
    )
    assert small == {
        "kernel": "kernel",
        "target": 90,
        "warps": 8,
        "registers": 86,
        "spills": 0,
        "shared": 1024,
        "variant": "HIDDEN=64",
    }
    assert large["registers"] == 168
    function.device_caches.clear()
