"""Contrasts and associations: who is compared with whom, what is a finding, and how often one is false."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fnet_callbacks.compare.comparison import (
    associations,
    baseline_of,
    contrasts,
    families,
    measure_keys,
    outcome_keys,
)
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import Runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Key, Record, Snapshot

TOPOLOGY = ["fnet/modularity", "fnet/global_efficiency", "fnet/loops"]
OTHERS = [
    "robust/clean_accuracy",
    "robust/fgsm_0.1_accuracy",
    "robust/pgd_0.1_accuracy",
    "fnet/sigma",
    "fnet/step",
]


def run(group: str, seed: int, *values: dict[str, float]) -> Run:
    snapshots = tuple(Snapshot(step, scalars) for step, scalars in enumerate(values))
    keys = {key: [*key.split("/"), None] for scalars in values for key in scalars if "/" in key}
    return Run(f"{group}{seed}", group, str(seed), {}, Record(Path(), {"keys": keys}, snapshots))


def entries(*keys: str) -> dict[str, Key]:
    """What stands under keys ``<instrument>/<quantity>``, and under those of the run itself."""
    return {key: Key(*key.split("/")) if "/" in key else Key("", key) for key in keys}


def sweep(generator: np.random.Generator, groups: list[str], seeds: int, **shift: float) -> Runs:
    """Runs whose every measure is drawn alike, but for one group's shift of modularity."""
    runs = []
    for group in groups:
        for seed in range(seeds):
            values = dict(zip(TOPOLOGY + OTHERS, generator.normal(size=len(TOPOLOGY + OTHERS)), strict=True))
            values["fnet/modularity"] += shift.get(group, 0.0)
            runs.append(run(group, seed, values))
    return Runs(runs, "regularizer", {})


def test_what_is_asked_beforehand():
    assert families({**entries(*TOPOLOGY, *OTHERS), "fnet_layers/01/loops": Key("fnet", "loops", "01")}) == {
        **dict.fromkeys(TOPOLOGY, "topology"),
        "robust/clean_accuracy": "performance",
        "robust/pgd_0.1_accuracy": "performance",
    }


def test_every_group_is_compared_with_the_baseline():
    runs = sweep(np.random.default_rng(0), ["batch_norm", "dropout", "none"], 4, dropout=50.0)
    assert baseline_of(runs) == "none"
    found = {(c.group, c.key): c for c in contrasts(runs)}
    assert {group for group, _ in found} == {"batch_norm", "dropout"}
    assert "fnet/step" not in measure_keys(runs)
    dropout = found["dropout", "fnet/modularity"]
    assert dropout.effect.difference.mean == pytest.approx(50, abs=3)
    assert dropout.q == pytest.approx(3 * dropout.effect.smallest_p) == pytest.approx(3 * 2 / 70)
    assert not dropout.is_finding  # four runs against four cannot show it
    assert math.isnan(found["dropout", "fnet/sigma"].q)
    assert found["dropout", "fnet/sigma"].family == ""
    assert {c.group for c in contrasts(runs, baseline="dropout")} == {"batch_norm", "none"}
    with pytest.raises(FnetError, match=r"`baseline='l2'` is no group; there is batch_norm, dropout, none"):
        contrasts(runs, baseline="l2")


def test_of_one_group_or_one_seed_nothing_is_claimed():
    generator = np.random.default_rng(0)
    assert contrasts(sweep(generator, ["none"], 3)) == []
    assert not any(c.is_finding for c in contrasts(sweep(generator, ["none", "dropout"], 1, dropout=99.0)))


def test_a_measure_that_one_side_does_not_have_is_left_out():
    runs = Runs([run("none", 0, {"a": 1.0, "b": math.nan}), run("x", 0, {"a": 2.0, "b": 1.0})], "", {})
    assert [c.key for c in contrasts(runs)] == ["a"]


@pytest.mark.slow
def test_names_that_mean_nothing_are_found_different_as_rarely_as_is_said():
    """The false discovery rate of families in which nothing is true is the chance of any finding in them."""
    generator = np.random.default_rng(1)
    any_finding = []
    for _ in range(200):
        found = contrasts(sweep(generator, ["dropout", "none"], 5))
        any_finding += [
            any(c.is_finding for c in found if c.family == family) for family in ("topology", "performance")
        ]
    assert stats.binomtest(sum(any_finding), len(any_finding), 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.slow
def test_an_effect_of_three_standard_deviations_is_found_with_five_runs_against_five():
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = contrasts(sweep(generator, ["dropout", "none"], 5, dropout=3.0))
        hits += any(c.is_finding for c in found if c.key == "fnet/modularity")
    assert hits / 200 >= 0.8


def test_associations_over_runs_within_groups_and_in_time():
    runs = []
    for group, offset in (("a", 0.0), ("b", 100.0)):
        for seed in range(4):
            # Within a group the measure falls as accuracy rises; over all runs it rises; in time it rises.
            values = [{"m": offset + t - seed, "acc": offset + t + seed} for t in range(5)]
            runs.append(run(group, seed, *values))
    found = {a.where: a for a in associations(Runs(runs, "", {}), ["acc"])}
    assert found["within a"].rho == pytest.approx(-1)
    assert found["within b"].rho == pytest.approx(-1)
    assert found["runs"].rho > 0
    assert found["time"].rho == pytest.approx(1)
    assert found["time"].p == pytest.approx(2 / 2**8)
    assert (found["time"].n, found["runs"].n, found["within a"].n) == (8, 8, 4)
    assert associations(Runs(runs, "", {}), ["nothing"]) == []


def test_what_says_how_well_a_network_does():
    measured = [
        "fnet/modularity",
        "robust/clean_accuracy",
        "robust/fgsm_0.1_accuracy",
        "robust/pgd_0.1_accuracy",
    ]
    logged = ["train_acc", "val_acc", "generalization_gap"]
    assert outcome_keys(entries(*measured, *logged)) == [*measured[1:], "generalization_gap"]
    assert outcome_keys(entries("fnet/modularity", *logged)) == ["val_acc", "generalization_gap"]
    assert families(entries("fnet/modularity", *logged)) == {
        "fnet/modularity": "topology",
        "val_acc": "performance",
    }
    assert families(entries(*measured, *logged))["robust/pgd_0.1_accuracy"] == "performance"
    assert "robust/fgsm_0.1_accuracy" not in families(entries(*measured, *logged))


def test_the_planned_attack_is_the_strongest_of_the_last_and_accuracy_is_of_who_attacks():
    keys = ["lesion/clean_accuracy", "robust/clean_accuracy", "robust/fgsm_0.06275_accuracy"]
    keys += ["robust/pgd_0.06275_accuracy", "robust/pgd_0.03137_accuracy"]
    assert list(families(entries(*keys))) == ["robust/clean_accuracy", "robust/pgd_0.06275_accuracy"]
    assert list(families(entries("lesion/clean_accuracy"))) == ["lesion/clean_accuracy"]
