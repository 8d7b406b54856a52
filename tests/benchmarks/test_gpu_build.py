"""The build's command, its log, and programs that are ended in time."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import build, ncu
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
    forward, backward = build.resources(LOG)
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
    assert build.errors_of(LOG).startswith('lstm.cu(12): error: identifier "hh"')
    assert build.errors_of("all fine\nuntil the end") == "all fine\nuntil the end"


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
