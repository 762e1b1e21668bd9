"""Lightning's classes by either of its names: `pytorch_lightning` is the code of `lightning.pytorch` once more."""

from typing import Any


def is_a(value: Any, *kinds: type) -> bool:
    """Whether a value is of a class of ``lightning.pytorch``, or of the same class of ``pytorch_lightning``.

    The other package is not imported: it may not be installed.
    """
    twins = {
        (k.__module__.replace("lightning.pytorch", "pytorch_lightning", 1), k.__qualname__) for k in kinds
    }
    return isinstance(value, kinds) or any(
        (c.__module__, c.__qualname__) in twins for c in type(value).__mro__
    )
