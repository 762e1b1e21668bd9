"""Arguments as NumPy, torch and OmegaConf hand them over make the objects that Python's own make."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_argument import ARGUMENTS, parts
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf
from small_models import Net, fit, functional_monitor, loader, points, record, trainer
from torch import nn
from torch.utils.data import DataLoader

import fnet_callbacks
from fnet_callbacks import FnetError, FunctionalNetwork, Monitor, Robustness
from fnet_callbacks.attacks import fgsm, pgd, robust_accuracy
from fnet_callbacks.codes.functional_codes import functional_codes
from fnet_callbacks.regions.relu import relu_regions
from fnet_callbacks.specialization.local import local_specialization

PLAIN = (type(None), bool, int, float, str)


def as_numpy(value: Any) -> Any:
    """NumPy's scalars and arrays."""
    if isinstance(value, list):
        return np.array(value)
    kinds: dict[type, Any] = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}
    return kinds[type(value)](value) if type(value) in kinds else value


def without_axes(value: Any) -> Any:
    """Arrays, also of one number."""
    return value if isinstance(value, str | None) else np.array(value)


def as_tensors(value: Any) -> Any:
    """Tensors, where torch has such values."""
    if isinstance(value, str | None) or (
        isinstance(value, list) and (not value or isinstance(value[0], str))
    ):
        return value
    return torch.tensor(value, dtype=torch.float64 if "." in repr(value) else None)


def as_set(value: Any) -> Any:
    """Sets, where the order is that of the values or means nothing."""
    is_sorted = isinstance(value, list) and value == sorted(value) and not isinstance((value or [0])[0], list)
    return set(value) if is_sorted else value


def as_generator(value: Any) -> Any:
    """What can be gone through once."""
    return iter(value) if isinstance(value, list) else value


def as_config(value: Any) -> Any:
    """What OmegaConf has of it."""
    return OmegaConf.create({"value": value}).value


HANDS = [as_numpy, without_axes, as_tensors, as_set, as_generator, as_config]


def held(value: Any) -> Iterator[Any]:
    """What an object of ours keeps under public names, down to what has no parts."""
    if isinstance(value, list | tuple | dict):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from held(inner)
    elif type(value).__module__.startswith("fnet_callbacks") and not callable(value):
        names = vars(value) if hasattr(value, "__dict__") else value.__dataclass_fields__
        for name in names:
            if not name.startswith("_"):
                yield from held(getattr(value, name))
    elif not callable(value):
        yield value


