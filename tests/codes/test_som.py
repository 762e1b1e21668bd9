"""The batch map: by hand, against MiniSom, and on what has a known order."""

import numpy as np
import pytest
import torch
from minisom import MiniSom
from sklearn.datasets import load_digits
from torch import Tensor

from fnet_callbacks.codes.som import SelfOrganizingMap, default_radii, train_map
from fnet_callbacks.errors import FnetError


def digits() -> Tensor:
    values = load_digits().data
    return torch.tensor((values - values.mean(0)) / np.maximum(values.std(0), 1e-9), dtype=torch.float32)


def test_a_pass_is_the_mean_of_all_samples_by_their_nearness() -> None:
    codes = torch.randn(40, 3, dtype=torch.float64)
    start = SelfOrganizingMap(torch.randn(6, 3, dtype=torch.float64), (2, 3))
    found = train_map(codes, (2, 3), radii=[0.8], initial=start).weights.numpy()
    values, weights = codes.numpy(), start.weights.numpy()
    units = ((values[:, None] - weights) ** 2).sum(2).argmin(1)
    places = np.array([(r, c) for r in range(2) for c in range(3)], float)
    for u in range(6):
        near = np.exp(-((places[units] - places[u]) ** 2).sum(1) / (2 * 0.8**2))
        np.testing.assert_allclose(found[u], (near[:, None] * values).sum(0) / near.sum())


@pytest.mark.parametrize(("grid", "sigma"), [((10, 10), 5.0), ((15, 15), 3.0)])
def test_neither_error_is_above_minisoms_after_as_many_passes(grid: tuple[int, int], sigma: float) -> None:
    codes, passes = digits(), 10
    # MiniSom's radius goes from sigma to a third of it; ours of each pass is the one that its pass ends with.
    found = train_map(codes, grid, radii=[sigma / (1 + 2 * (t + 1) / passes) for t in range(passes)])
    other = MiniSom(*grid, codes.shape[1], sigma=sigma, learning_rate=0.5, random_seed=0)
    values = codes.double().numpy()
    other.pca_weights_init(values)
    other.train(values, passes * len(values), random_order=True)
    assert found.quantization_error(codes) <= other.quantization_error(values)
    assert found.topographic_error(codes) <= other.topographic_error(values)


def test_errors_are_minisoms_of_the_same_map() -> None:
    codes = digits()[:300]
    found = train_map(codes, (5, 4))
    other = MiniSom(5, 4, codes.shape[1])
    other._weights = found.weights.double().numpy().reshape(5, 4, -1)
    assert found.quantization_error(codes) == pytest.approx(other.quantization_error(codes.double().numpy()))
    assert found.topographic_error(codes) == pytest.approx(other.topographic_error(codes.double().numpy()))


def test_clusters_on_a_line_come_out_in_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(20, generator=generator), dim=0)
    cluster = torch.arange(300) % 6
    codes = 4 * cluster[:, None] * direction + 0.3 * torch.randn(300, 20, generator=generator)
    for grid in ((1, 6), (6, 1)):
        units = train_map(codes, grid).nearest(codes)[:, 0]
        of_cluster = [set(units[cluster == c].tolist()) for c in range(6)]
        assert all(len(own) == 1 for own in of_cluster)
        order = [own.pop() for own in of_cluster]
        assert order in (sorted(order), sorted(order, reverse=True))
        assert len(set(order)) == 6


def test_the_same_codes_give_the_same_map_and_draw_nothing() -> None:
    codes, stream = digits(), torch.get_rng_state()
    first, second = (train_map(codes, (6, 6)) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(stream, torch.get_rng_state())


def test_a_map_that_goes_on_from_the_last_keeps_its_orientation() -> None:
    codes = digits()
    before = train_map(codes, (8, 8))
    later = codes + 0.1 * torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    warm = train_map(later, (8, 8), radii=[1.0, 0.7, 0.5], initial=before)
    moved = (before.positions[before.nearest(codes)[:, 0]] - warm.positions[warm.nearest(later)[:, 0]]).norm(
        dim=1
    )
    assert moved.median() <= 1
    assert warm.quantization_error(later) <= 1.02 * train_map(later, (8, 8)).quantization_error(later)


def test_the_longer_side_of_the_grid_lies_along_the_larger_spread() -> None:
    codes = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 1.0])
    for grid, axis in (((9, 3), 0), ((3, 9), 1)):
        found = train_map(codes, grid)
        positions = found.positions[found.nearest(codes)[:, 0]]
        assert abs(np.corrcoef(positions[:, axis].numpy(), codes[:, 0].numpy())[0, 1]) > 0.95


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_codes_may_be_of_any_precision(dtype: torch.dtype) -> None:
    codes = digits()[:200].to(dtype)
    found = train_map(codes, (4, 4))
    assert found.weights.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert 0 < found.quantization_error(codes) < 10


