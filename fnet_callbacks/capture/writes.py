"""What passes over a model write to: found by following the operations of the first, remembered for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack


class Writes:
    """What passes over a model were seen to change, from one pass to the next.

    Until it is settled, passes are looked at closely: whatever can be reached is compared, and what is too large to be
    copied each time is copied when an operation is about to write to it. Afterwards only what was seen to change is.

    Attributes:
        is_settled: Whether what passes change is known.
        changed: What they changed, by ``id``.
    """

    def __init__(self) -> None:
        self.is_settled = False
        self.changed: dict[int, Any] = {}

    def settle(self) -> None:
        """The passes that were looked at closely are over."""
        self.is_settled = True


class CopyBeforeWrite(TorchDispatchMode):
    """Copies tensors when an operation of the block is about to write to their memory, through whichever view.

    Args:
        tensors: Dense ones; what is not written to is not copied.

    Attributes:
        copies: By ``id`` of the tensor, its content before the first write.
    """

    supports_higher_order_operators = True  # `torch.cond` and the like, whose parts come by one by one

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.copies: dict[int, Tensor] = {}
        self._of_storage: defaultdict[int, list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            self._of_storage[tensor.untyped_storage().data_ptr()].append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation of the block."""
        kwargs = kwargs or {}
        for place, name in _written_arguments(func):
            value = args[place] if place < len(args) else kwargs.get(name)
            for tensor in _tensors(value):
                self._keep(tensor)
        return func(*args, **kwargs)

    def _keep(self, written: Tensor) -> None:
        try:
            pointer = written.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):  # of a kind that has no storage of its own
            return
        for tensor in self._of_storage.pop(pointer, ()):
            self.copies[id(tensor)] = tensor.detach().clone()


@lru_cache(maxsize=4096)
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of the arguments that an operation writes to."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return ()
    return tuple(
        (i, a.name)
        for i, a in enumerate(schema.arguments)
        if a.alias_info is not None and a.alias_info.is_write
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (v for v in value if isinstance(v, Tensor))


def is_followed() -> bool:
    """Whether somebody follows the operations of this block, beside a `CopyBeforeWrite`."""
    return any(not isinstance(mode, CopyBeforeWrite) for mode in _get_current_dispatch_mode_stack())
