"""The command line, ``fnet``: a command a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fnet_callbacks.cli import analyze, figures, report
from fnet_callbacks.cli.options import Command
from fnet_callbacks.errors import FnetError


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command, by default that of the command line; 1 with a message where an argument was wrong."""
    parser = argparse.ArgumentParser(
        prog="fnet",
        description="What the neurons of a network do together, from the records of its training and from its weights.",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Command)
    report.add_to(commands)
    figures.add_to(commands)
    analyze.add_to(commands)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except (FnetError, OSError) as error:
        print(f"fnet {arguments.command}: {error}", file=sys.stderr)
        return 1
