"""Local specialization: planted modules are found, important and coherent; permuted ones and random groups are not."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import adjusted_rand_score, homogeneity_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks import functional as F
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.local import local_specialization

BLOCKS, WIDTH, FEATURES = 4, 16, 6  # each block tells two of the eight classes apart
PLANTED = np.tile(np.repeat(np.arange(BLOCKS), WIDTH), 2)


def mask(n_out: int, n_in: int) -> Tensor:
    return torch.kron(torch.eye(BLOCKS), torch.ones(n_out, n_in))


def samples(n: int = 1200, seed: int = 0) -> TensorDataset:
    """Class 2 b + s: the features of block b have the sign s, the others are faint noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2 * BLOCKS, (n,), generator=generator)
    values = 0.2 * torch.randn(n, BLOCKS * FEATURES, generator=generator)
    for i, label in enumerate(labels.tolist()):
        own = slice(label // 2 * FEATURES, (label // 2 + 1) * FEATURES)
        values[i, own] += 1.5 * (1 if label % 2 else -1)
    return TensorDataset(values, labels)


def loader(n: int = 1200) -> DataLoader:
    return DataLoader(samples(n), batch_size=400)


@pytest.fixture(scope="module")
def modular() -> nn.Sequential:
    """Block-diagonal weights with weak cross-talk, trained on the whole task."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(BLOCKS * FEATURES, BLOCKS * WIDTH), nn.ReLU(),
        nn.Linear(BLOCKS * WIDTH, BLOCKS * WIDTH), nn.ReLU(), nn.Linear(BLOCKS * WIDTH, 2 * BLOCKS),
    )  # fmt: skip
    masks = [mask(WIDTH, FEATURES), mask(WIDTH, WIDTH), mask(2, WIDTH)]
    linear = [net[0], net[2], net[4]]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    values, labels = samples().tensors
    for _ in range(150):
        with torch.no_grad():
            for layer, own in zip(linear, masks, strict=True):
                layer.weight.mul_(own + 0.02 * (1 - own))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(values), labels).backward()
        optimizer.step()
    with torch.no_grad():
        for layer, own in zip(linear, masks, strict=True):
            layer.weight.mul_(own + 0.02 * (1 - own))
    assert (net(values).argmax(1) == labels).float().mean() > 0.95
    return net


@pytest.mark.parametrize("graph", ["weights", "activations"])
def test_layer_by_layer_the_same_modules_are_found(modular: nn.Sequential, graph) -> None:
    found = local_specialization(modular, loader(), graph=graph, k=BLOCKS, scope="local")
    for own, planted in zip(np.split(found.partition, 2), np.split(PLANTED, 2), strict=True):
        assert adjusted_rand_score(planted[own >= 0], own[own >= 0]) > 0.95
    assert found.importance.p_value < 0.05


@pytest.mark.parametrize("graph", ["weights", "activations"])
def test_planted_modules_are_found_important_and_coherent(modular: nn.Sequential, graph) -> None:
    found = local_specialization(modular, loader(), graph=graph, k=BLOCKS, shuffles=19)
    joined = found.partition >= 0  # a unit that is dead has no correlation
    assert joined.mean() > 0.6
    assert adjusted_rand_score(PLANTED[joined], found.partition[joined]) > 0.95
    assert found.p_value == 0.05
    assert found.z_score < -3
    assert len(found.subclusters) == 2 * BLOCKS
    assert found.importance.p_value < 0.05
    assert found.coherence.p_value < 0.05
    assert found.coherence.effect > 1
    for subcluster in found.subclusters:
        lost = np.flatnonzero(found.accuracy - subcluster.accuracy > 0.5)
        assert set(lost) <= {2 * (subcluster.units[0] // WIDTH), 2 * (subcluster.units[0] // WIDTH) + 1}


@pytest.mark.parametrize("options", [{"correlation": "pearson"}, {"signal": "pre"}])
def test_other_graphs_of_activations_find_the_modules_too(modular: nn.Sequential, options) -> None:
    found = local_specialization(modular, loader(), graph="activations", k=BLOCKS, **options)
    joined = found.partition >= 0
    assert adjusted_rand_score(PLANTED[joined], found.partition[joined]) > 0.95
    assert found.importance.p_value < 0.05


def test_communities_of_the_functional_network_are_asked_too(modular: nn.Sequential) -> None:
    found = local_specialization(modular, loader(), graph="activations", partition="louvain")
    of_activations = activations(modular)
    live = np.flatnonzero(of_activations.std(0))
    graph = F.graph_from_correlation(F.correlation_matrix(of_activations[:, live]))
    assert (np.delete(found.partition, live) == -1).all()
    np.testing.assert_array_equal(found.partition[live], F.communities(graph))
    # Finer than the modules, whose units are active for one of two classes; hardly any runs through two of them.
    assert homogeneity_score(PLANTED[live], found.partition[live]) > 0.8
    assert found.importance.p_value < 0.05


def activations(net: nn.Sequential) -> np.ndarray:
    with torch.no_grad():
        first = net[:2](samples().tensors[0])
        return torch.cat([first, net[2:4](first)], dim=1).numpy()


def test_labels_of_the_most_activating_inputs_are_those_of_the_module(modular: nn.Sequential) -> None:
    found = local_specialization(modular, loader(), k=BLOCKS)
    rows, labels = activations(modular), samples().tensors[1].numpy()
    for subcluster in found.subclusters:
        units = subcluster.units + WIDTH * BLOCKS * (subcluster.layer == "3")
        most = np.argsort(-np.abs(rows[:, units]).sum(1))[:10]
        shares = np.bincount(labels[most]) / 10
        expected = stats.entropy(shares) / np.log(2 * BLOCKS)
        assert subcluster.label_entropy.score == pytest.approx(expected, abs=1e-6)


def test_of_an_input_made_for_a_module_the_network_is_surer(modular: nn.Sequential) -> None:
    found = local_specialization(modular, loader(400), k=BLOCKS, visualization_steps=64)
    assert np.isfinite(found.objective.p_value)
    assert found.softmax_entropy.p_value < 0.05
    assert found.softmax_entropy.effect < 1
    without = local_specialization(modular, loader(400), k=BLOCKS)
    assert np.isnan(without.objective.p_value)
    assert without.importance == found.importance


def test_with_weights_permuted_within_layers_nothing_is_left(modular: nn.Sequential) -> None:
    generator = torch.Generator().manual_seed(1)
    permuted = copy.deepcopy(modular)
    for own, other in zip(permuted, modular, strict=True):
        if isinstance(own, nn.Linear):
            shuffled = torch.randperm(other.weight.numel(), generator=generator)
            own.weight.data = other.weight.detach().flatten()[shuffled].view_as(own.weight).clone()
    found = local_specialization(permuted, loader(), k=BLOCKS, shuffles=19)
    assert adjusted_rand_score(PLANTED, found.partition) < 0.3
    assert abs(found.z_score) < 3
    assert found.importance.p_value > 0.05
    assert found.coherence.p_value > 0.05


@pytest.mark.slow
def test_under_chance_all_twenty_p_values_are_equally_frequent(modular: nn.Sequential) -> None:
    generator = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {"importance": [], "coherence": []}
    for seed in range(120):
        partition = generator.integers(0, 4, 2 * BLOCKS * WIDTH)
        found = local_specialization(modular, loader(400), partition=partition, seed=seed)
        chosen = found.subclusters[generator.integers(len(found.subclusters))]
        for name, values in drawn.items():
            values.append(getattr(chosen, name).p_value)
    for name, values in drawn.items():
        known = np.array(values)[np.isfinite(values)]
        counts = np.bincount(np.round(known * 20).astype(int), minlength=21)[1:]
        assert stats.chisquare(counts).pvalue > 0.01, (name, counts)


def sparse_net(n_dead: int) -> nn.Sequential:
    """Of 32 units some are dead; the others are of one kind."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    net[0].bias.data[:n_dead] = -100
    return net


@pytest.mark.slow
def test_dead_units_do_not_make_the_others_important() -> None:
    net, generator = sparse_net(16), np.random.default_rng(0)
    data = torch.randn(400, 8)
    batches = [(data, net(data).argmax(1))]
    p, effects = [], []
    for seed in range(60):
        partition = np.concatenate([np.full(16, -1), generator.integers(0, 3, 16)])
        found = local_specialization(net, batches, graph="activations", partition=partition, seed=seed)
        p += [s.importance.p_value for s in found.subclusters]
        effects.append(found.importance.effect)
    assert stats.kstest(np.array(p) - 0.025, "uniform").pvalue > 0.01
    assert np.mean(effects) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n_dead", [0, 16])
def test_uncorrelated_units_do_not_fall_into_clusters(n_dead: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    net[0].weight.data = torch.eye(32)
    net[0].bias.data.zero_()
    net[0].bias.data[:n_dead] = -100
    data = [(torch.randn(600, 32), torch.randint(0, 4, (600,)))]
    found = local_specialization(net, data, graph="activations", k=3, shuffles=40)
    assert abs(found.z_score) < 3


def test_of_a_given_partition_there_is_no_z(modular: nn.Sequential) -> None:
    found = local_specialization(modular, loader(400), partition="louvain", shuffles=5)
    assert np.isnan(found.z_score)
    assert np.isnan(found.p_value)
    assert found.ncut > 0
    # Between the units of a single layer weights have no edge.
    found = local_specialization(
        sparse_net(0), [(torch.randn(99, 8), torch.arange(99) % 4)], partition="louvain"
    )
    assert np.isnan(found.ncut)
    assert len(found.subclusters) > 0


def test_a_lesion_that_helps_is_not_important() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    data = torch.randn(200, 4)
    labels = 1 - net(data).argmax(1)  # always wrong, so that nothing can be lost
    found = local_specialization(net, [(data, labels)], partition=np.arange(8) % 2, graph="activations")
    assert all(s.importance.score >= 0 for s in found.subclusters)
    assert np.isnan(found.importance.effect)


def test_pre_activations_are_clustered_and_outputs_asked_for_labels(modular: nn.Sequential) -> None:
    options = {"graph": "activations", "partition": PLANTED}
    pre, post = (local_specialization(modular, loader(400), signal=s, **options) for s in ("pre", "post"))
    assert pre.ncut != pytest.approx(post.ncut)
    for own, other in zip(pre.subclusters, post.subclusters, strict=True):
        assert own.label_entropy.score == pytest.approx(other.label_entropy.score)


def test_samples_are_counted_whatever_they_come_in(modular: nn.Sequential) -> None:
    values, labels = samples(400).tensors
    for inputs in (values, (values,), {"x": values}):
        found = local_specialization(
            modular if not isinstance(inputs, dict) else Named(modular),
            [(inputs, labels)],
            graph="activations",
            partition=PLANTED,
            max_samples=100,
        )
        with torch.no_grad():
            right = (modular(values[:100]).argmax(1) == labels[:100]).numpy()
        np.testing.assert_allclose(
            np.nanmean(found.accuracy), np.mean([right[labels[:100] == c].mean() for c in range(8)])
        )


class Named(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_any_partition_can_be_given(modular: nn.Sequential) -> None:
    partition = PLANTED.copy()
    partition[:5] = -1
    partition[5] = 9  # a cluster of one unit is no group
    found = local_specialization(modular, loader(), partition=partition)
    np.testing.assert_array_equal(found.partition, partition)
    assert {(s.layer, s.cluster) for s in found.subclusters} == {
        (layer, c) for layer in ("1", "3") for c in range(4)
    }
    assert np.isnan(found.z_score)


def test_the_model_is_left_as_it_was(modular: nn.Sequential) -> None:
    modular.train()
    before = {name: value.clone() for name, value in modular.state_dict().items()}
    state = torch.get_rng_state()
    local_specialization(modular, loader(400), k=3)
    assert modular.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in modular.state_dict().items())


def test_a_class_that_is_missing_and_a_layer_of_one_unit_are_no_obstacle() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 1), nn.ReLU(), nn.Linear(1, 5))
    data = TensorDataset(torch.randn(60, 4), torch.randint(0, 3, (60,)) * 2 - (torch.arange(60) < 0).long())
    found = local_specialization(net, DataLoader(data, batch_size=30), k=2, graph="activations")
    assert all(s.layer == "1" for s in found.subclusters)
    assert np.isnan(found.accuracy).tolist()[1::2] == [True, True]


