"""A self-organising map, trained on all samples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy.linalg import eigh
from torch import Tensor, nn

from fnet_callbacks.checks import checked_array, checked_integer, checked_tensor, short_repr
from fnet_callbacks.errors import FnetError

_PASSES = 20
_LAST_RADIUS = 0.5
_AT_ONCE = 2**24  # distances that are held at a time
_FAR = 1e-12  # weight of all samples together below which a unit stays where it was


@dataclass(frozen=True, slots=True)
class SelfOrganizingMap:
    """Units on a grid, each with a code; a sample's unit is the one with the nearest code.

    Attributes:
        weights: Codes of the U units, row after row of the grid, ``[U, D]``.
        grid: Rows and columns, U = rows * columns.
    """

    weights: Tensor = field(repr=False)
    grid: tuple[int, int]

    @property
    def positions(self) -> Tensor:
        """Row and column of each unit, ``[U, 2]``, in the weights' type."""
        rows, columns = (torch.arange(n, device=self.weights.device) for n in self.grid)
        return torch.cartesian_prod(rows, columns).to(self.weights.dtype)

    def nearest(self, codes: Tensor, k: int = 1) -> Tensor:
        """The k nearest units of each sample, the nearest first, ``[S, k]`` int64.

        Args:
            codes: ``[S, D]``.
            k: How many, at most U.

        Raises:
            FnetError: Shapes do not fit, or a code is not finite.
        """
        codes = _checked(codes, width=self.weights.shape[1])
        k = checked_integer("k", k)
        if not 1 <= k <= len(self.weights):
            raise FnetError(f"`k={k}` should be from 1 to {len(self.weights)}, the number of units")
        with torch.autocast(codes.device.type, enabled=False):
            return self._nearest(codes, k)

    def _nearest(self, codes: Tensor, k: int) -> Tensor:
        centre = _centre(self.weights)
        weights = self.weights - centre
        parts = codes.to(self.weights).split(max(1, _AT_ONCE // len(self.weights)))
        return torch.cat(
            [_distances(part - centre, weights).topk(k, dim=1, largest=False).indices for part in parts]
        )

    def quantization_error(self, codes: Tensor) -> float:
        """Mean distance of the samples from the codes of their units, 0 or more.

        Reference: Kohonen (2001), Self-organizing maps, 3rd ed., section 3.
        """
        units = self.nearest(codes)[:, 0]
        return float((codes.to(self.weights) - self.weights[units]).norm(dim=1).mean())

    def topographic_error(self, codes: Tensor) -> float:
        """Share of the samples whose two nearest units are not neighbours, not even at a corner.

        Returns:
            In [0, 1]; NaN for a map of one unit.

        Reference: Kiviluoto (1996), Topology preservation in self-organizing maps.
        """
        if len(self.weights) < 2:
            return float("nan")
        first, second = (self.positions[units] for units in self.nearest(codes, 2).T)
        return float(((first - second).abs().amax(dim=1) > 1).double().mean())

    def u_matrix(self) -> Tensor:
        """Mean distance of each unit's code from those of its up to four neighbours, ``[U]``; 0 for one unit.

        Reference: Ultsch & Siemon (1990), the U-matrix.
        """
        on_grid = self.weights.unflatten(0, self.grid)
        sums, counts = (torch.zeros(self.grid, dtype=on_grid.dtype, device=on_grid.device) for _ in range(2))
        for axis in range(2):
            steps = on_grid.diff(dim=axis).norm(dim=-1)
            n = steps.shape[axis]
            for own in (slice(0, n), slice(1, n + 1)):
                place = (own, slice(None)) if axis == 0 else (slice(None), own)
                sums[place] += steps
                counts[place] += 1
        return (sums / counts.clamp(min=1)).flatten()


def checked_sides(grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a grid, NumPy's integers too.

    Raises:
        FnetError: They are not two integers of at least 1.
    """
    try:
        rows, columns = (checked_integer("grid", side, at_least=1) for side in grid)
    except (TypeError, ValueError):  # not two of them, or one refused
        raise FnetError(
            f"`grid={short_repr(grid)}` should be rows and columns, integers of at least 1"
        ) from None
    return rows, columns


def default_radii(grid: tuple[int, int], passes: int = _PASSES) -> list[float]:
    """From half the longer side of the grid down to half a unit, each the same share of the last.

    Raises:
        FnetError: ``grid`` is not rows and columns, or ``passes`` is below 1.
    """
    grid, passes = checked_sides(grid), checked_integer("passes", passes, at_least=1)
    first = max(max(grid) / 2, _LAST_RADIUS)
    steps = max(1, passes - 1)
    return [first * (_LAST_RADIUS / first) ** (i / steps) for i in range(passes)]


def train_map(
    codes: Tensor,
    grid: tuple[int, int],
    *,
    radii: Sequence[float] | None = None,
    initial: SelfOrganizingMap | None = None,
) -> SelfOrganizingMap:
    r"""Trains a map by the batch rule: every unit moves to the mean of all samples, weighted by their nearness to it.

    In each pass :math:`w_u = \sum_s h(u, b_s) v_s / \sum_s h(u, b_s)`, where b is the unit of a sample and h a Gaussian
    of the distance on the grid. Nothing is drawn: the same codes give the same map. Mixed precision is off: its
    digits do not tell near units apart. Entries that are further from zero than from their mean are trained about
    that: squares of large numbers tell nothing apart either. Starts from the plane of the two largest principal
    components, one standard deviation to each side.

    Args:
        codes: ``[S, D]`` floating point, S at least 1; also fewer than units.
        grid: Rows and columns.
        radii: Standard deviation of h in each pass, in units of the grid, each above 0; their number is that of the
            passes. Default: `default_radii`.
        initial: Where to start, such as the map of the last snapshot; of the same grid and D.

    Raises:
        FnetError: An argument is out of range, shapes do not fit, or a code is not finite.

    Reference: Kohonen (2013), Essentials of the self-organizing map, Neural Networks 37, 52, eq. 8.
    Cost: O(S U D + U² D) a pass, as matrix products on the codes' device; without ``initial`` once
        O(S D min(S, D) + min(S, D)³) on the CPU for the principal components.
    """
    codes, grid = _checked(codes, width=None).detach(), checked_sides(grid)
    if initial is not None and not isinstance(initial, SelfOrganizingMap):
        raise FnetError(f"`initial={short_repr(initial)}` should be a SelfOrganizingMap, or None")
    widths = default_radii(grid) if radii is None else checked_array("`radii`", radii, "[passes]").tolist()
    if not widths or not all(0 < radius < float("inf") for radius in widths):
        raise FnetError(f"`radii={short_repr(radii)}` should be numbers above 0, one at least")
    values = codes if codes.dtype in (torch.float32, torch.float64) else codes.float()
    centre = _centre(values)
    values = values - centre
    if initial is None:
        found = SelfOrganizingMap(_plane(values, grid), grid)
    elif initial.grid != grid or initial.weights.shape[1] != values.shape[1]:
        raise FnetError(
            f"`initial` is a map of {initial.grid} units with codes of {initial.weights.shape[1]}; it should be of "
            f"{grid} with {values.shape[1]}"
        )
    else:
        found = SelfOrganizingMap(initial.weights.to(values) - centre, grid)
    with torch.autocast(values.device.type, enabled=False):
        trained = _trained(values, found, widths)
    return SelfOrganizingMap(trained.weights + centre, grid)


def _trained(values: Tensor, found: SelfOrganizingMap, radii: Sequence[float]) -> SelfOrganizingMap:
    apart = torch.cdist(found.positions, found.positions).square()
    for radius in radii:
        units = found._nearest(values, 1)[:, 0]  # what `nearest` checks was checked once
        sums = _sums(values, units, len(found.weights))
        counts = torch.bincount(units, minlength=len(found.weights)).to(values)
        near = torch.exp(-apart / (2 * radius**2))
        total = (near @ counts)[:, None]
        moved = (near @ sums) / total.clamp(min=_FAR)
        found = SelfOrganizingMap(torch.where(total > _FAR, moved, found.weights), found.grid)
    return found


def _centre(values: Tensor) -> Tensor:
    """The mean of each entry that is further from zero than values are from it, and 0 for the others, ``[D]``."""
    mean = values.mean(0, dtype=torch.float32 if values.device.type == "mps" else torch.float64)
    far = mean.abs() > (values - mean).square().mean(0).sqrt()
    return torch.where(far, mean, 0.0).to(values)


def _plane(codes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Codes on the plane of the two largest principal components; a longer side of the grid lies along the larger."""
    mean = codes.mean(0)
    around = (codes - mean).double()
    axes = _leading(around) / max(1, len(codes) - 1) ** 0.5
    # The sign of a component means nothing: its largest entry is positive.
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    axes = axes * torch.where(signs == 0, 1.0, signs)
    if axes.shape[1] < 2:
        axes = torch.cat([axes, torch.zeros_like(axes)], dim=1)
    along = [
        torch.linspace(-1, 1, n, dtype=torch.float64, device=codes.device) if n > 1 else axes.new_zeros(1)
        for n in grid
    ]
    first, second = torch.cartesian_prod(*along).T
    if grid[1] > grid[0]:
        first, second = second, first
    return (mean + torch.outer(first, axes[:, 0]) + torch.outer(second, axes[:, 1])).to(codes)


def _leading(around: Tensor) -> Tensor:
    """The two principal axes of centred codes, fewer where there are fewer, each as long as its singular value."""
    is_wide = around.shape[1] > len(around)
    product = (around @ around.T if is_wide else around.T @ around).cpu().numpy()
    n = len(product)
    squares, vectors = eigh(product, subset_by_index=(max(0, n - 2), n - 1))
    found = torch.from_numpy(vectors[:, ::-1].copy()).to(around)
    lengths = torch.from_numpy(squares[::-1].copy()).to(around).clamp(min=0).sqrt()
    if not is_wide:
        return found * lengths
    return around.T @ found  # of a vector of length 1 that is as long as its singular value


def _sums(values: Tensor, units: Tensor, n_units: int) -> Tensor:
    """Of the samples of each unit, ``[U, D]``."""
    if values.device.type == "cpu":
        return values.new_zeros(n_units, values.shape[1]).index_add_(0, units, values)
    return nn.functional.one_hot(units, n_units).to(values).T @ values  # there the other adds in any order


def _distances(codes: Tensor, weights: Tensor) -> Tensor:
    """Squared, less what is the same for all units of a sample; ``[S, U]``."""
    return torch.addmm(weights.square().sum(1), codes, weights.T, alpha=-2)


def _checked(codes: Tensor, *, width: int | None) -> Tensor:
    checked_tensor("codes", codes)
    if codes.dim() != 2 or not codes.numel() or not codes.is_floating_point():
        raise FnetError(
            f"`codes` should be floating point [S, D] with one sample and entry at least, got {codes.dtype} "
            f"{tuple(codes.shape)}"
        )
    if width is not None and codes.shape[1] != width:
        raise FnetError(f"`codes` should have {width} entries, got {codes.shape[1]}")
    if not torch.isfinite(codes).all():
        raise FnetError("`codes` hold NaN or infinite values")
    return codes
