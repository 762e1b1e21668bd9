"""How long runs are made, what is measured where nothing is asked for, and the whole program on a few steps."""

import json
from argparse import Namespace

import pytest
import torch
from programs import program

from benchmarks.networks import BENCHMARKS, CONTEXT, Trained
from benchmarks.overhead import FIRST_LOOK, Row, Setting, chosen, length


def asked(**changes) -> Namespace:
    nothing = dict.fromkeys(("models", "tiers", "every", "source", "steps", "budget"))
    return Namespace(**{**nothing, "seconds": 20.0, "snapshots": 4, **changes})


def test_a_run_lasts_as_long_as_asked_and_is_whole_intervals():
    assert length(16, 0.01, 0.01, asked()) == 2000
    assert length(256, 0.01, 0.01, asked()) == 2048


def test_a_run_has_the_snapshots_asked_for_even_where_it_then_lasts_longer():
    assert length(256, 1.0, 1.0, asked()) == 1024


def test_a_run_is_shortened_where_it_would_last_five_times_as_long_with_the_monitor():
    assert length(1, 0.01, 0.99, asked()) == 100


def test_a_run_is_so_long_that_its_snapshots_fit_into_the_budget():
    assert length(16, 0.01, 2.0, asked(budget=0.05)) == 16000


def test_a_number_of_steps_is_taken_as_it_is():
    assert length(16, 0.01, 0.01, asked(steps=7)) == 7


def test_settings_are_the_first_look_or_all_combinations():
    assert chosen(asked()) == list(FIRST_LOOK)
    assert chosen(asked(models=["mlp"], tiers=["fast", "full"], every=[1])) == [
        Setting("mlp", "fast", 1),
        Setting("mlp", "full", 1),
    ]


def test_the_ratio_is_the_median_over_rounds_and_the_floor_what_probe_passes_add():
    row = Row(
        setting=Setting("mlp", "fast", 16), budget=None, steps=100, without_s=[1.0, 1.0, 3.0, 0.8],
        with_s=[1.5, 2.2, 2.47],
        once_s=0.1, snapshots=10, asked=10, training_thread_ms=20.0, probe_pass_ms=15.0, worker_ms=40.0,
    )  # fmt: skip
    assert row.ratio == pytest.approx(1.3)
    assert row.step_s == pytest.approx(0.01)
    assert row.floor == pytest.approx(1.15)


@pytest.mark.parametrize(
    "name, shape, n_weights",
    [
        ("mlp", (2, 1, 8, 8), 85_002),
        ("3c3d", (2, 3, 32, 32), 895_210),
        ("resnet18", (2, 3, 32, 32), 11_173_962),
        ("gpt", (2, CONTEXT), 10_746_689),
    ],
)
def test_networks_have_their_published_size_and_can_be_trained(name, shape, n_weights):
    benchmark = BENCHMARKS[name]
    module = Trained(benchmark.network(), is_language=benchmark.is_language)
    assert sum(p.numel() for p in module.parameters()) == n_weights
    inputs = torch.randint(0, 65, shape) if benchmark.is_language else torch.rand(shape)
    module.log = lambda *_: None  # type: ignore[method-assign]  # there is no trainer
    module.training_step([inputs, torch.tensor([0, 1])], 0).backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.slow
def test_the_program_prints_and_writes_a_ratio_with_every_snapshot_kept(tmp_path):
    options = ["--tiers", "fast", "--every", "2", "--steps", "5", "--rounds", "1", "--probe-size", "32"]
    table = program("overhead", "--models", "mlp", *options, "--json", str(tmp_path / "overhead.json"))
    (row,) = json.loads((tmp_path / "overhead.json").read_text())["rows"]
    assert row["setting"] == {"model": "mlp", "tier": "fast", "every": 2, "source": "probe"}
    assert (row["snapshots"], row["asked"], row["steps"]) == (3, 3, 5)  # at 0, 2 and 4
    assert row["ratio"] == pytest.approx(2 * row["with_s"][0] / sum(row["without_s"]))
    assert row["probe_pass_ms"] > 0
    assert table[0][:4] == ["mlp", "fast", "2", "5"]
