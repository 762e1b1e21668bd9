"""Activation patterns: on which piece each piecewise-linear unit is, packed into bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from fnet_callbacks.capture.batches import batch_size, call_model
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import Elementwise, Pieces


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """Units of one piecewise-linear operation, each position of a channel one of its own.

    Attributes:
        name: Of the module that it is in, with ``#k`` for its k-th where there are several.
        n_units: Of them.
        dead: How many are below their first break for all inputs: a ReLU that is never active.
        always_on: How many are above it for all.
    """

    name: str
    n_units: int
    dead: int
    always_on: int


@dataclass(frozen=True, slots=True)
class Patterns:
    """The activation patterns of S inputs.

    Attributes:
        bits: Which breaks each unit is above, packed, ``[S, B / 8]`` uint8.
        places: Which entry is the largest, of what takes the largest, ``[S, P]`` integers.
        layers: The elementwise operations, in their order.
        n_units: All piecewise-linear units, those that take the largest among them.
        outputs: What the model returned, by batch.
    """

    bits: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    layers: Sequence[LayerActivity]
    n_units: int
    outputs: Sequence[Any] = field(repr=False)

    def groups(self) -> np.ndarray:
        """The region of each input, ``[S]`` int64: 0 for the pattern that most inputs have, and so on.

        Cost: a sort of S rows.
        """
        places = np.ascontiguousarray(self.places)
        rows = np.concatenate([self.bits, places.view(np.uint8).reshape(len(self.bits), -1)], axis=1)
        as_one = rows.view([("", np.void, rows.shape[1])]).ravel()
        _, first, inverse, sizes = np.unique(
            as_one, return_index=True, return_inverse=True, return_counts=True
        )
        rank = np.empty(len(sizes), np.int64)
        rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
        return rank[inverse]

    def distances(self, other: Patterns) -> np.ndarray:
        """Number of units on another piece, of each input and the one at its place in ``other``, ``[S]``."""
        return _differing(self.bits ^ other.bits, self.places != other.places)

    def among(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The same, of each of some inputs and each of others, ``[len(rows), len(columns)]``."""
        return np.stack(
            [
                _differing(self.bits[columns] ^ self.bits[i], self.places[columns] != self.places[i])
                for i in rows.tolist()
            ]
        )


def activation_patterns(model: nn.Module, batches: Iterable[Any]) -> Patterns:
    """The patterns of inputs in a model that is piecewise linear, by its modules and by its functional calls.

    A ReLU has two states, Hardtanh and ReLU6 have three, the states of max-pooling are its argmaxes. The caller sees to
    it that the model is in eval mode and that nothing it does lasts; see ``capture.isolation``.

    Args:
        model: The model.
        batches: Of inputs, see ``capture.batches.call_model``; their first floating-point tensor is what regions are
            of. Samples on the first axis.

    Raises:
        CaptureError: The model is not piecewise linear, or has no piecewise-linear unit; the message names what is in
            the way.

    Cost: one forward pass without gradients, one bit a unit and sample.
    """
    bits, places, outputs = [], [], []
    units: list[_Units] = []
    for inputs in batches:
        seen = _Seen(batch_size(inputs))
        follower = Follower(seen)
        with torch.no_grad(), follower.named(model), follower:
            follower.follow(_followed(inputs))
            outputs.append(call_model(model, inputs))
        if not seen.units:
            raise CaptureError(
                f"{type(model).__name__} has no piecewise-linear unit that depends on the input: it is one affine map"
            )
        bits.append(seen.packed())
        places.append(seen.chosen())
        units = [a.and_(b) for a, b in zip(units, seen.units, strict=True)] if units else seen.units
    if not bits:
        raise CaptureError("there are no inputs; there should be one batch at least")
    return Patterns(
        np.concatenate(bits),
        np.concatenate(places),
        _named(units),
        sum(own.n_units for own in units),
        outputs,
    )


@dataclass(frozen=True, slots=True)
class _Units:
    """Those of one operation: which were ever, and which always active, ``[U]``; None where there is no such thing."""

    name: str
    n_units: int
    ever: Tensor | None
    always: Tensor | None

    def and_(self, other: _Units) -> _Units:
        if self.ever is None or self.always is None or other.ever is None or other.always is None:
            return self
        return _Units(self.name, self.n_units, self.ever | other.ever, self.always & other.always)


class _Seen:
    """What one pass showed."""

    def __init__(self, n_samples: int) -> None:
        self.units: list[_Units] = []
        self._n = n_samples
        self._bits: list[Tensor] = []
        self._places: list[Tensor] = []

    def __call__(self, name: str, pieces: Pieces) -> None:
        states = [self._by_sample(state, name) for state in pieces.states()]
        first = states[0]
        if first.dtype == torch.bool:
            self._bits += states
        else:
            self._places += states
        active = first if isinstance(pieces, Elementwise) else None
        of_each = (None, None) if active is None else (active.any(0), active.all(0))
        self.units.append(_Units(name, first.shape[1], *of_each))

    def packed(self) -> np.ndarray:
        if not self._bits:
            return np.empty((self._n, 0), np.uint8)
        return np.packbits(torch.cat(self._bits, 1).cpu().numpy(), axis=1)

    def chosen(self) -> np.ndarray:
        if not self._places:
            return np.empty((self._n, 0), np.uint8)
        return torch.cat(self._places, 1).cpu().numpy()

    def _by_sample(self, state: Tensor, name: str) -> Tensor:
        if not state.dim() or len(state) % self._n:
            raise CaptureError(
                f"in {name} a piecewise-linear operation has shape {tuple(state.shape)}, whose first axis does not "
                f"hold the {self._n} samples"
            )
        return state.reshape(self._n, -1)


def _followed(inputs: Any) -> Tensor:
    found: list[Tensor] = []
    apply_to_collection(inputs, Tensor, lambda t: found.append(t) if t.is_floating_point() else None)
    if not found:
        raise CaptureError(
            "the inputs hold no tensor of floating-point numbers, whose regions there would be"
        )
    return found[0]


def _named(units: Sequence[_Units]) -> list[LayerActivity]:
    names = Counter(own.name for own in units)
    calls: Counter[str] = Counter()
    found = []
    for own in units:
        name = own.name
        if names[name] > 1:
            name = f"{name}#{calls[name]}"
            calls[own.name] += 1
        if own.ever is not None and own.always is not None:
            found.append(LayerActivity(name, own.n_units, int((~own.ever).sum()), int(own.always.sum())))
    return found


def _differing(bits: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.bitwise_count(bits).sum(1, dtype=np.int64) + places.sum(1, dtype=np.int64)
