"""The trials of a sweep: what each was asked, its folder, and how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fnet_callbacks.errors import FnetError

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None

LoggerName = Literal["tensorboard", "csv", "wandb"]
TRIAL, STATE, CONFIG, LOCK = "trial.json", "state.json", "asked.yaml", "running.lock"
_LONGEST_NAME = 100
_MOST_TRIALS, _MOST_VALUES = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run of a sweep.

    Attributes:
        name: Of its folder: the values that tell it from the others, and a hash of all its settings.
        settings: A whole configuration of ``experiments.train``.
        threads: Of torch; they may change the last bits of the numbers, so they belong to a trial.
    """

    name: str
    settings: Mapping[str, Any]
    threads: int

    def folder(self, out: Path) -> Path:
        """Where it is, or will be; known by its hash, as the name says what else was in the grid."""
        digest = self.name.rpartition("-")[2]
        return next(iter(sorted(out.glob(f"*-{digest}"))), out / self.name)

    def is_done(self, out: Path) -> bool:
        """Whether it has finished, or a scheduler has stopped it: it is not run again."""
        return state_of(self.folder(out)).get("state") in ("finished", "stopped")


def read_sweep(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> list[Trial]:
    """The trials of a sweep file, in the order of its axes, the last one fastest.

    Args:
        path: The file.
        options: By name, what stands in place of the file's values, or beside them.

    Raises:
        FnetError: The file cannot be read, an option has no place in the configuration, an axis is empty, or a
            trial comes twice.
    """
    path = Path(path)
    asked = _read_yaml(path) | dict(options or {})
    if not isinstance(asked.get("config"), str):
        raise FnetError(f"{path}: `config` should be the path of a configuration of experiments.train")
    config = _read_yaml(path.parent / asked.pop("config"))
    threads = asked.pop("threads", 1)
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise FnetError(f"{path}: `threads={threads!r}` should be an integer of at least 1")
    axes = {key: value if isinstance(value, list) else [value] for key, value in asked.items()}
    if empty := [key for key, values in axes.items() if not values]:
        raise FnetError(f"{path}: `{empty[0]}` has no value; the grid is empty")
    varied = [key for key, values in axes.items() if len(values) > 1]
    if (n_trials := math.prod(map(len, axes.values()))) > _MOST_TRIALS:
        raise FnetError(f"{path}: the grid has {n_trials} trials; {_MOST_TRIALS} are the most")
    trials: dict[str, Trial] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        settings = json.loads(json.dumps(config, default=str))
        for key, value in chosen.items():
            _put(settings, key, value)
        digest = hashlib.sha256(
            json.dumps([settings, threads], sort_keys=True, default=str).encode()
        ).hexdigest()[:8]
        label = "-".join(f"{key.rpartition('.')[2]}={chosen[key]}" for key in varied) or "trial"
        name = f"{re.sub(r'[^A-Za-z0-9_.=+]+', '-', label)[:_LONGEST_NAME]}-{digest}"
        if digest in trials:
            raise FnetError(f"{path}: the trial {label} comes twice; each value of an axis should stand once")
        trials[digest] = Trial(name, settings, threads)
    return list(trials.values())


def state_of(folder: Path) -> dict[str, Any]:
    """How a trial ended: its ``state`` (finished, failed, stopped) and a ``reason``; empty where it has not."""
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_state(folder: Path, state: str, **more: Any) -> None:
    """Notes how a trial ended."""
    _write_json(folder / STATE, {"state": state, **more})


def prepare(trials: Sequence[Trial], out: Path) -> list[Path]:
    """Makes the folders of the trials that are to be run; what is left of an earlier attempt is moved aside.

    Raises:
        FnetError: A folder cannot be written, or a trial is being run by another sweep.
    """
    waiting = []
    try:
        for trial in trials:
            if trial.is_done(out):
                continue
            folder = trial.folder(out)
            if folder.exists():
                with _held(folder):
                    attic = out / "superseded"
                    attic.mkdir(exist_ok=True)
                    places = (attic / f"{folder.name}.{i}" for i in itertools.count(1))
                    folder.rename(next(place for place in places if not place.exists()))
            folder = out / trial.name
            folder.mkdir(parents=True)
            _write_json(folder / TRIAL, asdict(trial))
            waiting.append(folder)
    except OSError as error:
        raise FnetError(f"`out`: a trial's folder cannot be written: {error}") from error
    return waiting


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keeps a trial's folder to this process, where the system knows how.

    Raises:
        FnetError: Another process has it.
    """
    if fcntl is None:
        yield
        return
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FnetError(f"`out`: {folder} is being run by another sweep") from error
        except OSError:  # a file system without locks
            pass
        yield


def finished(trials: Sequence[Trial], out: Path) -> list[Path]:
    """The folders of those trials that came to their end; others may be in ``out``, of another sweep.

    Raises:
        FnetError: There is none.
    """
    folders = [trial.folder(out) for trial in trials]
    found = [folder for folder in folders if state_of(folder).get("state") == "finished"]
    if not found:
        raise FnetError(f"`out`: no trial in {out} has finished")
    return found


def run_trial(folder: Path, *, logger: LoggerName, project: str, callbacks: Sequence[Any] = ()) -> None:
    """Trains as the folder's ``trial.json`` says, in this process, and notes how it ended.

    Args:
        folder: Of the trial.
        logger: The run's logger.
        project: For W&B.
        callbacks: Beside those of the configuration.

    Raises:
        Exception: What went wrong, after it was noted.
    """
    import torch

    from experiments.data import DataModule
    from experiments.models import Classifier
    from experiments.train import TrainCLI

    start = time.perf_counter()
    with _held(folder):
        try:
            trial = Trial(**json.loads((folder / TRIAL).read_text()))
            torch.set_num_threads(trial.threads)
            settings = json.loads(json.dumps(trial.settings))
            trainer = settings.setdefault("trainer", {})
            trainer["logger"] = _logger(logger, folder, settings, project)
            trainer["default_root_dir"] = str(folder)
            (folder / CONFIG).write_text(yaml.safe_dump(settings))
            TrainCLI(
                Classifier,
                DataModule,
                args=["fit", "--config", str(folder / CONFIG)],
                parser_kwargs={"exit_on_error": False},
                trainer_defaults={"callbacks": list(callbacks)},
            )
        except BaseException as error:
            if not (
                isinstance(error, SystemExit) and error.code == 0
            ):  # so a scheduler ends a trial; it says why
                write_state(folder, "failed", reason=f"{type(error).__name__}: {error}")
            raise
        write_state(folder, "finished", seconds=round(time.perf_counter() - start, 3))


def _logger(logger: LoggerName, folder: Path, settings: Mapping[str, Any], project: str) -> dict[str, Any]:
    name, arguments = {
        "tensorboard": ("TensorBoardLogger", {"version": "", "default_hp_metric": False}),
        "csv": ("CSVLogger", {"version": ""}),
        "wandb": ("WandbLogger", {"project": project, "group": settings.get("model", {}).get("regularizer")}),
    }[logger]
    place = {"save_dir": str(folder)} if logger == "wandb" else {"save_dir": str(folder.parent)}
    return {
        "class_path": f"lightning.pytorch.loggers.{name}",
        "init_args": {**place, "name": folder.name, **arguments},
    }


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Sets an option by its dotted name; a number is a place in a list."""
    *path, last = key.split(".")
    place: Any = settings
    for part in path:
        index = _index(place, part, key)
        place = place.setdefault(index, {}) if isinstance(place, dict) else place[index]
    place[_index(place, last, key)] = value


def _index(place: Any, part: str, key: str) -> Any:
    if isinstance(place, dict):
        return part
    if isinstance(place, list) and part.isdigit() and int(part) < len(place):
        return int(part)
    raise FnetError(f"`{key}`: the configuration has no place {part!r} for it")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
        _check_size(found, path)
        json.dumps(found, default=str)
    except FnetError:
        raise
    except Exception as error:  # what is no configuration raises whatever the parser stumbles over
        raise FnetError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise FnetError(f"{path} should be a mapping from names to values")
    return found


def _check_size(content: Any, path: Path) -> None:
    """Refuses what is little text and, by aliases within aliases, more values than memory holds."""
    left, n_values = [content], 1
    while left:
        value = left.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        n_values += len(
            inner
        )  # before they are taken in: little text may say a thousand times the same thousand
        if n_values > _MOST_VALUES:
            raise FnetError(f"{path} holds more than {_MOST_VALUES} values; it is no configuration")
        left += inner


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Beside itself, then renamed: it is there as a whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(content, indent=1, default=str))
    beside.replace(path)
