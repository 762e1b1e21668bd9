"""Wrong arguments are refused with their name when a monitor is made; YAML can carry the right ones."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI
from small_models import Net, loader, logits_of_dict

from fnet_callbacks import FnetError, FunctionalNetworkMonitor, RobustnessMonitor

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.mark.parametrize(
    "arguments",
    [
        {"every_n_steps": 0},
        {"every_n_steps": 2.5},
        {"name": ""},
        {"name": "with/slash"},
        {"name": ".."},
        {"probe_size": 1},
        {"probe_seed": -1},
        {"on_error": "ignore"},
        {"batch_to_inputs": "no.such.function"},
        {"batch_to_labels": "small_models.CLASSES"},
        {"measures": "everything"},
        {"measures": ["modularity", "beauty"]},
        {"layer_measures": ["beauty"]},
        {"signal": "during"},
        {"samples": "pixels"},
        {"source": "test"},
        {"max_samples": 1},
        {"max_neurons": 0},
        {"method": "magic"},
        {"density": -0.1},
        {"density": 1.5},
        {"method": "threshold"},
        {"method": "threshold", "threshold": 1.5},
        {"sign": "negative"},
        {"nulls": 0},
        {"seed": -1},
        {"homology_radius": 0.0},
        {"homology_max_nodes": 1},
        {"homology_backend": "paper"},
        {"figures": 0},
        {"figures": "often"},
        {"every_n_steps": True},
        {"probe_size": 2.5},
        {"name": "checkpoints"},
        {"layers": 3},
        {"layers": [3]},
        {"nulls": 2.5},
        {"max_neurons": 1.5},
        {"seed": 0.5},
        {"figures": True},
        {"density": "much"},
        {"homology_radius": "far"},
    ],
    ids=str,
)
def test_the_functional_monitor_refuses_and_names_the_argument(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(FnetError, match=rf"\b{name}\b"):
        FunctionalNetworkMonitor(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"every_n_steps": -5},
        {"name": "a b"},
        {"attacks": []},
        {"attacks": ["fgsm", "magic"]},
        {"epsilons": []},
        {"epsilons": [0.1, 0.0]},
        {"epsilons": [-0.1]},
        {"epsilons": [float("nan")]},
        {"epsilons": [0.1, float("inf")]},
        {"epsilons": [0.1, 0.10000001]},
        {"bounds": (1.0, 0.0)},
        {"bounds": (0.0,)},
        {"bounds": None},
        {"norm": "l1"},
        {"steps": 0},
        {"step_size": -1.0},
        {"restarts": 0},
        {"random_start": False, "restarts": 2},
        {"loss": "no.such.loss"},
        {"output_to_logits": "small_models.nothing"},
    ],
    ids=str,
)
def test_the_robustness_monitor_refuses_and_names_the_argument(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(FnetError, match=rf"\b{name.removesuffix('s')}s?\b"):
        RobustnessMonitor(**{"bounds": (0.0, 1.0), **arguments})


def test_bounds_are_required() -> None:
    with pytest.raises(TypeError, match="bounds"):
        RobustnessMonitor()  # type: ignore[call-arg]


CONFIG = """
trainer:
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  accelerator: cpu
  default_root_dir: FOLDER
  callbacks:
    - class_path: fnet_callbacks.FunctionalNetworkMonitor
      init_args:
        every_n_steps: 7
        measures: [fast, loops]
        layer_measures: []
        layers: [net.1]
        density: 0.2
        figures: null
        batch_to_labels: small_models.logits_of_dict
        probe: small_models.loader
    - class_path: fnet_callbacks.RobustnessMonitor
      init_args:
        every_n_steps: 7
        bounds: [0.0, 1.0]
        attacks: [pgd]
        epsilons: [0.05, 0.1]
        normalize: [[0.5], [0.25]]
        output_to_logits: small_models.logits_of_dict
"""


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI warns where it is given arguments beside those of the process."""
    monkeypatch.setattr("sys.argv", ["train"])


def cli(config: Path) -> LightningCLI:
    config.write_text(config.read_text().replace("FOLDER", str(config.parent)))
    return LightningCLI(
        Net, run=False, args=["--config", str(config)], save_config_callback=None, seed_everything_default=0
    )


def monitors(config: Path) -> tuple[FunctionalNetworkMonitor, RobustnessMonitor]:
    callbacks: Any = cli(config).trainer.callbacks
    (functional,) = (c for c in callbacks if isinstance(c, FunctionalNetworkMonitor))
    (robust,) = (c for c in callbacks if isinstance(c, RobustnessMonitor))
    return functional, robust


def test_yaml_carries_both_monitors_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    parsed = cli(tmp_path / "config.yaml")
    (tmp_path / "again.yaml").write_text(parsed.parser.dump(parsed.config, skip_none=False))
    for config in ("config.yaml", "again.yaml"):
        functional, robust = monitors(tmp_path / config)
        assert functional.every_n_steps == robust.every_n_steps == 7
        assert set(functional.measures) & {"loops", "sigma"} == {"loops"}
        assert functional.layer_measures == ()
        assert functional.layers == ["net.1"]
        assert functional.graph.density == 0.2
        assert functional.figures is None
        assert functional.reader.to_labels is logits_of_dict
        assert robust.bounds == (0.0, 1.0)
        assert robust.attacks == ("pgd",)
        assert robust.epsilons == (0.05, 0.1)
        assert robust.output_to_logits is logits_of_dict


def test_monitors_from_yaml_run(tmp_path: Path) -> None:
    lines = [line for line in CONFIG.splitlines() if "logits_of_dict" not in line and "normalize" not in line]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    made = cli(tmp_path / "config.yaml")
    made.trainer.fit_loop.max_epochs = 1
    made.trainer.fit(made.model, loader(16))
    assert made.trainer.callback_metrics["fnet/n_samples"] == 64  # the probe of its own
    assert made.trainer.callback_metrics["robust/step"] == 2


def test_defaults_are_the_documented_ones() -> None:
    functional, robust = FunctionalNetworkMonitor(), RobustnessMonitor(bounds=(0.0, 1.0))
    assert (functional.name, robust.name) == ("fnet", "robust")
    assert functional.every_n_steps == robust.every_n_steps == 100
    assert functional.probe_size == robust.probe_size == 1024
    assert (functional.probe_seed, functional.max_neurons, functional.graph.density) == (0, 1024, 0.05)
    assert functional.state_key == "fnet"


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilons": 0.1},
        {"epsilons": ["8/255"]},
        {"epsilons": [8]},  # of 255, as `bounds` do not say
        {"steps": 2.5},
        {"restarts": 0},
        {"attacks": "fgsm"},
        {"normalize": (0.5, 0.0)},
        {"normalize": "imagenet"},
    ],
    ids=str,
)
def test_the_robustness_monitor_refuses_what_would_be_wrong_silently(arguments: dict[str, Any]) -> None:
    with pytest.raises(FnetError, match=rf"\b{next(iter(arguments))}\b"):
        RobustnessMonitor(bounds=(0.0, 1.0), **arguments)
