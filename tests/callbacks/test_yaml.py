"""YAML carries every callback of the package, with all its arguments, there and back."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI
from small_models import Net, loader

import fnet_callbacks

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

PROBE: dict[str, Any] = {
    "every_n_steps": 7,
    "name": "own",
    "overhead_budget": 0.5,
    "probe": "small_models.loader",
    "probe_size": 32,
    "probe_seed": 3,
    "batch_to_inputs": "operator.itemgetter",
    "batch_to_labels": "small_models.logits_of_dict",
    "model": "net",
    "on_error": "raise",
}
LOGITS = {"output_to_logits": "small_models.logits_of_dict"}
BALL: dict[str, Any] = {"epsilon": 0.1, "bounds": [0.0, 1.0], "normalize": [[0.5], [0.25]]}
# Of each argument a value that is not the default, unless another argument asks for it.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FunctionalNetworkMonitor": {
        **PROBE,
        "every_n_steps": "log",
        "worker": "process",  # tests of this folder have the other as their default
        "when_busy": "skip",
        "measures": ["fast", "loops"],
        "layer_measures": [],
        "layers": ["net.1"],
        "signal": "pre",
        "samples": "tokens",
        "max_samples": 64,
        "max_neurons": 8,
        "source": "probe",  # a probe has no live batches
        "method": "threshold",
        "density": 0.2,
        "threshold": 0.5,
        "sign": "positive",
        "nulls": 3,
        "seed": 4,
        "homology_radius": "graph",
        "homology_max_nodes": 16,
        "homology_backend": "ripser",
        "save_correlation": True,
        "figures": None,
        "measure_timeout_s": 30.0,
    },
    "RobustnessMonitor": {
        **PROBE,
        **LOGITS,
        "bounds": [0.0, 2.0],
        "attacks": ["pgd"],
        "epsilons": [0.05, 0.1],
        "normalize": [[0.5], [0.25]],
        "norm": "l2",
        "steps": 3,
        "step_size": 0.02,
        "random_start": True,  # the default: restarts ask for it
        "restarts": 2,
        "loss": "fnet_callbacks.attacks.cross_entropy",
    },
    "LesionMonitor": {
        **PROBE, **LOGITS, "points": 3, "layers": ["net.*"], "max_neurons": 8, "density": 0.2, "seed": 4
    },
    "LocalSpecializationMonitor": {
        **PROBE,
        **LOGITS,
        "graph": "activations",
        "k": 4,
        "scope": "global",  # the default: a partition asks for it
        "partition": "louvain",
        "correlation": "pearson",
        "layers": ["net.1"],
        "signal": "pre",
        "references": 5,
        "shuffles": 2,
        "replacement": "mean",
        "visualization_steps": 1,
        "seed": 4,
    },
    "FunctionalCodeMonitor": {
        **PROBE, **LOGITS, **BALL,
        "layers": ["net.1"], "signal": "pre", "maxima": True, "grid": [3, 4], "figures": 2,
    },
    "ReLURegionMonitor": {**PROBE, **LOGITS, **BALL, "lines": 2, "most_crossings": 20},
    "BurnInEarlyStopping": {
        "monitor": "fnet/modularity", "burn_in": 2, "mode": "min", "patience": 5, "min_delta": 0.01
    },
}  # fmt: skip


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


def told(value: Any) -> Any:
    """What an object of ours holds, down to plain values; when a budget's clock began is another moment each time."""
    if type(value).__module__.startswith("fnet_callbacks") and hasattr(value, "__dict__"):
        held = {key: told(inner) for key, inner in vars(value).items() if key != "_began"}
        return {"kind": type(value), **held}
    return [told(inner) for inner in value] if isinstance(value, (list, tuple)) else value


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
