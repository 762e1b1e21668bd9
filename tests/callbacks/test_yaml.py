"""YAML carries every callback of the package, with all its arguments, there and back."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from every_argument import ARGUMENTS, told
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI
from small_models import Net, loader

import fnet_callbacks

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns where it is given arguments beside those of the process."""
    monkeypatch.setattr("sys.argv", ["train"])


def configured(folder: Path, callbacks: dict[str, dict[str, Any]]) -> Path:
    """A file that configures a trainer with callbacks, by name."""
    config = {
        "trainer": {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            "max_epochs": 1,
            "default_root_dir": str(folder),
            "callbacks": [
                {"class_path": f"fnet_callbacks.{name}", "init_args": arguments}
                for name, arguments in callbacks.items()
            ],
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


def test_every_callback_of_the_package_is_told_here_with_all_its_arguments() -> None:
    public = {name: getattr(fnet_callbacks, name) for name in fnet_callbacks.__all__}
    kinds = {
        name: kind for name, kind in public.items() if inspect.isclass(kind) and issubclass(kind, Callback)
    }
    assert kinds.keys() == ARGUMENTS.keys()
    for name, kind in kinds.items():
        parameters = inspect.signature(kind).parameters.values()
        assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} <= ARGUMENTS[name].keys()
        same = {p.name for p in parameters if ARGUMENTS[name].get(p.name) == p.default}
        assert same <= {"random_start", "scope", "source"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_printed_configuration_makes_the_same_callback(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, arguments = getattr(fnet_callbacks, name), ARGUMENTS[name]
    expected = told(kind(**arguments))
    config = configured(tmp_path, {name: arguments})
    assert told(callback(cli(config).trainer, name)) == expected

    with pytest.raises(SystemExit):
        cli(config, "--print_config")
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert told(callback(cli(printed).trainer, name)) == expected
    (told_again,) = yaml.safe_load(printed.read_text())["trainer"]["callbacks"]
    assert {key: told_again["init_args"][key] for key in arguments} == arguments


def test_all_callbacks_of_one_file_run_together(tmp_path: Path) -> None:
    every = {"every_n_steps": 4, "probe_size": 32, "on_error": "raise"}
    ball = {"bounds": [0.0, 1.0]}
    config = configured(
        tmp_path,
        {
            "FunctionalNetworkMonitor": {**every, "worker": "inline", "nulls": 2, "figures": None},
            "RobustnessMonitor": {**every, **ball, "steps": 2},
            "LesionMonitor": {**every, "points": 3},
            "LocalSpecializationMonitor": {**every, "k": 3, "references": 5, "shuffles": 2},
            "FunctionalCodeMonitor": {**every, **ball, "epsilon": 0.1, "figures": None},
            "ReLURegionMonitor": {**every, "lines": 2, "probe": "small_models.loader"},
            "BurnInEarlyStopping": {"monitor": "fnet/modularity"},
        },
    )
    made = cli(config)
    assert {type(c).__name__ for c in made.trainer.callbacks} >= ARGUMENTS.keys()  # type: ignore[attr-defined]
    made.trainer.fit(made.model, loader(48))
    steps = {key: float(v) for key, v in made.trainer.callback_metrics.items() if key.endswith("/step")}
    names = ("fnet", "robust", "lesion", "specialization", "codes", "regions")
    assert steps == {f"{name}/step": 6.0 for name in names}
