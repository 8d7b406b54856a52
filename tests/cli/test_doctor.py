import sys

import torch

from fastrnn.recurrence.dispatch import BACKENDS


def test_shows_versions_processor_and_every_backend(run):
    outcome = run("doctor")
    assert outcome.code == 0
    assert torch.__version__ in outcome.out
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
    assert "backend is 'cuddn'; it should be 'auto' or one of 'cpu', 'eager'" in outcome.out
