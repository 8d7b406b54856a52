"""The build's command, its log, and programs that are ended in time."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import build, build_log, ncu
from benchmarks.gpu.commands import bounded

LOG = """
ptxas info    : Compiling entry function '_Z7forwardILi64EEvv' for 'sm_90a'
ptxas info    : Function properties for _Z7forwardILi64EEvv
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 49152 bytes smem
ptxas info    : Compiling entry function 'backward' for 'sm_90a'
ptxas info    : Used 254 registers
lstm.cu(12): error: identifier "hh" is undefined
ninja: build stopped: subcommand failed.
"""


def test_nothing_is_fetched_and_the_environment_stays_as_it_is(tmp_path: Path) -> None:
    command = build.command(tmp_path / "site", tmp_path / "build", ["FASTRNN_CUDA=ON"])
    assert {"--no-build-isolation", "--no-deps", "--no-index", "--target"} <= set(command)
    assert "--config-settings=cmake.define.FASTRNN_CUDA=ON" in command
    assert f"--config-settings=build-dir={tmp_path / 'build'}" in command


def test_kernel_resources_are_read_from_the_log() -> None:
    forward, backward = build_log.resources(LOG)
    assert forward == {
        "kernel": "_Z7forwardILi64EEvv",
        "target": "sm_90a",
        "stack": 8,
        "spills": 4,
        "registers": 168,
        "shared": 49152,
    }
    assert (backward["registers"], backward["shared"]) == (254, 0)


def test_the_errors_of_a_log_come_before_its_end() -> None:
    assert build_log.errors_of(LOG).startswith('lstm.cu(12): error: identifier "hh"')
    assert build_log.errors_of("all fine\nuntil the end") == "all fine\nuntil the end"


def test_kernels_have_the_names_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    mangled = [{"kernel": "_ZN1a1b7forwardINS0_4HalfELi64EEEvi", "registers": 96}]
    plain = "void a::b::forward<a::b::Half, 64>(int)\n"
    monkeypatch.setattr(build_log, "output_of", lambda command, text: plain)
    (entry,) = build_log.with_plain_names(mangled)
    assert entry == {"kernel": "forward<Half, 64>", "registers": 96}
    monkeypatch.setattr(build_log, "output_of", lambda command, text: "")
    assert build_log.with_plain_names(mangled) == mangled


NINJA_LOG = """\
# ninja log v5
2\t581\t179\tCMakeFiles/_cpu.dir/csrc/cpu/isa.cpp.o\t2bd1
100\t15100\t179\tCMakeFiles/cuda_half_32.dir/csrc/cuda/instances.cu.o\te5d2
2100\t18600\t179\tCMakeFiles/cuda_exact_128.dir/csrc/cuda/instances.cu.o\te4fb
18600\t19000\t179\t_cuda.so\te4fc
cut of"""


def test_the_time_of_the_cuda_sources_is_read_from_ninjas_log() -> None:
    found = build_log.cuda_times(NINJA_LOG.splitlines())
    longest = {"longest": "cuda_exact_128", "longest_seconds": 16.5}
    assert found == {"seconds": 18.5, "sources": 2, **longest}
    assert build_log.cuda_times(NINJA_LOG.splitlines()[:2]) == {}
    told = build_log.told_of_cuda({"cuda": found, "resources": build_log.resources(LOG)})
    assert told == (
        "2 CUDA sources in 18.5 s, the longest cuda_exact_128 in 16.5 s; "
        "2 kernels, 1 with spills, 254 registers at most"
    )
    assert build_log.told_of_cuda({"cuda": {}, "resources": []}) == ""


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [("9.0\n", "90a-real"), ("8.0\n9.0\n9.0\n", "80-real;90a-real"), ("7.5\n9.0\n", "")],
    ids=["one", "two kinds", "one without code of its own"],
)
def test_the_build_is_for_the_gpus_of_the_machine(capabilities: str, expected: str) -> None:
    assert build.architectures(capabilities) == expected
    assert build.architectures("NVIDIA-SMI has failed") == build.architectures("") == ""


@pytest.mark.parametrize(
    ("defines", "expected"),
    [
        ([], ["CMAKE_CUDA_ARCHITECTURES=90a-real"]),
        (["A=1"], ["A=1", "CMAKE_CUDA_ARCHITECTURES=90a-real"]),
        (["CMAKE_CUDA_ARCHITECTURES=80"], ["CMAKE_CUDA_ARCHITECTURES=80"]),
    ],
)
def test_what_the_user_defines_comes_first_and_old_times_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defines: list[str], expected: list[str]
) -> None:
    commands = []
    *old, new = NINJA_LOG.splitlines()[:4]
    log = tmp_path / "site_build" / ".ninja_log"
    log.parent.mkdir()
    log.write_text("\n".join(old))

    def compiled(command: list[str], *, log: Path, **_: object) -> int:
        commands.append(command)
        log.write_text(LOG)
        (tmp_path / "site_build" / ".ninja_log").write_text("\n".join([*old, new]))
        return 0

    monkeypatch.setattr(build, "output_of", lambda command: "9.0\n")
    monkeypatch.setattr(build, "bounded", compiled)
    record = build.build(tmp_path, tmp_path / "site", tmp_path / "log", 60, defines)
    asked = [c.split("cmake.define.")[1] for c in commands[0] if "cmake.define" in c]
    assert asked == expected
    assert record["architectures"] == ("" if "80" in expected[0] else "90a-real")
    assert record["cuda"]["sources"] == 1
    assert [entry["registers"] for entry in record["resources"]] == [168, 254]


def test_a_failed_build_is_a_record(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    record = build.build(root, tmp_path / "site", tmp_path / "log", 60)
    assert record["status"] == "error"
    assert record["modules"] == []
    assert "exit code" in record["error"]
    assert record["tail"]


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"--site is '.*site', which holds other files"):
        build.build(tmp_path, site, tmp_path / "log", 60)
    assert (site / "thesis.tex").exists()
    assert "no folder" in build.fault_of(site / "thesis.tex")


def test_its_own_folder_is_built_into_again(tmp_path: Path) -> None:
    root, site = tmp_path / "empty", tmp_path / "site"
    root.mkdir()
    site.mkdir()
    assert build.fault_of(site) == build.fault_of(tmp_path / "new") == ""
    build.build(root, site, tmp_path / "log", 60)
    (site / "old.py").touch()
    build.build(root, site, tmp_path / "log", 60)
    assert not (site / "old.py").exists()


def test_a_program_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)"
    begin = time.monotonic()
    code = bounded(
        [sys.executable, "-c", script],
        env=os.environ,
        folder=tmp_path,
        log=tmp_path / "log",
        timeout=0.5,
    )
    assert code is None
    assert time.monotonic() - begin < 10


def test_hardware_counters_are_read_by_launch() -> None:
    text = (
        "==PROF== Connected\n"
        '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        '"0","forward","gpu__time_duration.sum","ns","1,500"\n'
        '"0","forward","launch__registers_per_thread","register/thread","168"\n'
        '"1","forward","gpu__time_duration.sum","us","2.5"\n'
    )
    first, second = ncu.parse(text)
    assert first == {"kernel": "forward", "microseconds": 1.5, "registers": 168.0}
    assert second["microseconds"] == 2.5
    assert ncu.parse("==ERROR== no permission") == []


def test_the_clocks_are_left_alone(tmp_path: Path) -> None:
    cell = {"seq_len": 1024}
    command = ncu.command(cell, "triton", ["void a::(anonymous namespace)::forward<64>(int)"])
    assert command[command.index("--clock-control") + 1] == "none"
    assert "regex:forward" in command
