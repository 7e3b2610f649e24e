"""The command line: each command reads its words, calls one function of :mod:`upkeep.api`, and shows the answer."""

from upkeep.cli.main import main

__all__ = ["main"]