@pytest.mark.parametrize("hand", HANDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_other_libraries_make_the_same_object(name: str, hand: Callable[[Any], Any]) -> None:
    kind, arguments = getattr(fnet_callbacks, name), ARGUMENTS[name]
    made = kind(**{argument: hand(value) for argument, value in arguments.items()})
    assert parts(made) == parts(kind(**arguments))
    if name != "BurnInEarlyStopping":  # Lightning's own keeps tensors
        assert set(map(type, held(made))) <= {*PLAIN, type(Path())}


def test_what_comes_of_them_is_what_comes_of_plain_ones_and_its_checkpoint_opens(tmp_path: Path) -> None:
    functional: dict[str, Any] = {
        "every_n_steps": 4,
        "name": "net",
        "layers": ["net.1", "net.3"],
        "measures": ["fast"],
        "density": 0.3,
        "max_neurons": 20,
    }
    robust = {"every_n_steps": 4, "bounds": [0.0, 1.0], "epsilons": [0.05, 0.1], "steps": 2}
    shared = {"every_n_steps": 4, "probe_size": 16, "overhead_budget": 1.0, "figures": None}
    manifests, values = [], []
    for hand in (lambda value: value, as_numpy, as_tensors, as_config):
        folder = tmp_path / hand.__name__
        network, attacks, monitor = (
            {key: hand(value) for key, value in own.items()} for own in (functional, robust, shared)
        )
        torch.manual_seed(0)
        fit(
            folder,
            Monitor([FunctionalNetwork(**network), Robustness(**attacks)], **monitor),
            fnet_callbacks.BurnInEarlyStopping(hand("net/modularity"), patience=hand(5), min_delta=hand(0.1)),
            ModelCheckpoint(folder, filename="last"),
        )
        # Refuses what is none of Python's and torch's.
        kept = torch.load(folder / "last.ckpt", weights_only=True)
        assert kept["callbacks"]["fnet_callbacks"]["step"] == 8
        manifest = record(folder).manifest
        manifests.append([manifest["monitor"], manifest["instruments"]])
        last = record(folder).snapshots[-1].scalars
        values.append({k: v for k, v in last.items() if not k.startswith("monitor/")})
    assert manifests[1:] == manifests[:1] * 3
    assert values[1:] == values[:1] * 3


class Mapped(Net):
    """Takes the parts of a batch by their names."""

    def loss(self, batch: Any) -> Any:
        return super().loss((batch["picture"], batch["kind"]))


def test_entries_of_a_batch_are_named_by_their_keys(tmp_path: Path) -> None:
    def mapped(n: int, seed: int) -> DataLoader:
        inputs, labels = points(n, seed=seed).tensors
        return DataLoader(
            [{"picture": x, "kind": y} for x, y in zip(inputs, labels, strict=True)], batch_size=8
        )

    def watching(**options: Any) -> Monitor:
        attacks = Robustness(every_n_steps=8, bounds=(0, 1), epsilons=0.1, attacks="fgsm")
        return Monitor(
            [FunctionalNetwork(measures="fast"), attacks], every_n_steps=8, probe_size=16, **options
        )

    named, plain = tmp_path / "named", tmp_path / "plain"
    by_key = watching(batch_to_inputs="picture", batch_to_labels="kind", figures=False)
    trainer(named, by_key).fit(Mapped(), mapped(64, 0), mapped(32, 5))
    trainer(plain, watching(figures=None)).fit(Net(), loader(), loader(32, seed=5))
    found, expected = record(named), record(plain)
    assert found.manifest["monitor"]["batch_to_inputs"] == "picture"
    assert found.steps == expected.steps
    assert np.isfinite(found.series("robust/fgsm_0.1_accuracy")).all()
    assert found.series("fnet/n_samples").tolist() == expected.series("fnet/n_samples").tolist()


def test_figures_may_be_true_or_false() -> None:
    assert Monitor(figures=False).options.figures is None
    assert Monitor(figures=True).options.figures == "log"


def test_a_coarser_number_is_taken_as_it_is() -> None:
    assert FunctionalNetwork(density=np.float32(0.1)).density == float(np.float32(0.1))
    assert Robustness(bounds=(0, 1), epsilons=torch.tensor(0.1)).epsilons == (float(np.float32(0.1)),)


def test_one_radius_and_one_attack_by_themselves_are_lists_of_one() -> None:
    made = Robustness(bounds=(0.0, 1.0), epsilons=0.1, attacks="pgd")
    assert (made.epsilons, made.attacks) == ((0.1,), ("pgd",))


def test_instruments_may_come_in_any_sequence_or_alone() -> None:
    network, lesions = FunctionalNetwork(), fnet_callbacks.Lesions()
    for given in ([network, lesions], (network, lesions), iter([network, lesions])):
        assert Monitor(given).instruments == [network, lesions]  # type: ignore[arg-type]
    assert Monitor(network).instruments == [network]
    listed = OmegaConf.create([network, lesions], flags={"allow_objects": True})
    assert [type(one) for one in Monitor(listed).instruments] == [type(network), type(lesions)]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("FunctionalNetwork", {"every_n_steps": np.int64(-4)}, "`every_n_steps=-4` should be"),
        (
            "FunctionalNetwork",
            {"density": np.float32(1.5)},
            "density must be a number from 0 to 1, got 1.5",
        ),
        (
            "FunctionalNetwork",
            {"threshold": "much", "method": "threshold"},
            "`threshold='much'` should",
        ),
        ("FunctionalNetwork", {"save_correlation": "no"}, "`save_correlation='no'` should be True or"),
        ("FunctionalNetwork", {"layers": {"net.1": True}}, r"`layers=\{'net.1': True\}` should be"),
        ("Monitor", {"model": 3}, "`model=3` should be a text"),
        ("Monitor", {"batch_to_inputs": 3.5}, "`batch_to_inputs=3.5` should be a function"),
        (
            "Monitor",
            {"log": np.array([1])},
            r"`log=\[1\]` should be 'auto', 'all', or glob patterns over keys",
        ),
        ("Monitor", {"overhead_budget": np.float64(2)}, "`overhead_budget=2.0` should be"),
        ("Robustness", {"bounds": {0.0}}, r"`bounds=\[0.0\]` should be \(lowest, highest\)"),
        ("Robustness", {"normalize": {0.5, 0.25}}, r"`normalize=.* should be \(mean, std\)"),
        ("Robustness", {"epsilons": ["8/255"]}, "`epsilons='8/255'` should be a number"),
        ("Robustness", {"random_start": "False"}, "`random_start='False'` should be True or False"),
        ("FunctionalCodes", {"grid": [3, 2.5]}, r"`grid=\(3, 2.5\)` should be rows and columns"),
        ("FunctionalCodes", {"normalize": [0.5, [0.0]]}, r"`normalize=\[0.5, \[0.0\]\]` should be"),
        ("ReLURegions", {"epsilon": "x", "bounds": [0, 1]}, "`epsilon='x'` should be a number"),
        ("ReLURegions", {"epsilon": 0.1, "bounds": [0, "x"]}, r"`bounds=\[0, 'x'\]` should be"),
        ("LocalSpecialization", {"partition": [0, 1]}, r"`partition=\[0, 1\]` should be None or"),
        ("Lesions", {"density": None}, "`density=None` should be a number"),
        ("BurnInEarlyStopping", {"patience": 2.5}, "`patience=2.5` should be an integer"),
        ("BurnInEarlyStopping", {"mode": "up"}, "`mode='up'` should be 'min' or 'max'"),
    ],
)
def test_wrong_ones_are_refused_with_what_was_read(
    kind: str, arguments: dict[str, Any], message: str
) -> None:
    needed = {"Robustness": {"bounds": (0, 1)}, "BurnInEarlyStopping": {"monitor": "value"}}
    with pytest.raises(FnetError, match=message):
        getattr(fnet_callbacks, kind)(**{**needed.get(kind, {}), **arguments})


