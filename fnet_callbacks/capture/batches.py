"""What a batch holds and how a model is called with it."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fnet_callbacks.arguments import plain, refused, some_names
from fnet_callbacks.capture.trees import described, is_list, is_record, tensors_in
from fnet_callbacks.errors import CaptureError, FnetError

LABEL_KEYS = ("labels", "label", "targets", "target", "y")
INPUT_KEYS = ("inputs", "input", "x", "image", "images", "pixel_values", "input_ids", "features", "data")
MASK_KEY = "attention_mask"
# What torch says where a module lacks `forward`, by arguments and by keywords; an operator that is not
# implemented says something else.
_NO_FORWARD = ('missing the required "forward"', "_forward_unimplemented()")


def resolve(function: Callable[[Any], Any] | str | None, argument: str) -> Callable[[Any], Any] | None:
    """A callable from itself or from its dotted path, as YAML carries it."""
    if function is None or callable(function):
        return function
    function = plain(argument, function)
    if not isinstance(function, str):
        raise refused(argument, function, "a function, or its dotted path")
    path, _, attribute = function.rpartition(".")
    try:
        found = getattr(importlib.import_module(path), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise FnetError(f"`{argument}={function!r}` is no importable 'package.module.function'") from error
    if not callable(found):
        raise FnetError(f"`{argument}={function!r}` names a {type(found).__name__}; it should be a function")
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """Takes one entry of a batch or of a model's output: by its key or place, or the attribute of that name."""

    key: str | int
    argument: str

    def __call__(self, whole: Any) -> Any:
        """The entry.

        Raises:
            FnetError: There is none.
        """
        if not isinstance(whole, Tensor):  # whose entries are samples
            try:
                return whole[self.key]
            except (LookupError, TypeError):
                if isinstance(self.key, str) and hasattr(whole, self.key):
                    return getattr(whole, self.key)
        raise FnetError(f"`{self.argument}={self.key!r}` is no entry of a {described(whole)}")


def as_getter(value: Callable[[Any], Any] | str | int | None, argument: str) -> Callable[[Any], Any] | None:
    """A callable from itself, from its dotted path, or from the key or the place of an entry.

    Raises:
        FnetError: It is none of these, or cannot be imported.
    """
    key = value if value is None or callable(value) else plain(argument, value)
    is_entry = (isinstance(key, int) and not isinstance(key, bool)) or (
        isinstance(key, str) and key != "" and "." not in key
    )
    return Entry(key, argument) if is_entry else resolve(value, argument)  # type: ignore[arg-type]


def path_of(function: Callable[..., Any] | None) -> str | int | None:
    """What ``as_getter`` makes a callable of, where it can be imported; None for none."""
    if function is None:
        return None
    if isinstance(function, Entry):
        return function.key
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def batch_inputs(batch: Any) -> Any:
    """The model's inputs in a batch: itself, the first of a tuple, or what a mapping or dataclass has beside labels."""
    if is_record(batch) and not isinstance(batch, Mapping):
        batch = fields_of(batch)
    if isinstance(batch, Mapping):
        return {k: v for k, v in batch.items() if k not in LABEL_KEYS}
    if is_list(batch) and len(batch):
        return batch[0]
    return batch


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def holds_tensor(data: Any) -> bool:
    """Whether there is a tensor with an axis of samples anywhere in ``data``."""
    return bool(tensors_in(data))


def batch_labels(batch: Any) -> Tensor | None:
    """The labels in a batch: the second of a tuple, or a mapping's ``labels`` (see ``LABEL_KEYS``).

    Only one integer a sample counts as a label; anything else (regression targets, masks) gives None.
    """
    return as_labels(label_in(batch))


def label_in(batch: Any) -> Any:
    """What stands where labels do, in a batch or in an item; None where there is nothing."""
    if isinstance(batch, Mapping):
        return next((batch[k] for k in LABEL_KEYS if k in batch), None)
    if is_list(batch):
        return batch[1] if len(batch) > 1 else None
    if isinstance(batch, Tensor):
        return None
    own = getattr(batch, "__dict__", {}) or (fields_of(batch) if is_record(batch) else {})
    return next((own[k] for k in LABEL_KEYS if k in own), None)


def as_labels(value: Any) -> Tensor | None:
    """``value`` as an int64 vector where it is one integer a sample, else None."""
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex():
        return None
    if value.dim() == 2 and value.shape[1] == 1:
        value = value[:, 0]
    return value.long() if value.dim() == 1 else None