def test_degenerate_codes_have_a_written_result() -> None:
    constant = train_map(torch.ones(20, 3), (3, 3))
    assert constant.quantization_error(torch.ones(20, 3)) == pytest.approx(0, abs=1e-6)
    few = train_map(torch.randn(3, 5), (4, 4))  # fewer samples than units
    assert torch.isfinite(few.weights).all()
    narrow = train_map(torch.randn(50, 1), (2, 5))
    assert narrow.weights.shape == (10, 1)
    alone = train_map(torch.randn(50, 4), (1, 1))
    assert np.isnan(alone.topographic_error(torch.randn(9, 4)))
    assert train_map(torch.randn(1, 4), (2, 2)).weights.isfinite().all()


def test_radii_fall_from_half_the_grid_to_half_a_unit() -> None:
    radii = default_radii((4, 10))
    assert len(radii) == 20
    assert radii[0] == 5
    assert radii[-1] == pytest.approx(0.5)
    ratios = np.diff(np.log(radii))
    np.testing.assert_allclose(ratios, ratios[0])
    assert default_radii((1, 1), passes=1) == [0.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [10.0, -1e3, 1e5])
@pytest.mark.parametrize("is_warm", [False, True])
def test_codes_far_from_zero_have_the_units_of_those_about_it(dtype, far, is_warm) -> None:
    codes = (torch.randn(300, 5) + far * torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0])).to(dtype)
    centre = codes.double().mean(0)
    about = codes.double() - centre  # of the same codes, rounded as they are
    start = start_about = None
    if is_warm:
        start = train_map(codes, (4, 4), radii=[2.0])
        start_about = SelfOrganizingMap(start.weights.double() - centre, start.grid)
    expected = train_map(about, (4, 4), initial=start_about)
    found = train_map(codes, (4, 4), initial=start)
    assert found.weights.dtype == dtype
    rounding = 4 * abs(far) * torch.finfo(dtype).eps
    torch.testing.assert_close(
        found.weights.double(), expected.weights + centre, atol=rounding + 1e-4, rtol=0
    )
    share = (found.nearest(codes)[:, 0] == expected.nearest(about)[:, 0]).double().mean()
    assert share > 0.99
    assert found.quantization_error(codes) == pytest.approx(expected.quantization_error(about), rel=1e-3)


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (torch.randn(5), {}, r"`codes` should be floating point \[S, D\]"),
        (torch.ones(5, 2, dtype=torch.int64), {}, "`codes` should be floating point"),
        (torch.randn(0, 2), {}, "`codes` should be floating point"),
        (torch.full((5, 2), torch.nan), {}, "`codes` hold NaN"),
        (torch.randn(5, 2), {"grid": (0, 3)}, "`grid="),
        (torch.randn(5, 2), {"radii": []}, "`radii="),
        (torch.randn(5, 2), {"radii": [1.0, 0.0]}, "`radii="),
        (
            torch.randn(5, 2),
            {"initial": SelfOrganizingMap(torch.zeros(9, 3), (3, 3))},
            "`initial` is a map of",
        ),
    ],
)
def test_wrong_arguments_are_named(codes: Tensor, options, message: str) -> None:
    with pytest.raises(FnetError, match=message):
        train_map(codes, **{"grid": (3, 3), **options})


def test_wrong_questions_are_named() -> None:
    found = train_map(torch.randn(20, 3), (2, 2))
    with pytest.raises(FnetError, match="`codes` should have 3 entries, got 4"):
        found.nearest(torch.randn(5, 4))
    with pytest.raises(FnetError, match="`k=5` should be from 1 to 4"):
        found.nearest(torch.randn(5, 3), 5)
