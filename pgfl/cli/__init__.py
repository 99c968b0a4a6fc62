"""The command line, a module for each stage."""

from pgfl.cli.main import main

__all__ = ["main"]
