"""``fnet report``: records of runs as one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fnet_callbacks.errors import FnetError


def report(asked: argparse.Namespace) -> int:
    """Writes the page that compares runs, and what it is made of as CSV."""
    from fnet_callbacks.compare.progress import progress_shown

    with progress_shown():
        return _report(asked)


def _report(asked: argparse.Namespace) -> int:
    from fnet_callbacks.compare.runs import read_runs
    from fnet_callbacks.report.content import content_of
    from fnet_callbacks.report.page import write_page
    from fnet_callbacks.report.tables import write_csv
    from fnet_callbacks.report.wording import counted

    runs = read_runs(asked.runs, group_by=asked.group_by)
    for folder, reason in runs.problems.items():
        print(f"left out: {folder}: {reason}", file=sys.stderr)
    if asked.csv is not None and asked.csv.exists() and not asked.csv.is_dir():
        raise FnetError(f"`csv`: {asked.csv} is a file; it should be a folder")
    if len(runs.groups) == len(runs.runs) > 1 and not runs.grouped_by and runs.differing:
        print(
            f"each run is a group of its own; --group-by one of {', '.join(runs.differing)}", file=sys.stderr
        )
    content = content_of(runs, baseline=asked.baseline)
    told = f"{counted(len(runs.runs), 'run')} in {counted(len(runs.groups), 'group')}"
    print(told + (f", {content.baseline} the baseline" if len(runs.groups) > 1 else ""))
    print(f"wrote {write_page(content, asked.output)}")
    if asked.csv is not None:
        for path in write_csv(content, asked.csv):
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
