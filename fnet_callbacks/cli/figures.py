"""``fnet figures``: the pictures of a run, from its record, while it goes on or at any time after."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fnet_callbacks.figures.drawing import Drawing
    from fnet_callbacks.record import Record

Write: TypeAlias = "Callable[[int, Mapping[str, Drawing | Figure]], None]"
_LAST, _ALL = "last", "all"


def figures(arguments: argparse.Namespace) -> int:
    """Draws snapshots of a run from its record, with places and colours that carry over from one to the next."""
    from fnet_callbacks.compare.records import read_records

    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise FnetError(f"`out`: {arguments.out} is a file; it should be a folder")
    records, problems = read_records([arguments.run_folder])
    for folder, reason in problems.items():
        print(f"left out: {folder}: {reason}", file=sys.stderr)
    if not records:
        raise FnetError(f"`run`: there is no record that can be read below {arguments.run_folder}")
    refused = []
    for record in records:
        own = record.folder.relative_to(arguments.run_folder) if len(records) > 1 else ""
        folder = record.folder / "figures" if arguments.out is None else arguments.out / own
        try:
            _draw(record, folder, arguments)
        except FnetError as error:  # the other records are drawn all the same
            refused.append(str(error))
    if refused:
        raise FnetError("\n".join(refused))
    return 0


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    own = commands.add_parser("figures", help="draw a run from its record", description=figures.__doc__)
    add = own.add_argument
    add("run_folder", type=Path, metavar="RUN", help="folder of a record, or one that holds such")
    add("--out", type=Path, metavar="FOLDER", help="default: figures/ in the record")
    add("--format", choices=("png", "svg"), default="png", help="of the files (default: png)")
    add("--logger", choices=("tensorboard",), help="write an event file there instead of files")
    add(
        "--steps",
        nargs="+",
        default=[_LAST],
        metavar="STEP",
        help="of snapshots, last, or all (default: last)",
    )
    add(
        "--names",
        nargs="+",
        metavar="NAME",
        help="of a network graph, communities, homology, correlation, neurons, evolution; of codes the place of a "
        "layer, such as 01 (default: all that the record has what is needed for)",
    )
    add("--instrument", metavar="NAME", help="default: all that have figures")
    own.set_defaults(run=figures)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is drawn of an instrument."""

    instrument: str
    steps: Sequence[int]
    names: Sequence[str]


def _draw(record: Record, folder: Path, arguments: argparse.Namespace) -> None:
    """Writes the figures of a record, and says how many they are and what is not among them."""
    from fnet_callbacks.figures.records import replay
    from fnet_callbacks.report.wording import counted

    tasks = _tasks(record, arguments)
    lacking: dict[str, str] = {}
    n_drawn: Counter[str] = Counter()
    with _written(folder, arguments) as write:
        for task in tasks:
            for drawn in replay(record, task.instrument, task.steps, task.names):
                lacking |= drawn.lacking
                n_drawn.update(drawn.figures.keys())
                if drawn.figures:
                    write(drawn.step, {f"{task.instrument}/figures/{k}": f for k, f in drawn.figures.items()})
    if n_drawn:
        print(f"wrote {counted(n_drawn.total(), 'figure')} to {folder}")
    never = {name: reason for name, reason in lacking.items() if not n_drawn[name]}
    if never and (arguments.names is not None or not n_drawn):
        raise FnetError(f"{record.folder}: " + "; ".join(f"no {name}: {why}" for name, why in never.items()))
    for name, reason in never.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)


def _tasks(record: Record, arguments: argparse.Namespace) -> list[_Task]:
    """What is drawn of each instrument; nothing is drawn where an argument is wrong."""
    from fnet_callbacks.figures.names import checked_names
    from fnet_callbacks.figures.records import figure_names, steps_of

    names_of = {name: figure_names(record, name) for name in record.instruments}
    asked = arguments.instrument
    if asked is not None and asked not in names_of:
        raise FnetError(
            f"`instrument`: {asked!r} is no instrument of {record.folder}; there is {', '.join(names_of) or 'none'}"
        )
    chosen = {name: own for name, own in names_of.items() if own and asked in (None, name)}
    if not chosen:
        there = ", ".join(f"{name} ({own.get('kind')})" for name, own in record.instruments.items())
        raise FnetError(
            f"{record.folder} has nothing to draw: there is {there or 'no instrument'}; figures are of a "
            "`FunctionalNetwork()` or of `FunctionalCodes()` among the instruments of the `Monitor`"
        )
    if arguments.names is not None:
        checked_names(arguments.names, list(dict.fromkeys(name for own in chosen.values() for name in own)))
    wanted = {
        name: own if arguments.names is None else [n for n in own if n in arguments.names]
        for name, own in chosen.items()
    }
    steps = {name: steps_of(record, name) for name, own in wanted.items() if own}
    _check_steps(arguments.steps, sorted({step for own in steps.values() for step in own}))
    return [_Task(name, _chosen_steps(arguments.steps, own), wanted[name]) for name, own in steps.items()]


def _chosen_steps(words: Sequence[str], every: Sequence[int]) -> list[int]:
    """Those of the steps of an instrument that are asked for."""
    found: set[int] = set()
    for word in words:
        found.update(every if word == _ALL else every[-1:] if word == _LAST else {int(word)} & {*every})
    return sorted(found)


def _check_steps(words: Sequence[str], every: Sequence[int]) -> None:
    """Raises for what stands for no snapshot."""
    for word in words:
        if word in (_LAST, _ALL):
            continue
        if not word.isdecimal():
            raise FnetError(f"`steps`: {word!r} should be the step of a snapshot, {_LAST!r} or {_ALL!r}")
        if int(word) not in every:
            near = sorted(sorted(every, key=lambda step: abs(step - int(word)))[:2])
            told = f"the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(map(str, near))}"
            raise FnetError(
                f"`steps`: there is no snapshot of step {word}; {told if near else 'there is none'}"
            )


@contextmanager
def _written(folder: Path, arguments: argparse.Namespace) -> Iterator[Write]:
    """What takes the figures of a step by key: to files, named as a run names them, or to TensorBoard."""
    if arguments.logger is None:
        yield lambda step, figures: _write_files(folder, arguments.format, step, figures)
        return
    from torch.utils.tensorboard import SummaryWriter

    from fnet_callbacks.engine.loggers import Loggers

    with SummaryWriter(str(folder)) as writer:
        loggers = Loggers([SimpleNamespace(experiment=writer)], keys=())
        yield lambda step, figures: loggers.figures(step, {k: _encoded(f, "png") for k, f in figures.items()})


def _write_files(folder: Path, kind: str, step: int, figures: Mapping[str, Drawing | Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for key, figure in figures.items():
        path = folder / f"{step}_{re.sub('[^A-Za-z0-9_.-]+', '_', key)}.{kind}"
        path.write_bytes(_encoded(figure, kind).tobytes())


def _encoded(figure: Drawing | Figure, kind: str) -> np.ndarray:
    """The bytes of a file."""
    from fnet_callbacks.figures import png
    from fnet_callbacks.figures.drawing import Drawing

    if isinstance(figure, Drawing):
        text, image = figure.svg, figure.image
    else:
        from fnet_callbacks.figures.canvas import image_of, svg_of

        text, image = partial(svg_of, figure), partial(image_of, figure)
    return np.frombuffer(text().encode(), np.uint8) if kind == "svg" else png(image())
