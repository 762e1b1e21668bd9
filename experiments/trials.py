"""The trials of a sweep: what each was asked, its folder, and how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from experiments import locks
from experiments.files import from_yaml, read_yaml
from fnet_callbacks.errors import FnetError

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None

LoggerName = Literal["tensorboard", "csv", "wandb"]
TRIAL, STATE, CONFIG, LOCK, SET_UP = "trial.json", "state.json", "asked.yaml", "running.lock", "set_up"
_LONGEST_NAME = 100
_SECONDS_TO_END = 5.0  # of a trial whose sweep is gone: it watches it
_MOST_TRIALS = 10_000
_DATA_DIR = "data.data_dir"
# What a trial has of its own, whatever the configuration says.
_OWN = {
    "trainer.logger": "`--logger` says how trials are logged, each into its own folder",
    "trainer.default_root_dir": "a trial's folder is in that of `--out`",
}


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

    def lock(self, out: Path) -> Path:
        """Where it is said which sweep is at work on it."""
        return out / f".{self.name.rpartition('-')[2]}.lock"

    def is_done(self, out: Path) -> bool:
        """Whether it has finished, or a scheduler has stopped it: it is not run again."""
        return state_of(self.folder(out)).get("state") in ("finished", "stopped")


def read_sweep(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> list[Trial]:
    """The trials of a sweep file, in the order of its axes, the last one fastest.

    Args:
        path: The file.
        options: By name, what stands in place of the file's values, or beside them.

    Raises:
        FnetError: The file cannot be read, an option has no place in the configuration, two say of one place what it
            is, an axis is empty, or a trial comes twice.
    """
    path = Path(path)
    asked = _named(read_yaml(path), path) | _named(options or {}, path)
    if not isinstance(asked.get("config"), str):
        raise FnetError(f"{path}: `config` should be the path of a configuration of experiments.train")
    config = read_yaml(path.parent / asked.pop("config"))
    threads = asked.pop("threads", 1)
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise FnetError(f"{path}: `threads={threads!r}` should be an integer of at least 1")
    axes = {key: value if isinstance(value, list) else [value] for key, value in asked.items()}
    _check_axes(axes, path)
    varied = [key for key, values in axes.items() if len(values) > 1]
    if isinstance(folder := axes.get(_DATA_DIR, [None])[0], str):
        axes[_DATA_DIR] = [str(Path(folder).expanduser().absolute())]  # trials run in another folder
        config.pop("data_dir", None)  # which would count before it
    trials: dict[str, Trial] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        settings = json.loads(json.dumps(config, default=str))
        for key, value in chosen.items():
            _put(settings, key, value)
        digest = hashlib.sha256(
            json.dumps([_without_folder(settings), threads], sort_keys=True, default=str).encode()
        ).hexdigest()[:8]
        label = "-".join(f"{key.rpartition('.')[2]}={chosen[key]}" for key in varied) or "trial"
        name = f"{re.sub(r'[^A-Za-z0-9_.=+]+', '-', label)[:_LONGEST_NAME]}-{digest}"
        if digest in trials:
            raise FnetError(f"{path}: the trial {label} comes twice; each value of an axis should stand once")
        trials[digest] = Trial(name, settings, threads)
    return list(trials.values())


def _named(asked: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Options by the one name that each has: `data_dir` is short for `data.data_dir`."""
    found: dict[str, Any] = {}
    for key, value in asked.items():
        name = ".".join(str(int(part)) if part.isdecimal() else part for part in key.split("."))
        name = _DATA_DIR if name == "data_dir" else name
        if name in found:
            raise FnetError(f"{path}: `{name}` is said twice, once as `{key}`; which is meant?")
        found[name] = value
    return found


def _check_axes(axes: Mapping[str, Sequence[Any]], path: Path) -> None:
    if empty := [key for key, values in axes.items() if not values]:
        raise FnetError(f"{path}: `{empty[0]}` has no value; the grid is empty")
    if (n_trials := math.prod(map(len, axes.values()))) > _MOST_TRIALS:
        raise FnetError(f"{path}: the grid has {n_trials} trials; {_MOST_TRIALS} are the most")
    for key in axes:
        parts = key.split(".")
        above = [".".join(parts[:n]) for n in range(1, len(parts))]
        if both := [other for other in above if other in axes]:
            raise FnetError(f"{path}: `{both[0]}` and `{key}` both say what the second is; leave one out")
        if own := [other for other in (*above, key) if other in _OWN]:
            raise FnetError(f"{path}: `{key}` would have no effect: {_OWN[own[0]]}")
    for key, values in axes.items():
        said: dict[str, Any] = {}
        for value in values:
            meaning, last = json.dumps(_meaning(value), sort_keys=True, default=str), key.rpartition(".")[2]
            if meaning in said:
                also = "" if said[meaning] == value else f", as {last}={said[meaning]} too"
                raise FnetError(
                    f"{path}: the trial {last}={value} comes twice{also}; each value of an axis should stand once"
                )
            said[meaning] = value
    folders = axes.get(_DATA_DIR, [None])
    if len(folders) > 1 or not isinstance(folders[0], str | None):
        raise FnetError(
            f"{path}: `{_DATA_DIR}={folders}` should be one folder: it is no part of what a trial is"
        )


