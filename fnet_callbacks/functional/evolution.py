"""Communities through time: who is who from one snapshot to the next, what happened to them, how faithful nodes are."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer
from fnet_callbacks.errors import FnetError

EventKind = Literal["birth", "death", "growth", "shrinkage", "split", "merge"]
# The least part of a community that counts: as its heir, as a fragment of it, as a change of its size.
_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a community between two snapshots.

    Attributes:
        kind: ``"split"``: one community before, two or more after; ``"merge"``: the reverse; ``"birth"``: none before;
            ``"death"``: none after; else the same community before and after, of another size.
        before: Its name at the earlier snapshot, or the names of those that merged.
        after: Its name at the later one, or the names of those that it split into.
    """

    kind: EventKind
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long communities last; K of them.

    Attributes:
        names: ``[K]`` int64, ascending.
        snapshots: ``[K]`` int64: at how many snapshots each was there.
        persistence: ``[K]``: the mean over successive snapshots at which it was there of the share of its nodes that
            stayed, ``|A ∩ B| / |A ∪ B|``; NaN for one that was there only once.
    """

    names: np.ndarray
    snapshots: np.ndarray
    persistence: np.ndarray


def follow(partition: np.ndarray, before: np.ndarray, *, first_new: int = 0) -> np.ndarray:
    """Names communities after those of the last snapshot that they overlap most.

    The names are assigned so that the overlaps, as Jaccard indices of the nodes known at both snapshots, sum to the
    largest that is possible. A community that overlaps the one it would be named after by less than a tenth gets a new
    name instead.

    Args:
        partition: Community of each node, ``[N]``, integers; below 0 for a node that has none.
        before: Names of the last snapshot, ``[N]``, below 0 for a node that had none.
        first_new: New names are the smallest numbers from here on that none has now or had in the last snapshot: by
            default those of communities long gone are used again; with the number of names given so far none is.

    Returns:
        ``[N]`` int64, the same communities; -1 for a node that has none.

    Raises:
        FnetError: They are not vectors of integers of one length, or ``first_new`` is negative or no integer.

    Reference: the assignment is Kuhn's (1955); matching by Jaccard: Greene, Doyle & Cunningham (2010), Tracking the
        evolution of communities in dynamic social networks. The tenth is our assumption.
    Cost: O(N + K³) for K communities.

    >>> follow(np.array([1, 1, 0, 0, 2]), np.array([0, 0, 3, 3, -1])).tolist()
    [0, 0, 3, 3, 1]
    """
    # Here, for a worker's start need not wait for it.
    from scipy.optimize import linear_sum_assignment

    partition, before = _vector(partition, "partition"), _vector(before, "before")
    first_new = checked_integer("first_new", first_new, at_least=0)
    if len(partition) != len(before):
        raise FnetError(f"before must be of the {len(partition)} nodes of partition, got {len(before)}")
    labels, olds = np.unique(partition[partition >= 0]), np.unique(before[before >= 0])
    shared = _shared(partition, before, labels, olds)
    jaccard = shared / np.maximum(shared.sum(1, keepdims=True) + shared.sum(0) - shared, 1)
    name = np.full(len(labels), -1)
    for community, old in zip(*linear_sum_assignment(-jaccard), strict=True):
        if jaccard[community, old] >= _SHARE:
            name[community] = olds[old]
    taken = {*name.tolist(), *olds.tolist()}
    free = (k for k in itertools.count(first_new) if k not in taken)
    name[name < 0] = list(itertools.islice(free, int((name < 0).sum())))
    found = np.full(len(partition), -1)
    found[partition >= 0] = name[np.searchsorted(labels, partition[partition >= 0])]
    return found


def trace(partitions: np.ndarray) -> np.ndarray:
    """Names the communities of a series of snapshots so that each keeps its name for life and none is used twice.

    Args:
        partitions: Community of each node at each snapshot, ``[N, T]``, integers that mean nothing beyond their
            snapshot; below 0 for a node that has none there.

    Returns:
        ``[N, T]`` int64, names from 0 in the order in which communities appear; -1 as above.

    Raises:
        FnetError: ``partitions`` is not ``[N, T]`` integers.

    Cost: that of T times `follow`.

    >>> trace(np.array([[0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 2]])).tolist()
    [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 2]]
    """
    partitions = _series(partitions, "partitions")
    names = np.full(partitions.shape, -1)
    before, first_new = np.full(len(partitions), -1), 0
    for t in range(partitions.shape[1]):
        names[:, t] = before = follow(partitions[:, t], before, first_new=first_new)
        first_new = max(first_new, int(before.max(initial=-1)) + 1)
    return names


def events(before: np.ndarray, after: np.ndarray) -> list[Event]:
    """What happened to the communities between two snapshots.

    A community has split where two or more of the later ones took more than half of their nodes from it, and each at
    least a tenth of its own; a merge is a split backwards in time. What neither split nor merged has died or was born
    where no community bears its name at the other snapshot, and has grown or shrunk where its size changed by a tenth
    or more. Nodes that are known at one snapshot alone count for sizes only; communities of one node for nothing.

    Args:
        before: Names at the earlier snapshot, ``[N]`` integers, below 0 for a node that has none.
        after: Names at the later one, as of `follow`.

    Returns:
        Splits, merges, deaths, births, then the rest, each by name.

    Raises:
        FnetError: They are not vectors of integers of one length.

    Reference: the events are those of Palla, Barabási & Vicsek (2007), Nature 446, 664; the shares are our assumption.
    Cost: O(N + K²).

    >>> events(np.array([0, 0, 0, 0, 0]), np.array([0, 0, 0, 1, 1]))
    [Event(kind='split', before=(0,), after=(0, 1))]
    """
    before, after = _vector(before, "before"), _vector(after, "after")
    if len(before) != len(after):
        raise FnetError(f"after must be of the {len(before)} nodes of before, got {len(after)}")
    olds, old_sizes = np.unique(before[before >= 0], return_counts=True)
    news, new_sizes = np.unique(after[after >= 0], return_counts=True)
    shared = _shared(after, before, news, olds)
    splits = {(a,): parts for a, parts in _fragments(shared.T, olds, news, new_sizes) if len(parts) > 1}
    merges = {parts: (b,) for b, parts in _fragments(shared, news, olds, old_sizes) if len(parts) > 1}
    broken, fused = {n for (n,) in splits}, {n for parts in merges for n in parts}
    pieces, unions = {n for parts in splits.values() for n in parts}, {n for (n,) in merges.values()}
    size_before, size_after = (
        {name: size for name, size in zip(names.tolist(), sizes.tolist(), strict=True) if size > 1}
        for names, sizes in ((olds, old_sizes), (news, new_sizes))
    )
    found = [Event("split", a, parts) for a, parts in splits.items()]
    found += [Event("merge", parts, b) for parts, b in merges.items()]
    found += [
        Event("death", (n,), ()) for n in sorted(size_before.keys() - size_after.keys() - broken - fused)
    ]
    found += [
        Event("birth", (), (n,)) for n in sorted(size_after.keys() - size_before.keys() - pieces - unions)
    ]
    for n in sorted((size_before.keys() & size_after.keys()) - broken - fused - pieces - unions):
        change = size_after[n] - size_before[n]
        if abs(change) >= _SHARE * size_before[n]:
            found.append(Event("growth" if change > 0 else "shrinkage", (n,), (n,)))
    return found


def flexibility(names: np.ndarray) -> np.ndarray:
    """The share of successive snapshots between which each node changes its community.

    Args:
        names: ``[N, T]`` as of `trace`; below 0 where a node is not there, and such steps do not count.

    Returns:
        ``[N]`` in [0, 1]: 0 for a node that stays; NaN where a node is never there twice in a row.

    Raises:
        FnetError: ``names`` is not ``[N, T]`` integers.

    Reference: Bassett et al. (2011), PNAS 108, 7641.
    Cost: O(N T).
    """
    names = _series(names, "names")
    there = (names[:, 1:] >= 0) & (names[:, :-1] >= 0)
    changes = (names[:, 1:] != names[:, :-1]) & there
    return _ratio(changes.sum(1), there.sum(1))


def promiscuity(names: np.ndarray) -> np.ndarray:
    """Of all communities beside one, the share that each node belonged to at some snapshot.

    Args:
        names: See `flexibility`.

    Returns:
        ``[N]`` in [0, 1]: 0 for a node that was always in one, or where there is only one; NaN for one that was never
        there.

    Raises:
        FnetError: ``names`` is not ``[N, T]`` integers.

    Reference: Papadopoulos, Puckett, Daniels & Bassett (2016), Phys. Rev. E 94, 032908; with one subtracted on both
        sides, so that a node that stays has 0.
    Cost: O(N T log T).
    """
    names = _series(names, "names")
    ordered = np.sort(names, axis=1)
    first = np.ones(names.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    visited = (first & (ordered >= 0)).sum(1)
    others = len(np.unique(names[names >= 0])) - 1
    return np.where(visited > 0, (visited - 1) / max(others, 1), np.nan)


def allegiance(names: np.ndarray) -> np.ndarray:
    """The share of snapshots at which two nodes are in the same community.

    Args:
        names: See `flexibility`; any labels do, for snapshots are looked at one by one.

    Returns:
        ``[N, N]`` float64 in [0, 1], symmetric, 1 on the diagonal; NaN for two that are never there together.

    Raises:
        FnetError: ``names`` is not ``[N, T]`` integers.

    Reference: Bassett, Yang, Wymbs & Grafton (2015), Nat. Neurosci. 18, 744.
    Cost: O(N² T) time, two ``[N, N]`` float64.
    """
    names = _series(names, "names")
    n = len(names)
    together, there = np.zeros((n, n)), np.zeros((n, n))
    for at in names.T:
        known = at >= 0
        together += (at[:, None] == at) & known
        there += known[:, None] & known
    with np.errstate(invalid="ignore"):
        return together / there


def lifetimes(names: np.ndarray) -> Lifetimes:
    """How long each community lasts, and how many of its nodes stay.

    Args:
        names: See `flexibility`.

    Raises:
        FnetError: ``names`` is not ``[N, T]`` integers.

    Reference: persistence is the stationarity of Palla, Barabási & Vicsek (2007), Nature 446, 664.
    Cost: O((N + K) T).
    """
    names = _series(names, "names")
    known = np.unique(names[names >= 0])
    sizes = np.array([(names == k).sum(0) for k in known]).reshape(len(known), names.shape[1])
    stayed = np.array([((names[:, 1:] == k) & (names[:, :-1] == k)).sum(0) for k in known])
    stayed = stayed.reshape(len(known), max(names.shape[1] - 1, 0))
    twice = (sizes[:, 1:] > 0) & (sizes[:, :-1] > 0)
    union = np.where(twice, sizes[:, 1:] + sizes[:, :-1] - stayed, 1)
    return Lifetimes(known, (sizes > 0).sum(1), _ratio((stayed / union * twice).sum(1), twice.sum(1)))


def _shared(after: np.ndarray, before: np.ndarray, news: np.ndarray, olds: np.ndarray) -> np.ndarray:
    """How many nodes each of the communities ``news`` shares with each of ``olds``."""
    both = (after >= 0) & (before >= 0)
    shared = np.zeros((len(news), len(olds)))
    np.add.at(shared, (np.searchsorted(news, after[both]), np.searchsorted(olds, before[both])), 1)
    return shared


def _fragments(
    shared: np.ndarray, wholes: np.ndarray, parts: np.ndarray, part_sizes: np.ndarray
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Of each community the names of those at the other snapshot that are fragments of it."""
    is_fragment = (2 * shared > shared.sum(0)) & (shared >= _SHARE * shared.sum(1, keepdims=True))
    for name, row in zip(wholes.tolist(), is_fragment & (part_sizes > 1), strict=True):
        yield name, tuple(parts[row].tolist())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _vector(labels: np.ndarray, name: str) -> np.ndarray:
    return checked_array(name, labels, "[nodes]", kind="integer").astype(np.int64)


def _series(labels: np.ndarray, name: str) -> np.ndarray:
    return checked_array(name, labels, "[nodes, snapshots]", kind="integer").astype(np.int64)
