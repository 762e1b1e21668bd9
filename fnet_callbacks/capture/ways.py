"""How a model may be called with a batch: by what the batch is made of and what ``forward`` takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from fnet_callbacks.capture.trees import is_list, is_record

# What becomes of what is found in a batch: it is taken as `call_model` has it, it is the one argument, or the batch
# itself is.
Way = Literal["usual", "whole", "batch"]


def signature_of(model: nn.Module) -> inspect.Signature | None:
    """The parameters of a model's ``forward``; None where they cannot be known."""
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def ways_of_given(signature: inspect.Signature | None, found: Any) -> list[Way]:
    """How a model is called with what the user's function gave: no entry of it is picked out.

    A mapping is the keywords or the one argument; so is a list, where ``forward`` takes one.
    """
    if signature is None:
        return ["usual"]
    if isinstance(found, Mapping):
        if not _fits_keywords(signature, found):
            return ["whole"] if _binds_one(signature) else ["usual"]
        has_more = _is_of_one(signature) and len(found) > 1
        return ["whole", "usual"] if has_more else ["usual", "whole"]
    return ["whole"] if isinstance(found, list) and _takes_one(signature) else ["usual"]


def ways_of_batch(signature: inspect.Signature | None, batch: Any, found: Any, n: int | None) -> list[Way]:
    """How a model may be called with a batch of which nothing was said, the likeliest way first.

    Args:
        signature: Of ``forward``; None where it is not known.
        batch: The batch.
        found: What stands where inputs do.
        n: How many items were put together in it, where that is known.
    """
    if signature is None:
        return ["usual"]
    as_it_is: list[Way] = ["batch"] if _binds_one(signature) else []
    if isinstance(batch, Mapping) or is_record(batch):
        is_by_name = _fits_keywords(signature, found) and not _is_of_one(signature)
        return ["usual", *as_it_is] if is_by_name or not _takes_one(signature) else [*as_it_is, "usual"]
    if found is batch:
        return ["usual"]
    if _is_of_samples(batch, n):
        return [*as_it_is, "usual"]
    if _takes_one(signature) and next(iter(signature.parameters)) == "batch":
        return ["batch", *_ways_of_first(signature, found, n)]
    return [*_ways_of_first(signature, found, n), *(as_it_is if _takes_one(signature) else [])]


def _ways_of_first(signature: inspect.Signature, found: Any, n: int | None) -> list[Way]:
    """How a model may be called with the first part of a batch."""
    if isinstance(found, Mapping):
        is_by_name = _fits_keywords(signature, found) and not _is_of_one(signature)
        return ["usual", "whole"] if is_by_name or not _takes_one(signature) else ["whole", "usual"]
    if not is_list(found) or not len(found):
        return ["usual"]
    if _is_of_samples(found, n):
        return ["whole", "usual"]
    is_of_inputs = n is not None and len(found) != n and {length(part) for part in found} == {n}
    return ["usual", "whole"] if is_of_inputs or not _takes_one(signature) else ["whole", "usual"]


def _is_of_samples(parts: Any, n: int | None) -> bool:
    """Whether it is a list of ``n`` samples, and not of that many inputs, or of inputs and labels, of ``n`` each."""
    if not isinstance(parts, (list, tuple)) or len(parts) != n or hasattr(parts, "_fields"):
        return False
    if all(isinstance(part, (Mapping, tuple, list)) or is_record(part) for part in parts):
        return len({type(part) for part in parts}) == 1 and not all(length(part) == n for part in parts)
    return all(isinstance(part, Tensor) for part in parts) and {length(part) for part in parts} != {n}


def length(value: Any) -> int | None:
    """How many samples a part of a batch has, by itself; None where it has no length."""
    if isinstance(value, Tensor):
        return len(value) if value.dim() else None
    return len(value) if is_list(value) else None


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in signature.parameters.values() if p.kind in kinds]


def _is_of_one(signature: inspect.Signature) -> bool:
    """Whether there is one parameter, beside any keywords."""
    rest = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return len(rest) == len(_positional(signature)) == 1


def _takes_one(signature: inspect.Signature) -> bool:
    """Whether it is meant to be called with one argument: it needs no second, and takes no number of them."""
    kinds = {p.kind for p in signature.parameters.values()}
    needed = [p for p in _positional(signature) if p.default is p.empty]
    is_one = len(needed) == 1 or (not needed and len(_positional(signature)) == 1)
    return is_one and inspect.Parameter.VAR_POSITIONAL not in kinds and _binds_one(signature)


def _binds_one(signature: inspect.Signature) -> bool:
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _fits_keywords(signature: inspect.Signature, keywords: Mapping[Any, Any]) -> bool:
    """Whether ``forward`` can be called with those of the keywords that it knows."""
    named = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    known = [p.name for p in named if p.name in keywords]
    return all(p.name in keywords for p in named if p.default is p.empty) and (bool(known) or takes_any)