# The functions on finished models.


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))


@pytest.mark.parametrize("hand", HANDS, ids=lambda f: f.__name__)
def test_functions_on_finished_models_take_the_same_kinds(hand: Callable[[Any], Any]) -> None:
    batch = next(iter(loader(64, batch_size=64)))

    def given(**arguments: Any) -> dict[str, Any]:
        return {name: hand(value) for name, value in arguments.items()}

    def analyses(given: Callable[..., dict[str, Any]]) -> list[Any]:
        inputs, labels = batch

        def ball() -> dict[str, Any]:
            return given(epsilon=0.1, bounds=[0.0, 1.0], normalize=[[0.0], [1.0]])

        codes = functional_codes(
            classifier(), [batch], **given(layers=["1", "3"], grid=[3, 4], max_samples=50, seed=2), **ball()
        )
        own = local_specialization(
            classifier(),
            [batch],
            **given(layers=["1", "3"], k=3, references=2, shuffles=2, seed=1, max_samples=50, signal="post"),
        )
        regions = relu_regions(classifier(), inputs, **given(min_members=2, batch_size=32))
        attacked = pgd(classifier(), inputs, labels, **ball(), **given(steps=2, restarts=2, seed=3))
        accuracy = robust_accuracy(classifier(), [batch], **given(attack="fgsm"), **ball())
        return [
            [layer.units.tolist() for layer in codes.layers],
            codes.layers[0].map.grid,
            own.partition.tolist(),
            [own.z_score, own.references],
            regions.labels.tolist(),
            regions.merged(**given(max_regions=2)).labels.tolist(),
            regions.contributions(**given(sample=0)).tolist() if len(regions.weights) else None,
            attacked.tolist(),
            fgsm(classifier(), inputs, labels, **ball()).tolist(),
            accuracy,
        ]

    found, expected = analyses(given), analyses(lambda **plain: plain)
    assert repr(found) == repr(expected)
    assert all(type(value) is int for value in dataclasses.astuple(found[-1]))


def test_a_partition_of_ones_own_may_be_any_sequence_of_clusters() -> None:
    batch = next(iter(loader(64, batch_size=64)))
    labels = [i % 3 for i in range(21)]
    expected = local_specialization(classifier(), [batch], partition=np.array(labels), references=1)
    for given in (labels, tuple(labels), torch.tensor(labels), np.array(labels, np.int8)):
        found = local_specialization(classifier(), [batch], partition=given, references=1)  # type: ignore[arg-type]
        assert found.partition.tolist() == expected.partition.tolist()
    for wrong in ({0, 1}, [[0], [1, 2]], 3, "groups"):
        with pytest.raises(FnetError, match=r"`partition=.*should be 'louvain', or an array of clusters"):
            local_specialization(classifier(), [batch], partition=wrong)  # type: ignore[arg-type]


def test_hyperparameters_of_other_libraries_are_plain_in_the_manifest(tmp_path: Path) -> None:
    class Configured(Net):
        def __init__(self, **values: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    values = {
        "lr": np.float32(0.5),
        "width": np.int64(3),
        "gamma": torch.tensor(0.25),
        "widths": OmegaConf.create([16, 12]),
        "names": {"b", "a"},
        "word": np.str_("x"),
        "long": range(10**9),
        "precise": np.longdouble(0.5),
    }
    fit(tmp_path, functional_monitor(8, measures="fast"), model=Configured(**values))
    found = record(tmp_path).manifest["configuration"]
    found = {key: value for key, value in found.items() if key in values}
    assert found == {
        "lr": 0.5,
        "width": 3,
        "gamma": 0.25,
        "widths": [16, 12],
        "names": ["a", "b"],
        "word": "x",
        "long": "range(0, 1000000000)",
        "precise": 0.5,
    }
