"""What the command line says when something goes wrong, and its exit codes."""

import errno

from fastrnn.cli.wording import as_typed
from fastrnn.data import StripDecodeError

OK = 0
FAILURE = 1
BAD_INPUT = 2
INTERRUPTED = 130

# What a wrong path or a wrong value raises in the floors below.
_BAD_INPUT_ERRORS = (
    ValueError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


class CommandError(Exception):
    """A command can't go on; the message is all that the user needs to know.

    Parameters
    ----------
    message : str
        What was wrong, and what it should be.
    exit_code : int, default 2
        The exit code of the process.
    """

    def __init__(self, message: str, exit_code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def describe(error: Exception) -> tuple[str, int]:
    """Return the one-line message and the exit code for an exception.

    Arguments of Python are named as the options by which they are given.

    Examples
    --------
    >>> describe(ValueError("threshold is 2.0, but should be between 0 and 1"))
    ('threshold is 2.0, but should be between 0 and 1', 2)
    """
    text, exit_code = _described(error)
    return as_typed(text), exit_code


def _described(error: Exception) -> tuple[str, int]:
    if isinstance(error, CommandError):
        return str(error), error.exit_code
    if isinstance(error, StripDecodeError):
        return f"{error}; --skip-bad leaves such files out", BAD_INPUT
    if isinstance(error, _BAD_INPUT_ERRORS):
        return _text(error), BAD_INPUT
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):
        return f"the Python package {error.name!r} is needed here, but not installed", FAILURE
    if isinstance(error, OSError | RuntimeError | ModuleNotFoundError):
        return _text(error), FAILURE
    return (
        f"{type(error).__name__}: {_text(error)} (this looks like a bug in fastrnn: "
        "please report it with what the same command prints with --debug)",
        FAILURE,
    )


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        hint = ": you may not write there" if error.errno in (errno.EACCES, errno.EROFS) else ""
        return f"{error.filename}: {error.strerror}{hint}"
    return str(error) or type(error).__name__