class Branching(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


def test_a_model_that_cannot_be_traced_says_so_and_has_a_graph_of_activations(modular: nn.Sequential) -> None:
    model = Branching(*modular)
    with pytest.raises(CaptureError, match="Branching cannot be traced"):
        local_specialization(model, loader())
    found = local_specialization(model, loader(), graph="activations", k=BLOCKS)
    assert found.importance.p_value < 0.05


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act, self.other = nn.Linear(24, 6), nn.Linear(6, 6), nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.a(x))
        return self.head(self.other(hidden + self.b(hidden)))


def test_units_that_a_sum_makes_one_node_have_one_cluster() -> None:
    with pytest.raises(FnetError, match="units that a residual sum makes one node are of several clusters"):
        local_specialization(Summed(), loader(400), partition=np.array([0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1]))
    same = np.tile([0, 0, 0, 1, 1, 1], 2)
    np.testing.assert_array_equal(local_specialization(Summed(), loader(400), partition=same).partition, same)


def test_batches_of_mappings_have_a_graph_of_activations(modular: nn.Sequential) -> None:
    values, labels = samples(400).tensors
    batches = [{"x": values, "label": labels}]
    with pytest.raises(CaptureError, match="traces a model of positional inputs, these are a dict"):
        local_specialization(Named(modular), batches)
    assert local_specialization(Named(modular), batches, graph="activations", k=4).importance.p_value < 0.05


