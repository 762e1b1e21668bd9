"""YAML carries the monitor and every instrument, with all their arguments, there and back."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from every_argument import ARGUMENTS, INSTRUMENTS, MONITOR, OTHER_SCHEDULE, STOPPING, parts
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI
from small_models import Net, keys_of, loader

import fnet_callbacks
from fnet_callbacks import Instrument, Monitor

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns where it is given arguments beside those of the process."""
    monkeypatch.setattr("sys.argv", ["train"])


def by_path(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """As YAML has an object of the package."""
    return {"class_path": f"fnet_callbacks.{name}", "init_args": arguments}


def configured(folder: Path, *callbacks: dict[str, Any]) -> Path:
    """A file that configures a trainer with callbacks."""
    config = {
        "trainer": {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            "max_epochs": 1,
            "default_root_dir": str(folder),
            "callbacks": list(callbacks),
        }
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def cli(config: Path, *more: str) -> LightningCLI:
    return LightningCLI(
        Net,
        run=False,
        args=["--config", str(config), *more],
        save_config_callback=None,
        seed_everything_default=0,
    )


def callback(trainer: Trainer, name: str) -> Callback:
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    (found,) = (c for c in callbacks if type(c).__name__ == name)
    return found


def printed(config: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What ``--print_config`` makes of a file."""
    with pytest.raises(SystemExit):
        cli(config, "--print_config")
    path = config.with_name("printed.yaml")
    path.write_text(capsys.readouterr().out)
    return path


def test_all_that_a_configuration_may_name_is_here_with_all_its_arguments() -> None:
    public = {name: getattr(fnet_callbacks, name) for name in fnet_callbacks.__all__}
    kinds = {
        name: kind
        for name, kind in public.items()
        if inspect.isclass(kind) and issubclass(kind, Callback | Instrument) and kind is not Instrument
    }
    assert kinds.keys() == ARGUMENTS.keys()
    for name, kind in kinds.items():
        parameters = inspect.signature(kind).parameters.values()
        wanted = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"instruments", OTHER_SCHEDULE}
        assert wanted <= ARGUMENTS[name].keys()
        same = {p.name for p in parameters if p.name in wanted and ARGUMENTS[name][p.name] == p.default}
        assert same <= {"random_start", "scope", "worker"}


@pytest.mark.parametrize("is_alone", [False, True], ids=["in a list", "alone"])
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_printed_configuration_makes_the_same_instrument(
    tmp_path: Path, name: str, is_alone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    own = by_path(name, INSTRUMENTS[name])
    other = by_path("FunctionalNetwork", {"name": "other"})
    config = configured(tmp_path, by_path("Monitor", {"instruments": own if is_alone else [other, own]}))
    expected = parts(getattr(fnet_callbacks, name)(**INSTRUMENTS[name]))
    again = printed(config, capsys)
    for path in (config, again):
        monitor = callback(cli(path).trainer, "Monitor")
        assert isinstance(monitor, Monitor)
        assert unprinted(parts(monitor.instruments[-1])) == unprinted(expected)
        assert len(monitor.instruments) == (1 if is_alone else 2)
    (as_printed,) = yaml.safe_load(again.read_text())["trainer"]["callbacks"]
    listed = as_printed["init_args"]["instruments"]
    listed = listed if is_alone else listed[-1]
    assert {key: listed["init_args"][key] for key in INSTRUMENTS[name]} == INSTRUMENTS[name]


def unprinted(held: dict[str, Any]) -> dict[str, Any]:
    """What it holds beside the names of the options that were given: a printed configuration gives them all."""
    return {key: value for key, value in held.items() if key != "_given"}


@pytest.mark.parametrize(("name", "arguments"), [("Monitor", MONITOR), ("BurnInEarlyStopping", STOPPING)])
def test_a_printed_configuration_makes_the_same_callback(
    tmp_path: Path, name: str, arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, by_path(name, arguments))
    expected = parts(getattr(fnet_callbacks, name)(**arguments))
    again = printed(config, capsys)
    assert parts(callback(cli(config).trainer, name)) == expected
    assert parts(callback(cli(again).trainer, name)) == expected
    (as_printed,) = yaml.safe_load(again.read_text())["trainer"]["callbacks"]
    assert {key: as_printed["init_args"][key] for key in arguments} == arguments


def test_epochs_are_a_schedule_of_a_configuration_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesions = by_path("Lesions", {"every_n_epochs": 3})
    config = configured(tmp_path, by_path("Monitor", {"instruments": [lesions], "every_n_epochs": 2}))
    for path in (config, printed(config, capsys)):
        monitor = callback(cli(path).trainer, "Monitor")
        assert isinstance(monitor, Monitor)
        assert (monitor.options.every_n_steps, monitor.options.every_n_epochs) == (None, 2)
        (own,) = monitor.instruments
        assert (own.every_n_steps, own.every_n_epochs) == (None, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0.1}, "density"),
        ({"instruments": [by_path("FunctionalNetwork", {"probe_size": 64})]}, "probe_size"),
        ({"instruments": [by_path("FunctionalNetworks", {})]}, "FunctionalNetworks"),
    ],
)
def test_an_option_in_the_wrong_place_is_named(
    tmp_path: Path, arguments: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli(configured(tmp_path, by_path("Monitor", arguments)))
    assert message in capsys.readouterr().err


def test_all_instruments_of_one_file_run_together(tmp_path: Path) -> None:
    ball = {"bounds": [0.0, 1.0]}
    small: dict[str, dict[str, Any]] = {
        "FunctionalNetwork": {"nulls": 2},
        "Robustness": {**ball, "steps": 2},
        "Lesions": {"points": 3},
        "LocalSpecialization": {"k": 3, "references": 5, "shuffles": 2},
        "FunctionalCodes": {**ball, "epsilon": 0.1},
        "ReLURegions": {"lines": 2},
    }
    assert small.keys() == INSTRUMENTS.keys()
    instruments = [by_path(name, arguments) for name, arguments in small.items()]
    shared = {
        "every_n_steps": 4,
        "probe": "small_models.loader",
        "probe_size": 32,
        "worker": "inline",
        "figures": None,
        "on_error": "raise",
        "folder": str(tmp_path / "run"),
    }
    config = configured(
        tmp_path,
        by_path("Monitor", {"instruments": instruments, **shared}),
        by_path("BurnInEarlyStopping", {"monitor": "fnet/modularity"}),
    )
    made = cli(config)
    made.trainer.fit(made.model, loader(48))
    metrics = made.trainer.callback_metrics
    assert metrics["monitor/step"] == 6
    record = fnet_callbacks.read_record(tmp_path / "run" / "fnet")
    assert set(record.manifest["instruments"]) == {
        "fnet", "robust", "lesion", "specialization", "codes", "regions",
    }  # fmt: skip
    assert keys_of(record) <= metrics.keys()
