import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fastrnn.recurrence.autoselect import current_versions
from fastrnn.recurrence.decisions import Decision, ProblemClass, merge_decisions
from fastrnn.recurrence.dispatch import BACKENDS


@pytest.fixture(autouse=True)
def decisions_file(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTRNN_AUTOTUNE", raising=False)
    monkeypatch.setenv("FASTRNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decisions.json"


def problem_class(**changes):
    values = {
        "device_name": "NVIDIA H200",
        "compute_capability": "9.0",
        "baseline": "cudnn",
        "dtype": "float16",
        "allow_tf32": False,
        "hidden_size": 128,
        "proj_size": 0,
        "num_directions": 2,
        "input_size_up_to": 128,
        "input_alignment": 8,
        "batch_size_up_to": 32,
        "seq_len_up_to": 256,
        "variable_length": True,
        "training": True,
        "last_state_only": False,
    }
    return ProblemClass(**current_versions() | values | changes)


def test_shows_versions_processor_and_every_backend(run):
    outcome = run("doctor")
    assert outcome.code == 0
    assert torch.__version__ in outcome.out
    for name in ("cuda", "cudnn", "triton"):
        assert f"\n  {name} " in outcome.out
    for backend in BACKENDS:
        assert f"  {backend.name} " in outcome.out
    assert "this processor can run: " in outcome.out


def test_shows_what_the_environment_forces(run, monkeypatch):
    monkeypatch.setenv("FASTRNN_CPU_ISA", "portable")
    monkeypatch.setenv("FASTRNN_BACKEND", "eager")
    outcome = run("doctor")
    assert "portable (forced by FASTRNN_CPU_ISA" in outcome.out
    assert "forced        eager" in outcome.out


def test_names_an_unknown_instruction_set(run, monkeypatch):
    monkeypatch.setenv("FASTRNN_CPU_ISA", "mmx")
    outcome = run("doctor")
    assert outcome.code == 1
    assert "FASTRNN_CPU_ISA is 'mmx'" in outcome.out


def test_says_so_if_the_native_kernel_is_missing(run, monkeypatch):
    import fastrnn

    monkeypatch.delattr(fastrnn, "_cpu", raising=False)
    monkeypatch.setitem(sys.modules, "fastrnn._cpu", None)
    outcome = run("doctor")
    assert outcome.code == 1
    assert "the native kernel can't be loaded" in outcome.out
    assert "pip install ." in outcome.out


def test_gives_the_reasons_of_an_unavailable_backend(run, monkeypatch):
    monkeypatch.setattr(type(BACKENDS[0]), "unavailable", lambda self: ["no wings", "no legs"])
    assert "not here: no wings; no legs" in run("doctor").out


def test_names_an_unknown_forced_backend(run, monkeypatch):
    monkeypatch.setenv("FASTRNN_BACKEND", "cuddn")
    outcome = run("doctor")
    assert outcome.code == 1
    names = ", ".join(repr(backend.name) for backend in BACKENDS)
    assert f"backend is 'cuddn'; it should be 'auto' or one of {names}" in outcome.out


def test_shows_what_a_gpu_is(run, monkeypatch):
    gpu = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert "gpu 0         NVIDIA H200, compute capability 9.0, 141 GiB" in run("doctor").out


def test_shows_where_decisions_would_be_kept(run, decisions_file):
    outcome = run("doctor")
    assert outcome.code == 0
    assert f"file          {decisions_file}" in outcome.out
    assert "trials        on" in outcome.out
    assert "none yet" in outcome.out


def test_shows_each_decision_in_a_line(run, decisions_file):
    decision = Decision(
        "triton", {"cudnn": 812.4, "triton": 401.3}, 0.494, {"cuda": "it raised Error: no"}
    )
    other = problem_class(hidden_size=64, allow_tf32=True, seq_len_up_to=None, training=False)
    other = replace(other, baseline="eager")
    merge_decisions(decisions_file, {problem_class(): decision, other: Decision("cudnn")})
    out = run("doctor").out
    assert (
        "  triton        NVIDIA H200, float16, H=128, D=2, I=65..128 (multiples of 8), "
        "B=17..32, T=129..256, with lengths, training: cudnn 812 us, triton 401 us; "
        "not cuda: it raised Error: no\n" in out
    )
    assert "with TF32, H=64, " in out
    assert "T>256, with lengths, inference: not timed (against eager)\n" in out
    assert "none yet" not in out


def test_counts_decisions_of_other_versions(run, decisions_file):
    merge_decisions(decisions_file, {problem_class(torch="0.1"): Decision("triton")})
    out = run("doctor").out
    assert "none yet" in out
    assert "not used      1 made with other versions" in out


def test_a_damaged_decision_file_is_shown_and_no_illness(run, decisions_file):
    decisions_file.parent.mkdir()
    decisions_file.write_text("these are words")
    outcome = run("doctor")
    assert outcome.code == 0
    assert "ignored       it cannot be read" in outcome.out


def test_says_that_trials_are_off(run, monkeypatch):
    monkeypatch.setenv("FASTRNN_AUTOTUNE", "0")
    assert "trials        off (FASTRNN_AUTOTUNE is 0)" in run("doctor").out