def _meaning(value: Any) -> Any:
    """What `experiments.train` makes of a value: a text may be a number, 1.0 is 1."""
    if isinstance(value, str):
        try:
            read = from_yaml(value)
        except Exception:  # a text that is no YAML is a text
            return value
        return value if isinstance(read, str) else _meaning(read)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_meaning(inner) for inner in value]
    return {str(k): _meaning(inner) for k, inner in value.items()} if isinstance(value, dict) else value


def _without_folder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without where the data sets are, which is no part of what a trial is."""
    found = {key: value for key, value in settings.items() if key != "data_dir"}
    if isinstance(data := found.get("data"), dict):
        found["data"] = {key: value for key, value in data.items() if key != "data_dir"}
    return found


def state_of(folder: Path) -> dict[str, Any]:
    """How a trial ended: its ``state`` (finished, failed, stopped) and a ``reason``; empty where it has not."""
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_set_up(folder: Path) -> bool:
    """Whether a trial has trained its first batch."""
    return (folder / SET_UP).exists() or state_of(folder).get("state") in ("finished", "stopped")


def write_state(folder: Path, state: str, **more: Any) -> None:
    """Notes how a trial ended."""
    _write_json(folder / STATE, {"state": state, **more})


def prepare(trials: Sequence[Trial], out: Path) -> list[Path]:
    """Makes the folders of the trials that are to be run; what is left of an earlier attempt is moved aside.

    They are this sweep's until it ends, or gives them up by `release`; those of another one are left to it.

    Raises:
        FnetError: A folder cannot be written.
    """
    waiting = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for trial in trials:
            if trial.is_done(out) or locks.claim(trial.lock(out)) is not None:
                continue
            if trial.is_done(out) or not _moved_aside(trial, out):  # another one was quicker
                locks.release(trial.lock(out))
                continue
            folder = out / trial.name
            folder.mkdir()
            _write_json(folder / TRIAL, asdict(trial))
            waiting.append(folder)
    except OSError as error:
        release(trials, out)
        raise FnetError(f"`out`: a trial's folder cannot be written: {error}") from error
    return waiting


def at_work_elsewhere(trials: Sequence[Trial], out: Path) -> dict[str, str]:
    """By name, who is at work on those trials that another sweep runs, and where that is said."""
    found: dict[str, str] = {}
    for trial in trials:
        who = locks.holder(lock := trial.lock(out))
        if who == locks.Holder.here() or trial.is_done(out):
            continue
        if who is not None and not who.is_gone:
            found[trial.name] = f"{who}, says {lock}"
        elif (folder := trial.folder(out)).exists():
            try:
                with held(folder):
                    pass
            except FnetError as error:
                found[trial.name] = str(error)
    return found


def release(trials: Sequence[Trial], out: Path) -> None:
    """Gives up what `prepare` kept to this sweep; folders in which nothing was begun go."""
    for trial in trials:
        if locks.holder(lock := trial.lock(out)) == locks.Holder.here():
            folder = out / trial.name
            if [path.name for path in folder.glob("*")] == [TRIAL]:
                shutil.rmtree(folder, ignore_errors=True)
            locks.release(lock)


def _moved_aside(trial: Trial, out: Path) -> bool:
    """Whether earlier attempts are out of the way; not where the process that runs in one does not end."""
    until = time.monotonic() + _SECONDS_TO_END
    while (folder := trial.folder(out)).exists():
        try:
            with held(folder):
                attic = out / "superseded"
                attic.mkdir(exist_ok=True)
                places = (attic / f"{folder.name}.{i}" for i in itertools.count(1))
                folder.rename(next(place for place in places if not place.exists()))
        except FnetError:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
    return True


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
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
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return int(part)
    raise FnetError(f"`{key}`: the configuration has no place {part!r} for it")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Beside itself, then renamed: it is there as a whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(content, indent=1, default=str))
    beside.replace(path)
