"""Hooks on the watched layers, attached for a pass and gone after it."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.layers import Layer, first_tensor
from fnet_callbacks.capture.units import draw_tokens, rows_of_units
from fnet_callbacks.errors import CaptureError


class Watcher:
    """Collects the rows ``[S, N]`` that the nodes show in a forward pass.

    Args:
        module: The model that has the layers.
        layers: The watched activations, L.
        units: Of each layer the units that are nodes, L arrays.
        tokens_per_sample: Makes tokens the samples, up to so many of each input; None averages over them.
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
        seed: int = 0,
    ) -> None:
        self.layers = list(layers)
        self._units = [torch.from_numpy(u) for u in units]
        self._module = module
        self._tokens_per_sample = tokens_per_sample
        self._seed = seed
        self._of_module: dict[str, list[int]] = defaultdict(list)
        for i, layer in enumerate(self.layers):
            self._of_module[layer.module].append(i)
        self._calls_a_pass = {name: 1 + max(self.layers[i].call for i in found) for name, found in self._of_module.items()}
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
        self._positions: dict[int, Tensor] = {}
        self._seen: Counter[str] = Counter()
        self._rows: list[list[Tensor]] = [[] for _ in self.layers]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Keeps the hooks on the model for the length of a block."""
        handles = [self._attach(self._module.get_submodule(name), name) for name in self._of_module]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def rows(self) -> Tensor:
        """What the nodes showed since ``expect``, ``[S, N]``, nodes in the order of the layers.

        Raises:
            CaptureError: A layer was not called, or the layers do not share their samples.
        """
        if silent := [layer.name for layer, rows in zip(self.layers, self._rows, strict=True) if not rows]:
            raise CaptureError(f"the hook on {', '.join(silent)} did not fire in this pass")
        parts = [torch.cat(rows) if len(rows) > 1 else rows[0] for rows in self._rows]
        if len({len(p) for p in parts}) > 1:
            found = ", ".join(f"{layer.name} {len(p)}" for layer, p in zip(self.layers, parts, strict=True))
            raise CaptureError(
                f"the watched layers do not share their samples (rows: {found}); choose with `layers` those that do"
            )
        widest = parts[0].dtype if len({p.dtype for p in parts}) == 1 else torch.float64
        return torch.cat([p.to(parts[0].device, widest) for p in parts], dim=1)

    def _attach(self, module: nn.Module, name: str) -> Any:
        indices = self._of_module[name]
        takes_input = self.layers[indices[0]].takes_input
        see = self._on_call(name, indices)
        if takes_input:
            return module.register_forward_pre_hook(lambda _, arguments: see(arguments))
        return module.register_forward_hook(lambda _, __, output: see(output))

    def _on_call(self, name: str, indices: list[int]) -> Callable[[Any], None]:
        by_call = {self.layers[i].call: i for i in indices}

        def see(value: Any) -> None:
            call = self._seen[name] % self._calls_a_pass[name]
            self._seen[name] += 1
            tensor = first_tensor(value)
            if call in by_call and tensor is not None:
                self._rows[by_call[call]].append(self._reduce(tensor, by_call[call]))

        return see

    def _reduce(self, activation: Tensor, index: int) -> Tensor:
        layer = self.layers[index]
        units = self._units[index].to(activation.device)
        self._units[index] = units
        with torch.no_grad():
            return rows_of_units(
                activation,
                layer,
                units,
                n_samples=self._n_samples,
                mask=self._mask,
                token_positions=self._token_positions(activation, layer),
            )

    def _token_positions(self, activation: Tensor, layer: Layer) -> Tensor | None:
        if self._tokens_per_sample is None:
            return None
        n_tokens = activation.numel() // (self._n_samples * layer.n_units)
        if n_tokens not in self._positions:
            self._positions[n_tokens] = draw_tokens(
                self._n_samples,
                n_tokens,
                per_sample=self._tokens_per_sample,
                mask=self._mask,
                seed=(self._seed, self._batch_index),
            ).to(activation.device)
        return self._positions[n_tokens]
