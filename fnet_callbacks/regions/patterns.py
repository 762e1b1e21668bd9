"""Activation patterns: on which piece each piecewise-linear unit is, packed into bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from fnet_callbacks.capture.batches import batch_size, call_model
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import Elementwise, Pieces

_ROUNDED = 0.01  # of the states, that may differ by rounding


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """Units of one piecewise-linear operation, each position of a channel one of its own.

    Attributes:
        name: Of the module that it is in, with ``#k`` for its k-th where there are several.
        n_units: Of them.
        dead: How many have slope 0 for all inputs: a ReLU that is never active.
        always_on: How many are on one piece for all inputs, and not of slope 0: a ReLU that is always active.
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
        n_breaks: Between their pieces: one of a ReLU, two of Hardtanh, and one of what takes the largest.
        outputs: What the model returned, by batch, or ``output_to_logits`` made of it.
    """

    bits: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    layers: Sequence[LayerActivity]
    n_units: int
    n_breaks: int
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
        """Number of breaks between each input and the one at its place in ``other``, at most ``n_breaks``; ``[S]``."""
        return _differing(self.bits ^ other.bits, self.places != other.places)

    def among(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The same, of each of some inputs and each of others, ``[len(rows), len(columns)]``."""
        return np.stack(
            [
                _differing(self.bits[columns] ^ self.bits[i], self.places[columns] != self.places[i])
                for i in rows.tolist()
            ]
        )


def activation_patterns(
    model: nn.Module, batches: Iterable[Any], *, output_to_logits: Callable[[Any], Any] | None = None
) -> Patterns:
    """The patterns of inputs in a model that is piecewise linear, by its modules and by its functional calls.

    A ReLU has two states, Hardtanh and ReLU6 have three, the states of max-pooling are its argmaxes. The caller sees to
    it that the model is in eval mode and that nothing it does lasts; see ``capture.isolation``.

    Args:
        model: The model.
        batches: Of inputs, see ``capture.batches.call_model``; their first floating-point tensor is what regions are
            of. Samples on the first axis.
        output_to_logits: What is done with what the model returns; it is followed too.

    Raises:
        CaptureError: The model is not piecewise linear, has no piecewise-linear unit, or what it makes of a sample
            depends on the others; the message names what is in the way.

    Cost: one forward pass without gradients, and half a batch twice; one bit a unit and sample, and the activations of
        a batch.
    """
    bits, places, outputs = [], [], []
    units: list[_Units] = []
    for inputs in batches:
        seen, output = _shown(model, inputs, output_to_logits)
        if not seen.units:
            raise CaptureError(
                f"{type(model).__name__} has no piecewise-linear unit that depends on the input: it is one affine map"
            )
        if not bits:
            _check_alone(model, inputs, output_to_logits, seen)
        outputs.append(output)
        bits.append(seen.packed())
        places.append(seen.chosen())
        units = [a.and_(b) for a, b in zip(units, seen.units, strict=True)] if units else seen.units
    if not bits:
        raise CaptureError("there are no inputs; there should be one batch at least")
    return Patterns(
        bits=np.concatenate(bits),
        places=np.concatenate(places),
        layers=_named(units),
        n_units=sum(own.n_units for own in units),
        n_breaks=sum(own.n_units * own.n_breaks for own in units),
        outputs=outputs,
    )


def _shown(model: nn.Module, inputs: Any, output_to_logits: Callable[[Any], Any] | None) -> tuple[_Seen, Any]:
    own = apply_to_collection(inputs, Tensor, torch.clone)  # the model may write into what it is given
    seen = _Seen(batch_size(own))
    follower = Follower(seen)
    with torch.no_grad(), follower.named(model), follower:
        follower.follow(_followed(own))
        output = call_model(model, own)
        return seen, output if output_to_logits is None else output_to_logits(output)


def _check_alone(model: nn.Module, inputs: Any, output_to_logits: Any, seen: _Seen) -> None:
    """Refuses a model that makes something else of half of the samples than of all of them."""
    n = batch_size(inputs)
    half = n // 2
    if not half:
        return
    some = apply_to_collection(inputs, Tensor, lambda t: t[:half] if t.dim() and len(t) == n else t)
    alone, _ = _shown(model, some, output_to_logits)
    # Rounding may differ with the number of samples: a unit at its break may be on either side of it.
    if [u.n_units for u in alone.units] != [u.n_units for u in seen.units] or alone.share_differing(
        seen
    ) > _ROUNDED:
        raise CaptureError(
            f"what {type(model).__name__} makes of a sample depends on the other samples, or its activations do not "
            "have the samples on their first axis"
        )


@dataclass(frozen=True, slots=True)
class _Units:
    """Those of one operation over some samples; tensors ``[U]``, None where there is no slope.

    Attributes:
        name: Of the module.
        n_units: U.
        n_breaks: Of each.
        ever: Which ever had a slope other than 0.
        first: The states of the first sample, by break.
        same: Which have had these for all samples.
    """

    name: str
    n_units: int
    n_breaks: int
    ever: Tensor | None = None
    first: Tensor | None = None
    same: Tensor | None = None

    def and_(self, other: _Units) -> _Units:
        """With more samples."""
        if self.ever is None or other.ever is None or self.same is None or other.same is None:
            return self
        assert self.first is not None
        assert other.first is not None
        same = self.same & other.same & (self.first == other.first).all(0)
        return replace(self, ever=self.ever | other.ever, same=same)


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
        units = _Units(name, first.shape[1], len(states))
        if isinstance(pieces, Elementwise):
            sloped = self._by_sample(pieces.sloped(), name)
            same = torch.stack([_any(state) != _any(~state) for state in states]).all(0)
            starts = torch.stack([state[0] for state in states])
            units = replace(units, ever=_any(sloped), first=starts, same=same)
        self.units.append(units)

    def share_differing(self, other: _Seen) -> float:
        """Of all states, among the samples that both have."""
        pairs = list(zip([*self._bits, *self._places], [*other._bits, *other._places], strict=True))
        n = min(self._n, other._n)
        different = sum(int((a[:n] != b[:n]).sum()) for a, b in pairs)
        return different / max(1, sum(a[:n].numel() for a, _ in pairs))

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
        if own.ever is not None and own.same is not None:
            always_on = int((own.same & own.ever).sum())
            found.append(LayerActivity(name, own.n_units, int((~own.ever).sum()), always_on))
    return found


def _any(states: Tensor) -> Tensor:
    """Which column has any that holds: a maximum of bytes is much faster than ``any`` along the first axis."""
    return states.view(torch.uint8).amax(0).bool()


def _differing(bits: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.bitwise_count(bits).sum(1, dtype=np.int64) + places.sum(1, dtype=np.int64)
