"""What `fnet_callbacks.functional.select` reads off a correlation matrix, read on the device it lies on."""

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.checks import checked_tensor
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import GraphRule, Selection, Sign
from fnet_callbacks.functional.correlation import ROUNDING, checked_correlation
from fnet_callbacks.functional.selection import checked_rule

_BINS = 4096  # those of `Selection.weight_counts`


def select_on_device(correlation: Tensor, rule: GraphRule | None = None) -> Selection:
    """`fnet_callbacks.functional.select` for a tensor, on the tensor's device.

    Nodes, tree, edges and scale are those of `select` to the bit; the mean and the rank are within the rounding
    of another order of summation. What crosses to the host: one byte a neuron, one bool for the matrix and one
    a round of the tree's algorithm, and in the end one array: 16 bytes an edge, be it of the tree or not, 4,100
    numbers.

    Args:
        correlation: ``[N, N]`` float64, symmetric to the bit, NaN in the rows and columns of dead units, as
            `RunningCorrelation.correlation` gives it; its block ``[own, own]`` for a layer.
        rule: Which pairs are edges; None for ``GraphRule()``.

    Raises:
        FnetError: ``correlation`` is not square or not float64, or among live units not symmetric, not finite or no
            correlation (a covariance, Fisher's z); ``rule`` is no `GraphRule`.

    Reference: Borůvka (1926), for the tree; Nešetřil, Milková & Nešetřilová (2001), Discrete Math. 233, 3.
    Cost: O(N² log N) time, in two passes a round of at most log₂ N, fewer as a rule; memory for about three ``[N, N]``
        float64 beside the argument. On the CPU `select` is many times faster.

    >>> r = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, -0.5], [0.1, -0.5, 1.0]], dtype=torch.float64)
    >>> select_on_device(r, GraphRule("threshold", threshold=0.5, sign="positive")).edges.tolist()
    [[0, 1]]
    """
    rule = checked_rule(rule)
    method, sign = rule.method, rule.sign
    block, nodes = _live_block(correlation)
    n = len(nodes)
    if n < 2:
        empty = np.empty((0, 2), np.int32)
        rank = 1.0 if n else float("nan")
        none = np.zeros(_BINS, np.int64)
        return Selection(
            len(correlation), nodes, empty, np.empty(0), empty, np.empty(0), 0.0, float("nan"), rank, none
        )

    tree = _spanning_tree(block.abs() if sign == "absolute" else block.clone())
    joined = _joined(block, tree if method == "mst" else None, rule)
    beyond = joined.clone()  # the edges beyond the tree; those of the tree where there are no others
    if method == "mst":
        beyond[tree] = False
        beyond |= joined & ~beyond.any()
    counts = _weight_counts(block, sign)
    strength = block.abs().fill_diagonal_(0.0)
    tree_weights = strength[tree]
    weakest = strength.masked_fill(~beyond, torch.inf).amin()
    total = strength.sum()
    weaker = strength.masked_fill_(strength >= weakest, 0.0).amax()
    squares = torch.linalg.vector_norm(block).square()

    # All in one transfer: each piece is words of eight bytes, a pair of nodes one word.
    edges = joined.nonzero()
    pieces = (
        torch.stack((weakest, weaker, total, squares)),
        tree_weights,
        torch.stack(tree, dim=1).int(),
        counts,
        edges.int(),
        block[edges[:, 0], edges[:, 1]].abs(),
    )
    words = torch.cat([piece.flatten().view(torch.int64) for piece in pieces]).cpu().numpy()
    lengths = [4, n - 1, n - 1, _BINS, len(edges)]
    numbers, weights, pairs, counted, ends, edge_weights = np.split(words, np.cumsum(lengths))
    weakest, weaker, total, squares = numbers.view(np.float64).tolist()
    return Selection(
        n_neurons=len(correlation),
        nodes=nodes,
        tree=pairs.view(np.int32).reshape(-1, 2),
        tree_weights=weights.view(np.float64),
        edges=ends.view(np.int32).reshape(-1, 2),
        edge_weights=edge_weights.view(np.float64),
        scale=max(0.0, 1.0 - (weakest + weaker) / 2) if len(edges) else 0.0,
        mean_abs_correlation=min(total / (n * (n - 1)), 1.0),
        effective_rank=max(n**2 / squares, 1.0),
        weight_counts=counted,
    )


