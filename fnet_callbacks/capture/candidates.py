"""Which items of a data set a loader would give: what its sampler draws from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a data set may be asked for.

    Attributes:
        keys: Each once: integers, or whatever the sampler gives, such as names.
        chances: Of each to be drawn, above 0, where they are not all alike.
    """

    keys: Sequence[Any]
    chances: np.ndarray | None = None

    def order(self, seed: int) -> list[int]:
        """Places of the keys in random order, those of larger chances sooner."""
        generator = np.random.default_rng(seed)
        if self.chances is None:
            return generator.permutation(len(self.keys)).tolist()
        # As if one after another were drawn and not put back: the smallest of exponential waits comes first.
        return np.argsort(generator.exponential(size=len(self.keys)) / self.chances, kind="stable").tolist()


def is_indexable(source: Any) -> bool:
    """Whether a data set, or that of a loader, has samples that can be drawn by index.

    An iterable data set is never iterated by us, nor a sampler that is iterated once and for all; what a loader
    without batches loads are batches already.
    """
    dataset = source
    if isinstance(source, DataLoader):
        if source.batch_sampler is None or any(_is_used_up(own) for own in samplers_of(source)):
            return False
        dataset = source.dataset
    return (
        not isinstance(dataset, IterableDataset)
        and hasattr(dataset, "__getitem__")
        and hasattr(dataset, "__len__")
    )


def samplers_of(loader: DataLoader) -> list[Any]:
    """What decides on the items of a loader: its batch sampler, and the sampler inside it, wrapped or not."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    inner = getattr(getattr(sampler, "dataset", None), "_sampler", None)
    return [own for own in (loader.batch_sampler, sampler, inner) if own is not None]


def candidates_of(source: Any) -> Candidates:
    """The items that a loader's sampler may give, or all of a data set.

    Torch's own samplers say what they draw from; another is iterated once, inside the caller's isolation, which keeps
    its state.

    Args:
        source: Such that `is_indexable`.
    """
    if not isinstance(source, DataLoader):
        return Candidates(range(len(source)))
    batches: Any = source.batch_sampler
    dataset: Any = source.dataset
    found = _of_sampler(batches.sampler, dataset) if type(batches) is BatchSampler else None
    if found is None:
        first = _first(batches, dataset)
        found = _once_each(key for batch in first for key in batch)
    return found


def _of_sampler(sampler: Any, dataset: Sized) -> Candidates:
    kind = type(sampler)
    if kind in (SequentialSampler, RandomSampler):
        return Candidates(range(len(sampler.data_source)))
    if kind is SubsetRandomSampler:
        return _once_each(sampler.indices)
    if kind is WeightedRandomSampler:
        weights = sampler.weights.cpu().numpy()
        possible = np.flatnonzero(weights > 0)
        chances = weights[possible]
        return Candidates(possible.tolist(), None if (chances == chances[:1]).all() else chances)
    if (inner := _shared_out(sampler)) is not None:
        return Candidates(range(len(inner))) if inner is sampler.dataset else _of_sampler(inner, dataset)
    return _once_each(_first(sampler, dataset))


def _shared_out(sampler: Any) -> Any:
    """What a sampler shares out among ranks: its data set, or the sampler that Lightning has wrapped; else None."""
    if not isinstance(sampler, DistributedSampler):
        return None
    inner: Any = getattr(sampler.dataset, "_sampler", None)
    if inner is not None:
        return inner
    return sampler.dataset if type(sampler).__iter__ is DistributedSampler.__iter__ else None


def _first(sampler: Any, dataset: Sized) -> Iterable[Any]:
    """One epoch of a sampler, or, where it has no end, as much as would be one."""
    try:
        most = len(sampler)
    except (TypeError, NotImplementedError):
        most = 2 * len(dataset)
    return itertools.islice(iter(sampler), most)


def _once_each(keys: Iterable[Any]) -> Candidates:
    """Each key once, in an order that does not depend on that in which they came where they have one."""
    plain = [_plain(key) for key in keys]
    try:
        found = list(dict.fromkeys(plain))
    except TypeError:  # no keys of a dictionary
        found = list({repr(key): key for key in plain}.values())
    try:
        return Candidates(sorted(found))
    except TypeError:
        return Candidates(found)


def _plain(key: Any) -> Any:
    if isinstance(key, (np.generic, torch.Tensor)) and key.ndim == 0:
        return key.item()
    return key


def _is_used_up(sampler: Any) -> bool:
    """Whether it is an iterator, which whoever comes next would find further on."""
    return hasattr(sampler, "__next__")
