"""Hooks on the watched layers, attached for a pass and gone after it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.calls import first_values
from fnet_callbacks.capture.hooks import LayerHooks
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.capture.units import draw_tokens, maxima_of_units, rows_of_units, samples_first
from fnet_callbacks.errors import CaptureError


class Watcher:
    """Collects the rows ``[S, N]`` that the nodes show in a forward pass.

    Args:
        module: The model that has the layers.
        layers: The watched activations, L.
        units: Of each layer the units that are nodes, L arrays.
        tokens_per_sample: Makes tokens the samples, up to so many of each input; None averages over them.
        maxima: Has, behind the means of a layer's units, their largest values too, where the layer has axes to reduce.
        seed: Of the draw of tokens.

    Use: ``with watcher.attached(): watcher.expect(n_samples); model(x); rows = watcher.rows()``.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[Layer],
        units: Sequence[np.ndarray],
        *,
        tokens_per_sample: int | None = None,
        maxima: bool = False,
        seed: int = 0,
    ) -> None:
        self.layers = list(layers)
        self._units = [torch.from_numpy(u) for u in units]
        self._module = module
        self._tokens_per_sample, self._maxima = tokens_per_sample, maxima
        self._seed = seed
        self._hooks = LayerHooks(module, self.layers)
        self.expect(0)

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return sum(len(u) for u in self._units)

    def expect(self, n_samples: int, *, mask: Tensor | None = None, batch_index: int = 0) -> None:
        """Forgets what was seen and announces a batch.

        Args:
            n_samples: Samples in it.
            mask: ``[S, T]``, True where there is a token.
            batch_index: Its place in the probe; the draw of tokens depends on it.
        """
        self._n_samples, self._mask, self._batch_index = n_samples, mask, batch_index
        self._positions: dict[tuple[int, int, int], Tensor] = {}
        self._hooks.begin_pass()
        self._rows: list[list[Tensor]] = [[] for _ in self.layers]
        self._failure: Exception | None = None

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Keeps the hooks on the model for the length of a block."""
        with self._hooks.attached(self._see):
            yield

    def rows(self) -> Tensor:
        """What the nodes showed since ``expect``, ``[S, N]``, nodes in the order of the layers.

        Raises:
            CaptureError: A layer was not called or changed its shape, or the layers do not share their
                samples. The pass itself, which may be a training step, went on.
        """
        parts = self.parts()
        widest = parts[0].dtype if len({p.dtype for p in parts}) == 1 else torch.float64
        return torch.cat([p.to(parts[0].device, widest) for p in parts], dim=1)

    def parts(self) -> list[Tensor]:
        """The same by layer, L arrays of S rows."""
        if self._failure is not None:
            raise self._failure
        seen = list(zip(self.layers, self._rows, strict=True))
        if silent := [layer.name for layer, rows in seen if not rows]:
            raise CaptureError(f"the hook on {', '.join(silent)} did not fire in this pass{self._cause()}")
        parts = [torch.cat(rows) for _, rows in seen]
        if len({len(p) for p in parts}) > 1 or len({key[1:] for key in self._positions}) > 1:
            found = ", ".join(f"{layer.name} {len(p)}" for layer, p in zip(self.layers, parts, strict=True))
            raise CaptureError(
                f"the watched layers do not share their samples (rows: {found}); choose with `layers` "
                "those that do"
            )
        return parts

    def _cause(self) -> str:
        """Why a hook may not fire, for an error; empty where nothing is known."""
        compiled = [
            name or "the model"
            for name, m in self._module.named_modules()
            if isinstance(m, torch._dynamo.OptimizedModule)
            or getattr(m, "_compiled_call_impl", None) is not None
        ]
        if not compiled:
            return ""
        return (
            f": {compiled[0]} is compiled by `torch.compile`, and compiled code passes by hooks that come later. "
            "Measure on the probe, where it runs as it was written, or compile it after the fit has begun"
        )

    def _see(self, place: int, value: Any) -> None:
        if self._failure is not None:
            return
        try:
            tensor, present = first_values(value)
            if tensor is not None:
                self._rows[place].append(self._reduce(tensor, present, place))
        except Exception as error:
            self._failure = error

    @torch.no_grad()
    def _reduce(self, activation: Tensor, present: Tensor | None, index: int) -> Tensor:
        self._units[index] = units = self._units[index].to(activation.device)
        if activation.is_quantized:
            activation = activation.dequantize()
        values = samples_first(activation, self.layers[index], n_samples=self._n_samples)
        if self._mask is not None and (present is None or _are_equal(self._mask, present)):
            present = self._mask = self._mask.to(values.device)
        if self._tokens_per_sample is not None:
            return rows_of_units(values, units, token_positions=self._token_positions(values, present))
        means = rows_of_units(values, units, mask=present)
        if not self._maxima or values.dim() == 2:
            return means
        return torch.cat([means, maxima_of_units(values, mask=present).index_select(1, units)], dim=1)

    def labels_of_rows(self, token_labels: Tensor) -> Tensor | None:
        """The labels of the tokens that are rows, of ``[S, T]``; None where there are other tokens than these."""
        positions = [p for key, p in self._positions.items() if key[:2] == tuple(token_labels.shape)]
        return token_labels.flatten()[positions[0].to(token_labels.device)] if positions else None

    def _token_positions(self, values: Tensor, present: Tensor | None) -> Tensor:
        """The same tokens for all layers of a pass."""
        shape = len(values), values.shape[1:-1].numel()
        if present is not None and present.shape != shape:
            present = None
        # Layers of which one shows padding, and another knows of it, share no tokens.
        is_packed = present is not None and present is not self._mask
        key = (*shape, hash(present.cpu().numpy().tobytes()) if is_packed and present is not None else 0)
        if key not in self._positions:
            self._positions[key] = draw_tokens(
                *shape,
                per_sample=self._tokens_per_sample or 1,
                mask=present,
                seed=(self._seed, self._batch_index),
            )
        return self._positions[key].to(values.device)


def _are_equal(mask: Tensor, other: Tensor) -> bool:
    return mask.shape == other.shape and torch.equal(mask.to(other.device), other)
