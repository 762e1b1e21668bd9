"""Wrong arguments are refused with their name when a monitor is made."""

from typing import Any

import pytest

from fnet_callbacks import FnetError, FunctionalNetworkMonitor, RobustnessMonitor


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
        {"layer_measures": None},
        {"measures": 3},
        {"source": "train", "probe": [1, 2]},
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


def test_defaults_are_the_documented_ones() -> None:
    functional, robust = FunctionalNetworkMonitor(), RobustnessMonitor(bounds=(0.0, 1.0))
    assert (functional.name, robust.name) == ("fnet", "robust")
    assert functional.every_n_steps == robust.every_n_steps == 100
    assert functional.probe_size == robust.probe_size == 1024
    assert (functional.probe_seed, functional.max_neurons, functional.graph.rule.density) == (0, 1024, 0.05)
    assert functional.state_key == "fnet"


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilons": ["8/255"]},
        {"epsilons": [8]},  # of 255, as `bounds` do not say
        {"steps": 2.5},
        {"restarts": 0},
        {"normalize": (0.5, 0.0)},
        {"normalize": "imagenet"},
    ],
    ids=str,
)
def test_the_robustness_monitor_refuses_what_would_be_wrong_silently(arguments: dict[str, Any]) -> None:
    with pytest.raises(FnetError, match=rf"\b{next(iter(arguments))}\b"):
        RobustnessMonitor(bounds=(0.0, 1.0), **arguments)
