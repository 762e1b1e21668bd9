"""Wrong arguments are refused with their name when a monitor or an instrument is made."""

import inspect
from typing import Any

import pytest
from every_argument import INSTRUMENTS

import fnet_callbacks
from fnet_callbacks import FnetError, FunctionalNetwork, Lesions, Monitor, Robustness
from fnet_callbacks.instruments.instrument import _OF_MONITOR


@pytest.mark.parametrize(
    "arguments",
    [
        {"every_n_steps": 0},
        {"every_n_steps": 2.5},
        {"every_n_steps": True},
        {"every_n_steps": "often"},
        {"every_n_epochs": 0},
        {"every_n_steps": 100, "every_n_epochs": 1},
        {"overhead_budget": 0},
        {"overhead_budget": "5%"},
        {"worker": "thread"},
        {"when_busy": "queue"},
        {"probe_size": 1},
        {"probe_size": 2.5},
        {"probe_seed": -1},
        {"batch_to_inputs": "no.such.function"},
        {"batch_to_labels": "small_models.CLASSES"},
        {"model": 3},
        {"figures": 0},
        {"figures": "often"},
        {"log": None},
        {"log": 3},
        {"log": ["fnet/*", 3]},
        {"log": {"fnet/*": True}},
        {"folder": 3},
        {"on_error": "ignore"},
        {"instruments": [FunctionalNetwork(source="train")], "probe": [1, 2]},
        {"instruments": []},
        {"instruments": "FunctionalNetwork"},
        {"instruments": ["fnet"]},
        {"instruments": {"class_path": "fnet_callbacks.Lesions"}},
        {"instruments": 100},
        {"instruments": FunctionalNetwork},
        {"instruments": [Lesions(), Lesions]},
        {"instruments": [Lesions(), Lesions()]},
    ],
    ids=str,
)
def test_the_monitor_refuses_and_names_the_argument(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(FnetError, match=rf"`{name}\b"):
        Monitor(**arguments)


def test_what_is_wrong_with_instruments_is_said() -> None:
    for given, message in (
        ("FunctionalNetwork", r"has 'FunctionalNetwork'; each should be an instrument, such as FunctionalN"),
        (Lesions, r"has the class Lesions; it should be an object, Lesions\(\.\.\.\)"),
        ([Lesions(), Lesions()], "has 'lesion' twice, and each needs a `name` of its own"),
        (
            {"class_path": "fnet_callbacks.Lesions"},
            r"has \{'class_path': 'fnet_callbacks.Lesions'\}; each should",
        ),
    ):
        with pytest.raises(FnetError, match=f"`instruments` {message}"):
            Monitor(given)  # type: ignore[arg-type]
    Monitor([Lesions(), Lesions(name="hubs")])
    assert [one.name for one in Monitor({"a": Lesions(), "b": FunctionalNetwork()}).instruments] == [  # type: ignore[arg-type]
        "lesion",
        "fnet",
    ]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Monitor, {"density": 0.1}, r"`density`; it belongs to instruments: FunctionalNetwork\(density=\.\.\.\), L"),
        (Monitor, {"bounds": (0, 1)}, r"`bounds`; it .*Robustness\(bounds=\.\.\.\)"),
        (Monitor, {"probe_sizes": 64}, "`probe_sizes`; did you mean `probe_size`?"),
        (Monitor, {"zzz": 1}, "`zzz`; it has instruments, every_n_steps, every_n_epochs, overhead_budget"),
        (FunctionalNetwork, {"probe_size": 64}, r"`probe_size`; it is the monitor's: Monitor\(instruments, probe_si"),
        (Lesions, {"figures": None}, r"`figures`; it is the monitor's"),
        (FunctionalNetwork, {"measure": "fast"}, "`measure`; did you mean `measures`?"),
        (Robustness, {"epsilon": 0.1}, "`epsilon`; did you mean `epsilons`?"),
    ],
)  # fmt: skip
def test_an_option_that_is_unknown_is_sent_to_where_it_belongs(
    kind: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} has no option {message}"):
        kind(**arguments)


def test_the_monitors_options_are_known_to_instruments() -> None:
    schedule = {"every_n_steps", "every_n_epochs"}
    assert set(inspect.signature(Monitor).parameters) - schedule - {"instruments"} == set(_OF_MONITOR)
    for kind in (getattr(fnet_callbacks, name) for name in INSTRUMENTS):
        assert {"name", *schedule} <= set(inspect.signature(kind).parameters)
        assert not set(_OF_MONITOR) & set(inspect.signature(kind).parameters)


@pytest.mark.parametrize(
    "arguments",
    [
        {"every_n_steps": 0},
        {"every_n_steps": 2.5},
        {"name": ""},
        {"name": "with/slash"},
        {"name": ".."},
        {"measures": "everything"},
        {"measures": ["modularity", "beauty"]},
        {"layer_measures": ["beauty"]},
        {"layer_measures": None},
        {"measures": 3},
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
        {"every_n_steps": True},
        {"every_n_steps": 3, "every_n_epochs": 2},
        {"name": "checkpoints"},
        {"name": "monitor"},
        {"name": "my_layers"},
        {"name": 3},
        {"layers": 3},
        {"layers": [3]},
        {"nulls": 2.5},
        {"max_neurons": 1.5},
        {"seed": 0.5},
        {"density": "much"},
        {"density": "5%"},
        {"homology_radius": "far"},
    ],
    ids=str,
)
def test_the_functional_network_refuses_and_names_the_argument(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(FnetError, match=rf"\b{name}\b"):
        FunctionalNetwork(**arguments)


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
def test_robustness_refuses_and_names_the_argument(arguments: dict[str, Any]) -> None:
    name = list(arguments)[-1]
    with pytest.raises(FnetError, match=rf"\b{name.removesuffix('s')}s?\b"):
        Robustness(**{"bounds": (0.0, 1.0), **arguments})


def test_bounds_are_required() -> None:
    with pytest.raises(TypeError, match="bounds"):
        Robustness()  # type: ignore[call-arg]


def test_defaults_are_the_documented_ones() -> None:
    monitor = Monitor()
    (network,) = monitor.instruments
    assert isinstance(network, FunctionalNetwork)
    options = monitor.options
    assert (options.every_n_steps, options.every_n_epochs, options.overhead_budget) == (100, None, None)
    assert Monitor(every_n_epochs=2).options.every_n_steps is None
    assert (options.probe_size, options.probe_seed, options.when_busy) == (1024, 0, "wait")
    assert (network.name, network.max_neurons, network.density) == ("fnet", 1024, 0.05)
    names = {"fnet": 1, "robust": 10, "lesion": 10, "specialization": 100, "codes": 10, "regions": 10}
    kinds = [fnet_callbacks.LocalSpecialization, fnet_callbacks.FunctionalCodes, fnet_callbacks.ReLURegions]
    made = [network, Robustness(bounds=(0.0, 1.0)), Lesions(), *(kind() for kind in kinds)]
    assert {one.name: one.default_interval for one in made} == names
    assert monitor.state_key == "fnet_callbacks"


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
def test_robustness_refuses_what_would_be_wrong_silently(arguments: dict[str, Any]) -> None:
    with pytest.raises(FnetError, match=rf"\b{next(iter(arguments))}\b"):
        Robustness(bounds=(0.0, 1.0), **arguments)