def unlabelled() -> Iterator[Tensor]:
    yield torch.randn(10, BLOCKS * FEATURES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "weight"}, "`graph='weight'` should be 'weights' or 'activations'"),
        ({"k": 500}, r"`k=500` should be from 1 to 160"),
        ({"references": 0}, "`references=0`"),
        ({"scope": "here"}, "`scope='here'`"),
        ({"scope": "local", "partition": PLANTED}, "`scope='local'` clusters each layer anew"),
        ({"shuffles": -1}, "`shuffles=-1`"),
        ({"partition": np.zeros(3, int)}, r"`partition` should be integers of shape \(128,\)"),
        ({"partition": np.zeros(96)}, "`partition` should be integers"),
        ({"replacement": "none"}, "`replacement='none'`"),
        ({"layers": "nothing"}, "nothing"),
        ({"shuffles": 1}, "`shuffles=1` should be 0, or at least 2"),
        ({"partition": "leiden"}, "`partition='leiden'` should be 'louvain'"),
        ({"correlation": "kendall"}, "`correlation='kendall'` should be 'spearman' or 'pearson'"),
        ({"signal": "both"}, "`signal='both'`"),
        ({"visualization_steps": -1}, "`visualization_steps=-1`"),
        ({"max_samples": 1}, "`max_samples=1`"),
        ({"layers": 3}, "`layers=3`"),
        ({"output_to_logits": 0.5}, "`output_to_logits=0.5` should be a function"),
        ({"output_to_logits": "logits"}, "`output_to_logits='logits'` is no entry of a Tensor"),
        (
            {"output_to_logits": lambda output: {"logits": output}},
            "`output_to_logits` gives a dict; it should give the logits",
        ),
    ],
)
def test_wrong_arguments_are_named(modular: nn.Sequential, options, message: str) -> None:
    with pytest.raises(FnetError, match=message):
        local_specialization(modular, loader(400), **{"k": 4, **options})


def test_units_that_are_not_finite_are_named() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    data = [(torch.full((20, 4), torch.nan), torch.arange(20) % 2)]
    with pytest.raises(FnetError, match="no unit of 1 varies over the samples and is finite"):
        local_specialization(net, data, graph="activations", k=2)
    net[0].weight.data[0, 0] = torch.inf
    with pytest.raises(CaptureError, match="the weights of 0 are not all finite"):
        local_specialization(net, [(torch.randn(20, 4), torch.arange(20) % 2)], k=2)
    with pytest.raises(FnetError, match="labels go up to 5, the model has 2 logits"):
        local_specialization(net, [(torch.randn(20, 4), torch.arange(20) % 6)], k=2, graph="activations")


def test_batches_without_labels_and_no_batches_are_named(modular: nn.Sequential) -> None:
    with pytest.raises(FnetError, match="no labels in a batch"):
        local_specialization(modular, unlabelled())
    with pytest.raises(FnetError, match="`loader` has no batch"):
        local_specialization(modular, [])
