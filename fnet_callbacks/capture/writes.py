"""What passes over a model write to: found by following the operations of the first, remembered for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any
from weakref import ref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

# Operations that write to running statistics, of which their schemas say nothing.
_WRITE_UNSAID = frozenset(f"aten::{of}_batch_norm" for of in ("native", "cudnn", "miopen"))


class Writes:
    """What passes over a model were seen to change, from one pass to the next.

    Until it is settled, passes are looked at closely: whatever can be reached is compared, and what is too large to be
    copied each time is copied when an operation is about to write to it. Afterwards only what was seen to change is.

    What changed is known by its place in the model, as training may put something new there between two passes.

    Attributes:
        is_settled: Whether what passes change is known.
    """

    def __init__(self) -> None:
        self.is_settled = False
        self._changed: dict[int, Callable[[], Any]] = {}

    def note(self, place: int, value: Any) -> None:
        """Remembers a place whose value a pass changed, and the value as long as somebody else holds it."""
        try:
            self._changed[place] = ref(value)
        except TypeError:  # lists and dicts, of which one a place is held
            self._changed[place] = lambda: value

    def __contains__(self, place: int) -> bool:
        """Whether passes change what stands at a place."""
        return place in self._changed

    def known(self) -> list[tuple[Any, int]]:
        """What was seen to change and is still there, and its place."""
        found = [(held(), place) for place, held in self._changed.items()]
        return [(value, place) for value, place in found if value is not None]

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
    if schema is None:
        return ()
    if schema.name in _WRITE_UNSAID:
        return (3, "running_mean"), (4, "running_var")
    if not schema.is_mutable:
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
