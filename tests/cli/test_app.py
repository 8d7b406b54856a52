import subprocess
import sys

import pytest

from fastrnn import __version__
from fastrnn.cli import app as app_module
from fastrnn.cli.errors import CommandError, describe

COMMANDS = ["demo", "inspect", "train", "self-train", "evaluate", "predict", "explain", "doctor"]


def test_version_is_the_packages(run):
    assert run("--version").out == f"fastrnn {__version__}\n"


def test_help_lists_every_command(run):
    outcome = run("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert f" {command} " in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(run, command):
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"Usage: fastrnn {command}" in outcome.out


def test_unknown_command_is_a_usage_error(run):
    outcome = run("tarin")
    assert outcome.code == 2
    assert "No such command" in outcome.err


def test_missing_argument_is_a_usage_error(run):
    outcome = run("train")
    assert outcome.code == 2
    assert "Missing argument" in outcome.err


def test_module_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fastrnn {__version__}\n"


class TestErrors:
    @pytest.fixture
    def failing(self, monkeypatch):
        def fail_with(error):
            def fail(*args, **kwargs):
                raise error

            monkeypatch.setattr(app_module, "app", fail)

        return fail_with

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (CommandError("no such thing"), 2, "error: no such thing\n"),
            (CommandError("it broke", exit_code=1), 1, "error: it broke\n"),
            (ValueError("x is 3"), 2, "error: x is 3\n"),
            (RuntimeError("the loss is nan"), 1, "error: the loss is nan\n"),
            (FileNotFoundError(2, "No such file", "a/b"), 2, "error: a/b: No such file\n"),
            (OSError(28, "No space left on device", "a/b"), 1, "error: a/b: No space left on "),
            (ModuleNotFoundError("No module named 'foo'", name="foo"), 1, "package 'foo'"),
            (ModuleNotFoundError("pip install fastrnn[x]", name="foo"), 1, "install fastrnn[x]"),
            (KeyError("k"), 1, "KeyError: 'k' (this looks like a bug"),
        ],
    )
    def test_an_error_is_one_line_and_an_exit_code(self, run, failing, error, code, message):
        failing(error)
        outcome = run("train")
        assert outcome.code == code
        assert message in outcome.err
        assert outcome.err.count("\n") == 1

    def test_debug_shows_the_traceback_wherever_it_stands(self, run, failing):
        failing(ValueError("x is 3"))
        with pytest.raises(ValueError, match="x is 3"):
            run("train", "strips", "--debug")

    def test_interrupt_has_its_exit_code(self, run, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("fastrnn.cli.evaluate.output_folder", interrupt)
        monkeypatch.setattr("fastrnn.cli.evaluate.EncoderClassifier.load", interrupt)
        assert run("evaluate", "model", "strips").code == 130

    def test_an_error_without_words_shows_its_type(self):
        assert describe(RuntimeError()) == ("RuntimeError", 1)
