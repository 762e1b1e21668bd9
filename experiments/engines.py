"""What runs the trials of a sweep: processes of this machine, or Ray."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm.auto import tqdm

from experiments.running import run_trial
from experiments.trials import TRIAL, LoggerName, is_set_up, state_of, write_state
from fnet_callbacks.errors import FnetError

OUTPUT = "output.log"
_SECONDS_TO_ANSWER = 20.0  # of a Ray cluster
_SECONDS_TO_SET_UP = 300.0  # after which other trials of Ray wait no longer
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Logging:
    """Where the runs of a sweep are logged; no part of what a trial is."""

    logger: LoggerName = "tensorboard"
    project: str = "fnet_callbacks"


def run_local(folders: Sequence[Path], *, workers: int, logging: Logging) -> None:
    """Runs trials in processes of their own, so many at a time; one that dies leaves the others alone.

    The first one is alone until it has trained its first batch. Where its set-up fails, the last one is tried, which is
    as different from it as the grid allows.

    Raises:
        FnetError: The set-up of both fails; none of the others was started.
    """
    waiting, running = list(folders), dict[Path, subprocess.Popen[bytes]]()
    works, failed = False, list[Path]()
    with tqdm(total=len(folders), desc="trials", disable=not folders) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < (workers if works else 1):
                    if len(failed) == 2:
                        raise FnetError(f"{_told_of(failed)}\n{len(waiting)} other trials were not started")
                    folder = waiting.pop(-1 if failed and not works else 0)
                    try:
                        running[folder] = _started(folder, logging)
                    except OSError as error:
                        note(folder, f"it could not be started: {error}")
                        failed.append(folder)
                        bar.update()
                time.sleep(0.05)
                works = works or any(map(is_set_up, running))
                for folder in [f for f, process in running.items() if process.poll() is not None]:
                    status = running.pop(folder).returncode
                    if not state_of(folder):
                        note(folder, f"its process ended with status {status}; see {folder / OUTPUT}")
                    works = works or is_set_up(folder)
                    if not works:
                        failed.append(folder)
                    bar.update()
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()


def _told_of(failed: Sequence[Path]) -> str:
    """What is said where the set-up of two trials fails."""
    reasons = {folder.name: str(state_of(folder).get("reason")) for folder in failed}
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if len(set(reasons.values())) == 1:
        told = reasons[failed[0].name]
    return f"the set-up of {' and '.join(reasons)} fails: {told}"


def serve_trial(folder: Path, logging: Logging) -> None:
    """Runs a trial in the process that `run_local` started for it, and ends when that one does."""

    def watch() -> None:
        while os.read(0, 1024):  # open as long as the process that started this one lives
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    run_trial(folder, logger=logging.logger, project=logging.project)


def _started(folder: Path, logging: Logging) -> subprocess.Popen[bytes]:
    with (folder / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.sweep", "--trial", str(folder.resolve())),
                *("--logger", logging.logger, "--project", logging.project),
            ],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(_threads(folder))},
        )


def run_ray(
    folders: Sequence[Path],
    *,
    workers: int | None,
    logging: Logging,
    address: str | None,
    stop_early: str | None,
    mode: Literal["max", "min"],
) -> None:
    """Runs trials by Ray Tune, on this machine or on a cluster that sees the same folders.

    Args:
        folders: Of the trials.
        workers: Trials at a time; None for as many as there are cores.
        logging: Of the runs.
        address: Of a cluster; None starts one on this machine, for as long as it takes.
        stop_early: A key of ``trainer.callback_metrics``; the half of the trials that are behind in it at an epoch
            that is a power of two are stopped (asynchronous successive halving). None lets all come to their end.
        mode: Whether it should be large or small.

    Raises:
        FnetError: Ray is not installed, or nothing answers at the address.
    """
    try:
        import ray
        from ray import tune
        from ray.tune.schedulers import AsyncHyperBandScheduler
    except ImportError as error:
        raise FnetError(f"`engine='ray'` needs ray: pip install 'fnet-callbacks[tune]' ({error})") from error
    if not folders:
        return
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # else the first Ctrl-C ends what runs as if it were done
    _connect(ray, address)
    folders = (
        [folders[0], folders[-1], *folders[1:-1]] if len(folders) > 1 else folders
    )  # as `run_local` tries them
    absolute = [str(folder.resolve()) for folder in folders]
    scheduler = None
    if stop_early is not None:
        scheduler = AsyncHyperBandScheduler(metric=stop_early, mode=mode, max_t=10_000, reduction_factor=2)
    resources: dict[str, float] = {"cpu": max(map(_threads, folders))}
    try:
        found = tune.Tuner(
            tune.with_resources(_ray_trial, resources),
            param_space={
                "folder": tune.grid_search(absolute),
                "logger": logging.logger,
                "project": logging.project,
                "root": str(_ROOT),
                "reported": stop_early,
                "before": absolute[:2],
            },
            tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=workers),
            run_config=tune.RunConfig(storage_path=str(folders[0].resolve().parent / "ray"), verbose=1),
        ).fit()
    finally:
        ray.shutdown()
    reasons = {str(result.config["folder"]): result.error for result in found if result.config}
    for folder, key in zip(folders, absolute, strict=True):
        if not state_of(folder) and (error := reasons.get(key)) is not None:
            note(folder, str(error).strip().rpartition("\n")[2])
        elif not state_of(folder) and stop_early is not None:
            write_state(folder, "stopped", reason=f"the scheduler found {stop_early} behind that of others")


def _ray_trial(config: Mapping[str, Any]) -> None:
    """One trial in a process of Ray's."""
    sys.path.insert(0, config["root"])
    os.chdir(config["root"])
    from experiments.engines import Report, await_set_up
    from experiments.running import run_trial

    await_set_up([Path(folder) for folder in config["before"]], Path(config["folder"]))
    callbacks = [] if config["reported"] is None else [Report(config["reported"])]
    run_trial(Path(config["folder"]), logger=config["logger"], project=config["project"], callbacks=callbacks)


