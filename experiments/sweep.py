"""Train the same model under many settings: a grid of options, a folder for each trial.

    python -m experiments.sweep experiments/sweeps/digits.yaml
    python -m experiments.sweep experiments/sweeps/digits.yaml --out runs/long trainer.max_epochs=100
    python -m experiments.sweep experiments/sweeps/digits.yaml --engine ray --ray-address head:6379

The file is flat. ``config`` is the path, from the file, of a configuration of ``experiments.train``; every other key
is an option of that command such as ``model.regularizer``, and a list is an axis of the grid. A value that is itself
a list stands in a list: ``model.hidden: [[128, 128]]``. A number in a name is a place in a list, as in
``trainer.callbacks.0.init_args.every_n_steps``. ``threads`` are torch's in one trial. What stands on the command line
as ``name=value`` replaces what the file says.

Started again, a sweep goes on where it stopped: what is finished is kept, what was cut off or failed is moved to
``superseded/`` and run again. The same trial gives the same numbers on either engine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.engines import Logging, run_local, run_ray, serve_trial
from experiments.trials import Trial, finished, prepare, read_sweep, state_of
from fnet_callbacks.errors import FnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing of a sweep; 1 where a trial failed."""
    asked = parsed(arguments)
    logging = Logging(asked.logger, asked.project)
    if asked.data_dir is not None:
        os.environ["FNET_DATA_DIR"] = str(Path(asked.data_dir).resolve())
    if asked.trial is not None:
        serve_trial(asked.trial, logging)
        return 0
    if asked.engine == "local" and (asked.ray_address or asked.stop_early):
        raise FnetError("`ray_address` and `stop_early` go with `engine='ray'`, which should be asked for")
    if asked.sweep is None:
        raise FnetError("`sweep` should be the path of a sweep file, such as experiments/sweeps/digits.yaml")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # takes the trials along, as Ctrl-C does
    trials = read_sweep(asked.sweep, dict(map(option, asked.options)))
    out = asked.out or Path("runs") / asked.sweep.stem
    waiting = [trial for trial in trials if not trial.is_done(out)]
    if waiting:
        check(waiting[0])
    folders = prepare(waiting, out)
    print(f"{len(trials)} trials in {out}, {len(folders)} of them to be run", flush=True)
    if asked.engine == "local":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = asked.workers or max(1, cores // max((t.threads for t in trials), default=1))
        run_local(folders, workers=workers, logging=logging)
    else:
        run_ray(
            folders,
            workers=asked.workers,
            logging=logging,
            address=asked.ray_address,
            stop_early=asked.stop_early,
            mode=asked.mode,
        )
    return _told(trials, out)


def check(trial: Trial) -> None:
    """Asks experiments.train whether it knows a trial's options; trials of one sweep have the same.

    Raises:
        FnetError: It does not.
    """
    from experiments.data import DataModule
    from experiments.models import Classifier
    from experiments.train import TrainCLI

    parsing: Any = {"parser_kwargs": {"exit_on_error": False}}
    shown, told = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told):
            TrainCLI(
                Classifier,
                DataModule,
                args=["fit", "--config", yaml.safe_dump(dict(trial.settings)), "--print_config"],
                **parsing,
            )
    except SystemExit as end:  # after the configuration was shown
        if end.code:
            raise FnetError(f"the trials' options: {told.getvalue()}") from end
    except Exception as error:
        raise FnetError(f"the trials' options: {error}") from error


def _told(trials: Sequence[Trial], out: Path) -> int:
    states = {trial.name: state_of(trial.folder(out)) for trial in trials}
    failed = {
        name: s.get("reason", "it was cut off")
        for name, s in states.items()
        if s.get("state") not in ("finished", "stopped")
    }
    stopped = sum(s.get("state") == "stopped" for s in states.values())
    finished = len(states) - len(failed) - stopped
    print(
        f"{finished} finished" + (f", {stopped} stopped early" if stopped else "") + f", {len(failed)} failed"
    )
    for name, reason in failed.items():
        print(f"  {name}: {reason}")
    if failed or stopped:
        print(
            "  what did not finish counts in a report as far as it came; name the other folders to leave it out"
        )
    print(f"\nCompare them: {Path(sys.executable).parent / 'fnet'} report {out} -o {out / 'report.html'}")
    return int(bool(failed))


def option(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``, the value as YAML has it."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise FnetError(f"`{text}` should be name=value, such as trainer.max_epochs=100")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise FnetError(f"`{text}`: the value cannot be read as YAML: {error}") from error


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; options may stand before and after ``name=value``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sweep", nargs="?", type=Path, help="the sweep file")
    add("options", nargs="*", metavar="name=value", help="in place of what the file says")
    add("--out", type=Path, help="folder of the runs; default: runs/<name of the file>")
    add("--data-dir", help="folder with the data sets; no part of what a trial is")
    add("--engine", choices=("local", "ray"), default="local", help="default: processes of this machine")
    add("--workers", type=_positive, help="trials at a time; default: as many as the cores have threads for")
    add("--logger", choices=("tensorboard", "csv", "wandb"), default="tensorboard")
    add("--project", default="fnet_callbacks", help="of W&B; runs are grouped by regularizer")
    add("--ray-address", help="host:port of a cluster; default: one is started here")
    add("--stop-early", metavar="KEY", help="ray: stop trials that are behind in this logged value")
    add("--mode", choices=("max", "min"), default="max", help="whether that should be large or small")
    add("--trial", type=Path, help=argparse.SUPPRESS)
    return parser.parse_intermixed_args(arguments)


def study_parser(description: str | None, out: Path) -> argparse.ArgumentParser:
    """The command line of a study that trains the runs of a sweep file, and then looks at them."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=out, help="folder of the runs")
    add("--data-dir", help="folder with the data sets")
    add("--workers", help="trials at a time")
    add("options", nargs="*", metavar="name=value", help="in place of what the sweep file says")
    return parser


def run_study(
    sweep: Path, out: Path, asked: argparse.Namespace, options: Sequence[str] = ()
) -> tuple[int, list[Path]]:
    """Runs what is missing of a study's sweep; ``options`` come before those that were asked for.

    Returns:
        1 where a trial failed, else 0; and the folders of the study's own trials that finished.
    """
    options = [*options, *asked.options]
    passed_on = [str(sweep), "--out", str(out), *options]
    passed_on += ["--data-dir", asked.data_dir] if asked.data_dir else []
    passed_on += ["--workers", asked.workers] if asked.workers else []
    return main(passed_on), finished(read_sweep(sweep, dict(map(option, options))), out)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be an integer of at least 1")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FnetError as error:
        sys.exit(f"error: {error}")
