"""The ``fastrnn`` command: a thin face over the floors below."""

from fastrnn.cli.app import main

__all__ = ["main"]
