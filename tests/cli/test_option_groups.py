import doctest
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from fastrnn.cli import option_groups
from fastrnn.cli.model_options import ModelOptions
from fastrnn.cli.option_groups import flag, given, with_groups
from fastrnn.cli.reading_options import KeepName, ReadingOptions


@dataclass(frozen=True)
class Size:
    """A group of options."""

    height: Annotated[int, typer.Option(min=1, help="Rows.")] = 3
    wide: Annotated[bool, typer.Option("--wide")] = False


@pytest.fixture
def called():
    """Makes a command of a function with a group; returns how to call it, and what it was given."""
    got = []

    def measure(
        name: Annotated[str, typer.Argument()],
        size: Size,
        times: Annotated[int, typer.Option()] = 2,
    ) -> None:
        """Measure something."""
        got.append((name, size, times))

    app = typer.Typer()
    app.command()(with_groups(measure))
    return (lambda *words: CliRunner().invoke(app, words)), got


def test_a_group_is_an_option_for_each_field(called):
    call, got = called
    assert call("x", "--height", "9", "--times", "1").exit_code == 0
    assert call("y", "--wide").exit_code == 0
    assert got == [("x", Size(9), 1), ("y", Size(wide=True), 2)]


def test_help_and_checks_are_those_of_the_options(called):
    call, got = called
    shown = call("--help").output
    assert "Measure something." in shown
    assert "--height" in shown
    assert "Rows." in shown
    assert call("x", "--height", "0").exit_code == 2
    assert got == []


def test_what_is_given_is_what_differs_from_the_defaults():
    assert given(Size()) == given(ReadingOptions()) == given(ModelOptions()) == {}
    assert given(Size(height=4)) == {"height": 4}
    options = ReadingOptions(max_width=3, keep=KeepName.HEAD)
    assert given(options) == {"max_width": 3, "keep": "head"}
    assert flag("max_width") == "--max-width"


def test_examples_in_docstrings_run():
    assert doctest.testmod(option_groups).failed == 0