def _weight_counts(block: Tensor, sign: Sign) -> Tensor:
    """Of the pairs that have a weight, how many are in each bin."""
    weights = block.abs() if sign == "absolute" else block
    counted = torch.ones_like(weights, dtype=torch.bool) if sign == "absolute" else weights > 0
    counted.fill_diagonal_(False)
    bins = (weights[counted].clamp(max=1.0) * (_BINS - 1)).long()
    return torch.bincount(bins, minlength=_BINS) // 2  # each pair stands in both triangles


def _live_block(correlation: Tensor) -> tuple[Tensor, np.ndarray]:
    """The correlation among live units, and which units these are."""
    correlation = checked_tensor("correlation", correlation)
    if correlation.ndim != 2 or correlation.shape[0] != correlation.shape[1]:
        raise FnetError(f"correlation must be square, [units, units]; got shape {tuple(correlation.shape)}")
    if correlation.dtype != torch.float64:
        raise FnetError(f"correlation must be float64; got {correlation.dtype}")
    nodes = np.flatnonzero(~correlation.diagonal().isnan().cpu().numpy())
    if len(nodes) < len(correlation):
        live = torch.from_numpy(nodes).to(correlation.device)
        correlation = correlation[live[:, None], live]
    is_symmetric = ((correlation - correlation.T) == 0).all()  # NaN and infinity fail too
    off_one = (correlation.diagonal() - 1).abs() > ROUNDING
    if not is_symmetric & (correlation.abs() <= 1 + ROUNDING).all() & ~off_one.any():
        checked_correlation(correlation.cpu().numpy(), has_dead=False)  # says what it is instead
        raise FnetError(
            "correlation must be symmetric to the bit, and finite but for whole rows and columns of NaN (dead units)"
        )
    return correlation, nodes


def _spanning_tree(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of the edges of the maximum spanning tree, i < j, sorted by (i, j); ``weights`` is used up.

    In a round every component joins another along the first of its edges: strongest first, equal weights by
    (i, j). A component is named after one of its nodes, and an edge is noted at the name that it ends. Each round
    the host asks whether one component is left, for that costs less than rounds that join nothing.
    """
    n = len(weights)
    rounds = (n - 1).bit_length()  # each halves the number of components at least
    node = torch.arange(n, device=weights.device)
    no_edge = torch.full_like(node, n * n - 1)  # the key i n + j of a loop, larger than any edge's
    component, edge = node, no_edge
    for left in range(rounds, 0, -1):
        weights.masked_fill_(component[:, None] == component, -torch.inf)
        weight, partner = weights.max(dim=1)  # the first of equal ones: the order of one node's edges
        best = torch.full_like(weight, -torch.inf).scatter_reduce_(0, component, weight, "amax")[component]
        key = torch.minimum(node, partner) * n + torch.maximum(node, partner)
        key = torch.where(weight == best, key, no_edge)
        key = no_edge.scatter_reduce(0, component, key, "amin")
        other = component[key // n] + component[key % n] - node  # one of the two is the component itself
        parent = torch.where(key < no_edge, other, node)
        parent = torch.where((parent[parent] == node) & (node < parent), node, parent)  # both chose one edge
        edge = torch.where(parent != node, key, edge)
        for _ in range(left):
            parent = parent[parent]
        component = parent[component]
        if (component == component[0]).all():
            break
    edge = edge.sort().values[: n - 1]
    return edge // n, edge % n


def _joined(block: Tensor, tree: tuple[Tensor, Tensor] | None, rule: GraphRule) -> Tensor:
    """Which pairs are edges, ``[n, n]`` bool, above the diagonal; those of a tree are."""
    n = len(block)
    weights = block.abs() if rule.is_absolute else block.masked_fill(block <= 0, -torch.inf)
    weights.masked_fill_(torch.ones_like(weights, dtype=torch.bool).tril_(), -torch.inf)
    if rule.threshold is not None:
        return weights >= rule.threshold
    count = round(rule.density * (n * (n - 1) // 2))
    if tree is not None:
        count = max(count, n - 1)
        weights[tree] = torch.inf
    if count == 0:
        return torch.zeros_like(weights, dtype=torch.bool)
    weakest = weights.flatten().topk(count, sorted=False).values.amin()
    weakest.clamp_(min=torch.finfo(weights.dtype).min)  # -inf is never an edge
    above, ties = weights > weakest, weights == weakest
    place = ties.flatten().cumsum(0, dtype=torch.int32).view_as(ties)  # of equal ones the first are taken
    return above | (ties & (place <= count - above.sum()))
