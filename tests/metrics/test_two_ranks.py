import numpy as np
import pytest
import torch

from fnet_callbacks.functional.correlation import correlation_matrix
from fnet_callbacks.metrics import ActivationStatistics, RunningCorrelation

# What each of two ranks sees, as rows of the whole: uneven shares, empty first and only batches.
SHARES = {
    "uneven": [[(0, 30), (30, 70)], [(70, 100)]],
    "second begins empty": [[(0, 30)], [(0, 0), (30, 100)]],
    "second is empty": [[(0, 30), (30, 100)], [(0, 0)]],
    "first begins empty": [[(0, 0), (0, 30)], [(30, 60), (60, 100)]],
    "first is empty": [[(0, 0)], [(0, 100)]],
}


def activations_and_labels():
    rng = np.random.default_rng(0)
    activations = rng.normal(size=(100, 6)) @ rng.normal(size=(6, 6))
    activations[:, 1] += 1e4
    activations[:, 2] = 0.1
    activations[95, 3] = np.inf
    return torch.from_numpy(activations), torch.from_numpy(rng.integers(0, 3, 100))


def measure_share(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    activations, labels = activations_and_labels()
    correlation = RunningCorrelation(6)
    statistics = ActivationStatistics(6, num_classes=3, keep=25)
    results = {}
    with torch.inference_mode():
        for name, shares in SHARES.items():
            correlation.reset()
            statistics.reset()
            for start, stop in shares[rank]:
                correlation.update(activations[start:stop])
                statistics.update(activations[start:stop], labels[start:stop])
            results[f"{name}/correlation"] = correlation.compute()
            results[f"{name}/tensor"] = correlation.correlation().numpy()
            for field, value in statistics.compute()._asdict().items():
                results[f"{name}/{field}"] = value
    np.savez(f"{folder}/rank_{rank}.npz", **results)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(measure_share, args=(str(folder),), nprocs=2)
    return [dict(np.load(folder / f"rank_{rank}.npz")) for rank in range(2)]


def test_ranks_compute_the_same(ranks):
    assert ranks[0].keys() == ranks[1].keys()
    for key, value in ranks[0].items():
        np.testing.assert_array_equal(value, ranks[1][key], err_msg=key)


@pytest.mark.parametrize("name", SHARES)
def test_correlation_over_two_ranks_equals_one_shot(ranks, name):
    expected = correlation_matrix(activations_and_labels()[0].numpy())
    np.testing.assert_allclose(ranks[0][f"{name}/correlation"], expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ranks[0][f"{name}/tensor"], ranks[0][f"{name}/correlation"])


@pytest.mark.parametrize("name", SHARES)
def test_statistics_over_two_ranks_equal_one_shot(ranks, name):
    activations, labels = activations_and_labels()
    whole = ActivationStatistics(6, num_classes=3)
    whole.update(activations, labels)
    for field in ("count", "active_share", "class_active_share"):
        np.testing.assert_array_equal(ranks[0][f"{name}/{field}"], getattr(whole.compute(), field))
    seen = [np.concatenate([np.arange(start, stop) for start, stop in share])[:25] for share in SHARES[name]]
    kept = activations.float().numpy()[np.concatenate(seen)]
    np.testing.assert_array_equal(ranks[0][f"{name}/kept"], kept)
