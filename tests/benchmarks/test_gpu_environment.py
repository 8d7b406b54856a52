"""What is missing on a machine costs its own field only."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import results_file
from benchmarks.gpu import environment
from benchmarks.gpu.devices import CpuDevice
from benchmarks.gpu.worker import Context
from fastrnn.recurrence.backends import CpuBackend


def describe(commit: str = "") -> dict[str, object]:
    context = Context(CpuDevice(), lambda message: None)
    found: dict[str, object] = environment.describe({"commit": commit}, context)["environment"]
    return found


def test_without_git_the_rest_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = describe()
    assert found["commit"] == "unknown"
    assert found["cpu"]
    assert found["date"]
    assert describe("abc")["commit"] == "abc"


def test_without_the_native_module_the_rest_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: CpuBackend) -> str:
        raise RuntimeError("fastrnn._cpu cannot be imported")

    monkeypatch.setattr(CpuBackend, "isa", property(broken))
    found = results_file.environment()
    assert found["isa"] == "unknown (RuntimeError: fastrnn._cpu cannot be imported)"
    assert found["fastrnn"]
    assert found["commit"]
    assert found["date"]


def test_without_the_package_the_rest_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastrnn", None)
    found = results_file.environment()
    assert str(found["fastrnn"]).startswith("unknown (")
    assert found["commit"]


def test_a_broken_triton_is_told_in_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise AttributeError("no such symbol")

    monkeypatch.setattr(environment, "_triton_version", broken)
    found = describe()
    assert found["triton"] == "unknown (AttributeError: no such symbol)"
    assert found["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("properties", "asked"),
    [
        (SimpleNamespace(uuid="6d8f-11"), "--id=GPU-6d8f-11"),
        (SimpleNamespace(uuid="GPU-6d8f-11"), "--id=GPU-6d8f-11"),
        (SimpleNamespace(), "--id=0"),
    ],
)
def test_nvidia_smi_is_asked_for_the_gpu_that_torch_uses(
    monkeypatch: pytest.MonkeyPatch, properties: SimpleNamespace, asked: str
) -> None:
    commands = []

    def output(*command: str) -> str:
        commands.append(command)
        return "550.1, 1980 MHz, 1980 MHz, 2619 MHz, 700 W\n"

    named = SimpleNamespace(name="A GPU", major=9, minor=0, **vars(properties))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: named)
    monkeypatch.setattr(environment, "_output", output)
    device = SimpleNamespace(type="cuda", torch=torch.device("cpu"))
    found = environment._device(Context(device, lambda message: None))
    assert found["driver"] == "550.1"
    assert asked in commands[0]


def test_stored_results_do_not_make_a_checkout_dirty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    source, stored = tmp_path / "source.py", results / "gpu.json"
    monkeypatch.setattr(results_file, "ROOT", tmp_path)
    monkeypatch.setattr(results_file, "RESULTS", results)
    assert results_file.environment()["commit"] == "unknown"
    for path in (source, stored):
        path.write_text("before")
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit = results_file.environment()["commit"]
    stored.write_text("after")
    assert results_file.environment()["commit"] == commit
    source.write_text("after")
    assert results_file.environment()["commit"] == f"{commit}-dirty"
