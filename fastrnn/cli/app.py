"""The commands put together, and ``main``, which turns errors into messages and exit codes."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from fastrnn._version import __version__
from fastrnn.cli.demo import demo
from fastrnn.cli.doctor import doctor
from fastrnn.cli.errors import describe
from fastrnn.cli.evaluate import evaluate
from fastrnn.cli.explain import explain
from fastrnn.cli.inspect import inspect
from fastrnn.cli.option_groups import with_groups
from fastrnn.cli.predict import predict
from fastrnn.cli.self_train import self_train
from fastrnn.cli.train import train
from fastrnn.cli.tune import tune

app = typer.Typer(
    name="fastrnn",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastrnn {__version__}")
        raise typer.Exit


@app.callback()
def _fastrnn(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
) -> None:
    """Classify image strips with a fast LSTM, from few labels."""


for _command in (demo, inspect, train, tune, self_train, evaluate, predict, explain, doctor):
    app.command()(with_groups(_command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 is success, 1 a failure, 2 a wrong option or bad input, 130 an interrupt by Ctrl-C.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``fastrnn``; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # may stand anywhere, so that it can be added to a failed command
    try:
        # Commands find all words in their context, to start themselves once more.
        app([word for word in words if word != "--debug"], prog_name="fastrnn", obj=words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if debug:
            raise
        message, exit_code = describe(error)
        typer.secho(f"error: {message}", fg="red", err=True)
        return exit_code
    return 0
