"""``fnet report``: records of runs as one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fnet_callbacks.errors import FnetError


def report(arguments: argparse.Namespace) -> int:
    """Writes the page that compares runs, and what it is made of as CSV."""
    from fnet_callbacks.compare.progress import progress_shown

    with progress_shown():
        return _report(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from fnet_callbacks.compare.runs import read_runs
    from fnet_callbacks.report.content import content_of
    from fnet_callbacks.report.page import write_page
    from fnet_callbacks.report.tables import write_csv
    from fnet_callbacks.report.wording import counted

    runs = read_runs(arguments.runs, group_by=arguments.group_by)
    for folder, reason in runs.problems.items():
        print(f"left out: {folder}: {reason}", file=sys.stderr)
    if arguments.csv is not None and arguments.csv.exists() and not arguments.csv.is_dir():
        raise FnetError(f"`csv`: {arguments.csv} is a file; it should be a folder")
    if len(runs.groups) == len(runs.runs) > 1 and not runs.grouped_by and runs.differing:
        print(
            f"each run is a group of its own; --group-by one of {', '.join(runs.differing)}", file=sys.stderr
        )
    content = content_of(runs, baseline=arguments.baseline)
    summary = f"{counted(len(runs.runs), 'run')} in {counted(len(runs.groups), 'group')}"
    print(summary + (f", {content.baseline} the baseline" if len(runs.groups) > 1 else ""))
    print(f"wrote {write_page(content, arguments.output)}")
    if arguments.csv is not None:
        for path in write_csv(content, arguments.csv):
            print(f"wrote {path}")
    return 0


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    own = commands.add_parser("report", help="compare runs in one HTML page", description=report.__doc__)
    own.add_argument("runs", nargs="+", type=Path, help="folders of records, or folders that hold such")
    own.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default: report.html")
    own.add_argument("--group-by", metavar="KEY", help="of the configuration; default: the regularisation")
    own.add_argument("--baseline", metavar="GROUP", help="what the others are compared with")
    own.add_argument("--csv", type=Path, metavar="FOLDER", help="write the tables there too")
    own.set_defaults(run=report)