def await_set_up(before: Sequence[Path], own: Path) -> None:
    """Lets a trial wait until one of the first two has trained its first batch, some minutes at most.

    Args:
        before: Folders of the first two, in the order in which they are started.
        own: The trial's own, which waits for those before it.

    Raises:
        FnetError: The set-up of both fails.
    """
    until = time.monotonic() + _SECONDS_TO_SET_UP
    failed: list[Path] = []
    for folder in before[: before.index(own)] if own in before else before:
        while not is_set_up(folder) and not state_of(folder) and time.monotonic() < until:
            time.sleep(0.2)
        if is_set_up(folder) or not state_of(folder):
            return
        failed.append(folder)
    if len(failed) == 2:
        raise FnetError(f"it was not started: {_told_of(failed)}")


class Report(Callback):
    """Tells Ray Tune a value at the end of each epoch.

    Args:
        key: Of ``trainer.callback_metrics``, such as ``val_accuracy`` or ``fnet/modularity``.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports."""
        from ray import tune

        if self.key not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise FnetError(f"`stop_early={self.key!r}` is not logged; there is {known}")
        tune.report({self.key: float(trainer.callback_metrics[self.key])})


def _connect(ray: Any, address: str | None) -> None:
    """Asks the address first: Ray itself would wait for half a minute and then end the process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False)
        return
    host, _, port = address.removeprefix("ray://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        raise FnetError(
            f"`ray_address={address!r}` does not answer; it should be host:port of a Ray cluster ({error})"
        ) from error
    known = {name: os.environ[name] for name in ("FNET_DATA_DIR",) if name in os.environ}
    try:
        ray.init(address, log_to_driver=False, configure_logging=False, runtime_env={"env_vars": known})
    except (OSError, ValueError, RuntimeError) as error:
        raise FnetError(
            f"`ray_address={address!r}` answers, but cannot be joined ({error}); where it asks for a token, set "
            "RAY_AUTH_MODE=token in the environment"
        ) from error


def note(folder: Path, reason: str) -> None:
    """Notes that a trial failed; where its folder cannot be written, says so at least."""
    try:
        write_state(folder, "failed", reason=reason)
    except OSError as error:
        tqdm.write(f"{folder.name} failed: {reason}; that cannot be noted: {error}", file=sys.stderr)


def _threads(folder: Path) -> int:
    return int(json.loads((folder / TRIAL).read_text())["threads"])
