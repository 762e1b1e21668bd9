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
``superseded/`` and run again. Several may be at work in one folder: a trial is run by the sweep whose process its lock
names, ``.<hash>.lock``, and by another one once that process is gone. The first trial is alone until it has trained its
first batch, so that a mistake in all of them is found by two. The same trial gives the same numbers on either engine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.engines import Logging, run_local, run_ray, serve_trial
from experiments.files import from_yaml
from experiments.trials import Trial, at_work_elsewhere, finished, prepare, read_sweep, release, state_of
from fnet_callbacks.errors import FnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing of a sweep; 1 where a trial failed."""
    asked = parsed(arguments)
    logging = Logging(asked.logger, asked.project)
    if asked.trial is not None:
        serve_trial(asked.trial, logging)
        return 0
    if asked.engine == "local" and (asked.ray_address or asked.stop_early):
        raise FnetError("`ray_address` and `stop_early` go with `engine='ray'`, which should be asked for")
    if asked.sweep is None:
        raise FnetError("`sweep` should be the path of a sweep file, such as experiments/sweeps/digits.yaml")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # takes the trials along, as Ctrl-C does
    options = options_of(asked.options)
    if asked.data_dir is not None:
        if options.keys() & {"data_dir", "data.data_dir"}:
            raise FnetError("`--data-dir` and `data.data_dir` say the same; leave one out")
        options["data.data_dir"] = asked.data_dir
        os.environ["FNET_DATA_DIR"] = str(Path(asked.data_dir).absolute())  # for a study's own look at them
    trials = read_sweep(asked.sweep, options)
    out = asked.out or Path("runs") / asked.sweep.stem
    check([trial for trial in trials if not trial.is_done(out)])
    try:
        _run(trials, out, asked, logging)
    finally:
        release(trials, out)
    return _told(trials, out)


def _run(trials: Sequence[Trial], out: Path, asked: argparse.Namespace, logging: Logging) -> None:
    """Runs what is missing, and no other sweep is at work on."""
    folders = prepare(trials, out)
    elsewhere = at_work_elsewhere(trials, out)
    left = f", {len(elsewhere)} at work in another sweep" if elsewhere else ""
    print(f"{len(trials)} trials in {out}, {len(folders)} of them to be run{left}", flush=True)
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


def check(trials: Sequence[Trial]) -> None:
    """Asks experiments.train whether it knows the options of trials; one is asked of for each new kind of value.

    Raises:
        FnetError: It does not, or takes an option from elsewhere.
    """
    known: set[str] = set()
    for trial in trials:
        own = {f"{key} {_kind(value)}" for key, value in _leaves(trial.settings)}
        if not own <= known:
            known |= own
            _check(trial)


def _check(trial: Trial) -> None:
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
            raise FnetError(f"the options of the trial {trial.name}: {told.getvalue()}") from end
    except Exception as error:
        raise FnetError(f"the options of the trial {trial.name}: {error}") from error
    if missing := _missing(trial.settings, yaml.safe_load(shown.getvalue())):
        raise FnetError(
            f"`{missing}` would have no effect: experiments.train takes it from the data; leave it out"
        )


def _missing(settings: Mapping[str, Any], shown: Any, above: str = "") -> str | None:
    """The name of a setting that is not in the configuration as it was understood; None where all are."""
    if not isinstance(shown, Mapping):
        return None
    for key, value in settings.items():
        if key not in shown:
            return f"{above}{key}"
        inner = _missing(value, shown[key], f"{above}{key}.") if isinstance(value, Mapping) else None
        if inner is not None:
            return inner
    return None


def _leaves(settings: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of settings, down to what has no parts."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _leaves(value, f"{above}.{key}")
    elif isinstance(settings, list) and any(isinstance(value, Mapping) for value in settings):
        for place, value in enumerate(settings):
            yield from _leaves(value, f"{above}.{place}")
    else:
        yield above, settings


def _kind(value: Any) -> str:
    """What makes a value one that has not been seen: a number is like another one."""
    return type(value).__name__ if isinstance(value, int | float) else json.dumps(value, default=str)


def _told(trials: Sequence[Trial], out: Path) -> int:
    elsewhere = at_work_elsewhere(trials, out)
    states = {trial.name: state_of(trial.folder(out)) for trial in trials}
    failed = {
        name: s.get("reason", "it was cut off")
        for name, s in states.items()
        if s.get("state") not in ("finished", "stopped") and name not in elsewhere
    }
    stopped = sum(s.get("state") == "stopped" for s in states.values())
    finished = sum(s.get("state") == "finished" for s in states.values())
    print(
        f"{finished} finished" + (f", {stopped} stopped early" if stopped else "") + f", {len(failed)} failed"
    )
    for name, reason in failed.items():
        print(f"  {name}: {reason}")
    if failed or stopped:
        print(
            "  what did not finish counts in a report as far as it came; name the other folders to leave it out"
        )
    if elsewhere:
        print(f"{len(elsewhere)} at work in another sweep")
    for name, who in elsewhere.items():
        print(f"  {name}: {who}")
    print(f"\nCompare them: {Path(sys.executable).parent / 'fnet'} report {out} -o {out / 'report.html'}")
    return int(bool(failed))


def options_of(texts: Sequence[str]) -> dict[str, Any]:
    """What each ``name=value`` says.

    Raises:
        FnetError: One is none, or a name stands twice: of two values one would go without a word.
    """
    found: dict[str, Any] = {}
    for name, value in map(option, texts):
        if name in found:
            raise FnetError(
                f"`{name}` stands twice on the command line; both values together are `{name}=[...]`"
            )
        found[name] = value
    return found


def option(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``, the value as YAML has it."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise FnetError(f"`{text}` should be name=value, such as trainer.max_epochs=100")
    try:
        return name, from_yaml(value)
    except (yaml.YAMLError, FnetError) as error:
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
    replaced = options_of(asked.options)
    options = [*(text for text in options if option(text)[0] not in replaced), *asked.options]
    passed_on = [str(sweep), "--out", str(out), *options]
    passed_on += ["--data-dir", asked.data_dir] if asked.data_dir else []
    passed_on += ["--workers", asked.workers] if asked.workers else []
    return main(passed_on), finished(read_sweep(sweep, options_of(options)), out)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be an integer of at least 1")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FnetError as error:
        sys.exit(f"error: {error}")
