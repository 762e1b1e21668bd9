"""The command line, ``fnet``: a command a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fnet_callbacks.cli import analyze, report
from fnet_callbacks.errors import FnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 1 with a message where something was wrong with what it was given."""
    parser = argparse.ArgumentParser(
        prog="fnet",
        description="What the neurons of a network do together, from the records of its training and from its weights.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    report.add_to(commands)
    analyze.add_to(commands)
    asked = parser.parse_args(arguments)
    try:
        return asked.run(asked)
    except (FnetError, OSError) as error:
        print(f"fnet {asked.command}: {error}", file=sys.stderr)
        return 1