def as_token_labels(value: Any) -> Tensor | None:
    """``value`` as int64 ``[S, T]`` where it is one integer a token, or a pixel, else None."""
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex() or value.dim() < 2:
        return None
    flat = value.flatten(1)
    return flat.long() if flat.shape[1] > 1 else None


def batch_size(inputs: Any, labels: Tensor | None = None) -> int:
    """Number of samples S: that of the labels, else the first axis of the first tensor."""
    return len(labels) if labels is not None else len(tensors_in(inputs)[0])


def logits_of(output: Any, output_to_logits: Callable[[Any], Any] | None) -> Tensor:
    """The logits in a model's output, float32 at least.

    Args:
        output: What the model returned.
        output_to_logits: From it to the logits; None where it is the logits.

    Raises:
        FnetError: The output is no tensor and ``output_to_logits`` was not given, or gave none.
    """
    logits = output_to_logits(output) if output_to_logits else output
    if not isinstance(logits, Tensor):
        if output_to_logits:
            raise FnetError(
                f"`output_to_logits` gives a {type(logits).__name__}; it should give the logits [S, C], one tensor"
            )
        raise FnetError(
            f"the model returns a {type(output).__name__}; pass `output_to_logits`, a function from what it returns "
            "to the logits [S, C]"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def token_mask(inputs: Any) -> Tensor | None:
    """The padding mask ``[S, T]`` of a mapping of inputs, True where there is a token; None without one."""
    if type(inputs) is tuple and len(inputs) == 1:  # a mapping that is the one argument
        inputs = inputs[0]
    mask = inputs.get(MASK_KEY) if isinstance(inputs, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def submodule(module: nn.Module, path: str | None) -> nn.Module:
    """The part of ``module`` that is called for a forward pass.

    Raises:
        CaptureError: ``path`` names no submodule.
    """
    if path is None:
        return module
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        names = [name for name, _ in module.named_modules() if name]
        raise CaptureError(
            f"`model={path!r}` is no submodule; there are: {some_names(names, like=path)}"
        ) from error


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Calls the model: a tensor as the argument, a tuple as arguments, a mapping by what ``forward`` takes.

    A mapping is unpacked as keywords where ``forward`` takes its keys; else the entry that looks like the
    input is passed (see ``INPUT_KEYS``); else, where ``forward`` has one parameter, the mapping itself. A tuple is
    taken as it stands: ``(mapping,)`` passes a mapping, ``(samples,)`` a list.

    Raises:
        CaptureError: The model has no ``forward``, or ``forward`` does not take the inputs.
    """
    signature = inspect.signature(model.forward)
    arguments, keywords = arguments_of(signature, inputs)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        given = (
            f"keys {sorted(map(str, inputs))}" if isinstance(inputs, Mapping) else f"{len(arguments)} inputs"
        )
        raise CaptureError(
            f"{type(model).__name__}.forward{signature} does not take the batch's {given} ({error}): it would be "
            f"called with {shown_call(arguments, keywords)}; pass `batch_to_inputs`, a function from your batch to "
            "what the model is called with: a tensor, a tuple of arguments (such as `(batch,)`), or keywords"
        ) from error
    try:
        return model(*arguments, **keywords)
    except (NotImplementedError, TypeError) as error:
        if not any(said in str(error) for said in _NO_FORWARD):
            raise
        sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
        largest = max(sizes, key=lambda name: sizes[name], default="net")
        raise CaptureError(
            f"{type(model).__name__} has no `forward`; pass the submodule that is called instead (to a monitor its "
            f"name), such as `model={largest!r}`; there are: {some_names(sizes)}"
        ) from error


def shown_call(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """What ``forward`` is called with, for a message."""
    shown = [*map(described, arguments), *(f"{name}={described(value)}" for name, value in keywords.items())]
    return f"({', '.join(shown)})"


def arguments_of(signature: inspect.Signature, inputs: Any) -> tuple[Sequence[Any], dict[str, Any]]:
    """Arguments and keywords that ``forward`` is called with; see `call_model`."""
    if isinstance(inputs, Mapping):
        return _arguments_of_mapping(signature, inputs)
    several = isinstance(inputs, (tuple, list)) and not isinstance(inputs, PackedSequence)
    return inputs if several else (inputs,), {}


def _arguments_of_mapping(
    signature: inspect.Signature, inputs: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    parameters = signature.parameters.values()
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    required = {name for name, p in named.items() if p.default is p.empty}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    wanted = dict(inputs) if takes_any else {k: v for k, v in inputs.items() if k in named}
    if (wanted and required <= set(wanted)) or len(required) > 1:
        return (), wanted
    key = next((k for k in INPUT_KEYS if k in inputs), None)
    return (inputs if key is None else inputs[key],), {}
