"""Selecting edges on the model's device changes no number, and the matrix crosses only to what reads it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from planted_networks import activations

from fnet_callbacks import functional as F
from fnet_callbacks.findings import Context
from fnet_callbacks.host import Host
from fnet_callbacks.instruments.network_analysis import NetworkAnalysis
from fnet_callbacks.instruments.network_plan import WHOLE, LayerPlan, NetworkPlan
from fnet_callbacks.instruments.readings import RowReader, SumReader, reader_of
from fnet_callbacks.instruments.together import bring_together
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.networks import names_of
from fnet_callbacks.worker.wire import pack, unpack

LAYERS = (LayerPlan("one", "01", 40), LayerPlan("two", "02", 61))
ON_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]
READS_MATRIX = ["sigma_hqs", "betti_0", "betti_1", "loops", "functional_persistence", "persistent_entropy"]


def plan_of(measures="fast", layer_measures="fast", *, has_figures=False, save_correlation=False, **rule):
    return NetworkPlan(
        name="fnet",
        measures=names_of(measures),
        layer_measures=names_of(layer_measures),
        layers=LAYERS,
        graph=GraphSettings(F.GraphRule(**{"density": 0.15, **rule}), nulls=2),
        save_correlation=save_correlation,
        has_figures=has_figures,
    )


def sum_reader(plan, device="cpu", *, is_selecting, is_measuring=True):
    return SumReader(
        plan, device=torch.device(device), keep=50, is_selecting=is_selecting, is_measuring=is_measuring
    )


def reading_of(reader, *, device="cpu", n_dead=0, with_labels=False, seed=0):
    """What a reader makes of 80 samples that come in batches; dead units are the last, of the second layer."""
    values = torch.from_numpy(activations(101, 80, n_dead=n_dead, seed=seed)).to(device)
    labels = torch.arange(80, device=device) % 3 if with_labels else None
    reader.begin(3 if with_labels else 0)
    for own in torch.arange(80).split(30):
        reader.take(values[own], None if labels is None else labels[own])
    return reading_in(reader)


class Alone(Host):
    """The loop of one rank."""

    module = torch.nn.Module()
    device = torch.device("cpu")


def reading_in(reader):
    """What it has seen, as it is brought together of one rank."""
    return bring_together(reader.result(), Alone())


def measured(plan, readings):
    """What is measured at each step, as plain values."""
    analysis, found = NetworkAnalysis(plan), []
    for step, reading in enumerate(readings):
        analysis.context = Context(step, "raise")
        found.append(analysis.analyze(reading))
    return [(f.scalars, f.notes, f.arrays) for f in found]


def assert_same(found, expected, *, exactly=True):
    for (scalars, notes, arrays), wanted in zip(found, expected, strict=True):
        assert scalars.keys() == wanted[0].keys()
        for key, value in scalars.items():
            # Sums over the matrix, whose order a device chooses; all else follows from the graph.
            rtol = 0 if exactly and not key.endswith(("mean_abs_correlation", "effective_rank")) else 1e-12
            np.testing.assert_allclose(value, wanted[0][key], rtol=rtol, err_msg=key)
        assert notes == wanted[1]
        assert arrays.keys() == wanted[2].keys()
        for name, array in arrays.items():
            np.testing.assert_allclose(
                array, wanted[2][name], rtol=0, atol=0 if exactly else 1e-12, err_msg=name, strict=True
            )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("graph", [{}, {"sign": "positive"}, {"method": "threshold", "threshold": 0.4}])
@pytest.mark.parametrize(
    "shown", [{}, {"n_dead": 9}, {"n_dead": 61, "with_labels": True}], ids=["live", "dead", "a dead layer"]
)
@pytest.mark.parametrize(
    "tiers", [("fast", []), ("fast", "fast"), ("standard", "fast"), ("fast", "standard")]
)
def test_selecting_on_the_device_changes_no_number(tiers, shown, graph, device):
    plan = plan_of(*tiers, **graph)
    series = []
    for is_selecting in (True, False):
        reader = sum_reader(plan, device, is_selecting=is_selecting)
        series.append([reading_of(reader, device=device, seed=k, **shown) for k in (0, 0, 1)])
    scopes = {WHOLE, "one", "two"} if tiers[1] else {WHOLE}
    assert [r.selections.keys() for r in series[0]] == [scopes] * 3
    assert not any(r.selections for r in series[1])
    assert_same(measured(plan, series[0]), measured(plan, series[1]))


def test_measures_are_those_of_the_rows_themselves():
    plan = plan_of("standard", "fast", save_correlation=True)
    shown = {"n_dead": 9, "with_labels": True}
    rows = reading_of(RowReader(101, has_histogram=True), **shown)
    selected = reading_of(sum_reader(plan, is_selecting=True), **shown)
    # The histogram of all, in double precision.
    selected = replace(selected, kept=rows.values, kept_labels=rows.labels)
    assert_same(measured(plan, [selected]), measured(plan, [rows]), exactly=False)


@pytest.mark.parametrize("device", DEVICES)
def test_the_matrix_stays_on_the_device_where_nothing_reads_it(device):
    reader = sum_reader(plan_of("fast", "fast"), device, is_selecting=True)
    assert reading_of(reader, device=device).correlation is None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "plan",
    [
        plan_of("standard"),
        plan_of("fast", "standard"),
        plan_of(has_figures=True),
        plan_of(save_correlation=True),
        *(plan_of([name], []) for name in READS_MATRIX),
        *(plan_of([], [name]) for name in READS_MATRIX),
    ],
    ids=[
        "standard",
        "standard layers",
        "figures",
        "saved",
        *READS_MATRIX,
        *(f"{n} layers" for n in READS_MATRIX),
    ],
)
def test_the_matrix_crosses_where_something_reads_it(plan, device):
    crossed = reading_of(sum_reader(plan, device, is_selecting=True), device=device).correlation
    expected = reading_of(sum_reader(plan, device, is_selecting=False), device=device).correlation
    np.testing.assert_array_equal(crossed, expected, strict=True)


def test_a_measure_that_reads_no_matrix_is_measured_without_one():
    """Each alone: one that the registry forgets to mark would raise."""
    for name in names_of("full"):
        if name not in READS_MATRIX:
            plan = plan_of([name], [name])
            reading = reading_of(sum_reader(plan, is_selecting=True), with_labels=True)
            assert reading.correlation is None
            measured(plan, [reading, reading])


def test_a_selection_reaches_another_process_whole():
    plan = plan_of()
    reading = reading_of(sum_reader(plan, is_selecting=True), n_dead=9, with_labels=True)
    segment = pack(reading)
    received = unpack(segment)
    segment.close()
    assert_same(measured(plan, [received]), measured(plan, [reading]))


def test_a_rank_whose_reading_is_not_measured_selects_nothing():
    for is_selecting in (True, False):
        reading = reading_of(sum_reader(plan_of("standard"), is_selecting=is_selecting, is_measuring=False))
        assert reading.count == 80
        assert reading.correlation is None
        assert not reading.selections


def test_without_a_sample_every_neuron_is_dead():
    plan = plan_of("standard")
    readings = []
    for is_selecting in (True, False):
        reader = sum_reader(plan, is_selecting=is_selecting)
        reader.begin(0)
        readings.append(reading_in(reader))
    assert len(readings[0].selections[WHOLE].nodes) == 0
    assert_same(measured(plan, readings[:1]), measured(plan, readings[1:]))


@dataclass
class Place:
    """Where a model is: what a reader asks a ``Forward``. "meta" stands for an accelerator that is not here."""

    device: torch.device
    moments_device: torch.device
    world_size: int = 1
    is_global_zero: bool = True

    @property
    def host(self):
        return self


CPU, META, MPS = torch.device("cpu"), torch.device("meta"), torch.device("mps")


@pytest.mark.parametrize(
    "place, n_samples, reader, is_selecting",
    [
        (Place(CPU, CPU), 80, RowReader, None),
        (Place(CPU, CPU), 2**20, SumReader, False),
        (Place(CPU, CPU, world_size=2), 80, SumReader, False),
        (Place(MPS, CPU), 80, SumReader, False),
        (Place(META, META), 80, SumReader, True),
        (Place(META, META, world_size=2), 80, SumReader, True),
    ],
    ids=["host", "many", "ranks", "no float64", "accelerator", "accelerators"],
)
def test_edges_are_selected_where_the_sums_are_on_an_accelerator(place, n_samples, reader, is_selecting):
    found = reader_of(place, plan_of(), n_samples=n_samples, has_histogram=True)
    assert type(found) is reader
    assert getattr(found, "is_selecting", None) is is_selecting
