"""Which layers are watched, and how the axes of each one's activation are laid out."""

import fnmatch
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fnet_callbacks.arguments import some_names
from fnet_callbacks.capture.axes import (
    Signal,
    axes_of,
    is_complex,
    obstacle_of,
    samples_by_chance,
    shape_of,
    those_of_parts,
)
from fnet_callbacks.capture.calls import Call, record_calls
from fnet_callbacks.errors import CaptureError, FnetWarning

# That `layers="auto"` takes: each has keys, a share of the neurons, a place in the figures.
MAX_LAYERS = 256
_SHOWN = 4  # kinds of layers that a remark names


@dataclass(frozen=True, slots=True)
class Layer:
    """One watched activation: the output (or input) of one call of one module.

    Attributes:
        name: The module's name, with ``#k`` for its k-th call in a forward pass where there are several.
        module: The module's name as in ``named_modules``, for attaching a hook.
        call: Which call of the module in one forward pass, from 0.
        n_calls: How often the module is called in one forward pass.
        takes_input: Whether the module's input is watched (the pre-activation) and not its output.
        batch_axis: The axis of the samples.
        unit_axis: The axis of the units.
        n_units: Length of the unit axis.
        is_folded: Whether the samples' axis holds the tokens too, those of a sample side by side.
    """

    name: str
    module: str
    call: int
    n_calls: int
    takes_input: bool
    batch_axis: int
    unit_axis: int
    n_units: int
    is_folded: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The watched activations, and what there is to say of it: which others ``"auto"`` left out, and why."""

    layers: list[Layer]
    remark: str | None


def plain_name(name: str) -> str:
    """A module's name without what ``torch.compile`` puts into it."""
    return name.replace("_orig_mod.", "").removesuffix("._orig_mod")


def module_of(model: nn.Module, name: str) -> nn.Module:
    """The module of a name in ``named_modules``, also where ``setattr`` gave it a name with dots.

    Raises:
        CaptureError: The model has none of that name any more.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        for found, module in model.named_modules():
            if found == name:
                return module
    raise CaptureError(f"{name} was watched from the start and is not in the model any more")


def inside(layers: str | Sequence[str], model: str | None) -> str | Sequence[str]:
    """Patterns over names in a module as those over names in its submodule ``model``, where that is what is called."""
    if model is None or not isinstance(layers, (str, list, tuple)):
        return layers
    prefix = f"{model}."
    return (
        layers.removeprefix(prefix) if isinstance(layers, str) else [n.removeprefix(prefix) for n in layers]
    )


def choose_layers(
    module: nn.Module,
    run: Callable[[Any], object],
    inputs: Any,
    *,
    n_samples: int,
    layers: str | Sequence[str] = "auto",
    signal: Signal = "post",
    may_repeat: bool = True,
) -> list[Layer]:
    """What `look_for_layers` finds, with a warning where ``"auto"`` left something out."""
    choice = look_for_layers(
        module, run, inputs, n_samples=n_samples, layers=layers, signal=signal, may_repeat=may_repeat
    )
    if choice.remark is not None:
        warnings.warn(choice.remark, FnetWarning, stacklevel=2)
    return choice.layers


def look_for_layers(
    module: nn.Module,
    run: Callable[[Any], object],
    inputs: Any,
    *,
    n_samples: int,
    layers: str | Sequence[str] = "auto",
    signal: Signal = "post",
    may_repeat: bool = True,
) -> Choice:
    """Runs the model once and says which activations are watched.

    Args:
        module: The model whose submodules are hooked.
        run: A forward pass, on what it is called with; inside the caller's isolation.
        inputs: Of a batch.
        n_samples: Samples in that batch; tells the batch axis.
        layers: ``"auto"`` takes the outputs of nonlinearity and recurrent modules (torch's, and those without weights
            that are called like a nonlinearity), where there are none those of parametric modules; what comes at or
            after the last parametric module (the output head) is left out, unless it is all there is; of more than 256
            layers 256, evenly spaced. Or glob patterns over module names; of nested matches the innermost counts, a
            name without wildcards is taken as it is.
        signal: ``"post"`` watches outputs; ``"pre"`` the input of each nonlinearity, before an in-place one
            changes it.
        may_repeat: Whether ``"auto"`` may make a second pass, on half the batch, which tells an axis of samples from
            one that is as long by chance; not where a pass is one of all ranks together.

    Returns:
        The watched activations in the order in which they were computed. The remark is there where ``"auto"`` left
        out a nonlinearity, a recurrent or, where it takes these, a parametric module in which no axis has the samples,
        where only the head of a larger model is left, and where there were too many.

    Raises:
        CaptureError: A pattern matches nothing, a matched module never ran or returns no tensor, or an
            activation has no axis of samples.

    Reference: post-activation as in Zhang et al. (arXiv 2205.11702), pre-activation as in Hod et al.
        (2110.08058).
    Cost: one forward pass; with ``"auto"`` half a pass more.
    """
    if signal not in ("post", "pre"):
        raise CaptureError(f"`signal={signal!r}` should be 'post' or 'pre'")
    calls = record_calls(module, lambda: run(inputs))
    remarks: list[str] = []
    of_parts = those_of_parts(calls, inputs, signal, n_samples)
    if layers == "auto":
        by_chance = samples_by_chance(module, run, inputs, calls, signal, n_samples) if may_repeat else set()
        by_chance |= of_parts
        chosen, left_out = _automatic(calls, signal, n_samples, by_chance)
        remarks += _remarks(module, calls, chosen, left_out, signal, n_samples)
        if len(chosen) > MAX_LAYERS:
            remarks.append(
                f"finds {len(chosen)} layers and takes {MAX_LAYERS} of them, evenly spaced; name others"
            )
            chosen = [chosen[i * len(chosen) // MAX_LAYERS] for i in range(MAX_LAYERS)]
    else:
        chosen = _matching(module, calls, layers)
        if parted := [c for c in chosen if (c.module, c.call) in of_parts]:
            raise CaptureError(
                f"`layers`: {_names(parted)} has shape {list(shape_of(parted[0], signal) or ())}, one row a part of a "
                f"sample, such as a node of a graph, of which the {n_samples} samples have unlike numbers"
            )
    if not chosen:
        why = "".join(f". It {remark}" for remark in remarks)
        raise CaptureError(
            f"`layers={layers!r}` leaves nothing to watch; modules that ran: {_names(calls)}. A hook does "
            f"not fire on a module whose `forward` is bypassed by functional calls{_scripted(module)}{why}"
        )
    counts = Counter(c.module for c in calls)
    said = [f"`layers='auto'` {'; it '.join(remarks)}"] if remarks else []
    if moduli := list(dict.fromkeys(plain_name(c.module) for c in chosen if is_complex(c, signal))):
        said.append(f"the values of {', '.join(moduli)} are complex, of which the modulus is taken")
    return Choice(
        [_layer(c, n_calls=counts[c.module], signal=signal, n_samples=n_samples) for c in chosen],
        ". ".join(said) or None,
    )


def _automatic(
    calls: list[Call], signal: Signal, n_samples: int, by_chance: Collection[tuple[str, int]]
) -> tuple[list[Call], list[Call]]:
    """The nonlinearities before the head, else the parametric modules before it, else the head itself.

    And those of the same kinds, before the head, in which the samples are not seen. What only looks places up, such
    as an embedding of positions, is not of the samples and not missed.
    """
    head = max((i for i, c in enumerate(calls) if c.is_parametric), default=len(calls))

    def is_usable(call: Call) -> bool:
        axes = axes_of(call, shape_of(call, signal), n_samples)
        return axes is not None and (call.module, call.call) not in by_chance

    hidden = calls[:head]
    active = [c for c in hidden if c.is_nonlinearity or c.is_recurrent]
    if found := [c for c in active if is_usable(c)]:
        return found, [c for c in active if not is_usable(c)]
    candidates = [c for c in hidden if c in active or (c.is_parametric and not c.is_lookup)]
    left_out = [c for c in candidates if not is_usable(c)]
    found = [c for c in hidden if c.is_parametric and is_usable(c)]
    return found or [c for c in calls if c.is_parametric and is_usable(c)], left_out


def _remarks(
    module: nn.Module,
    calls: list[Call],
    chosen: list[Call],
    left_out: list[Call],
    signal: Signal,
    n_samples: int,
) -> list[str]:
    """What is to be said of an automatic choice, each behind "`layers='auto'`"."""
    found = []
    reasons: dict[str, list[str]] = {}
    for call in left_out:
        shape = shape_of(call, signal)
        if (obstacle := obstacle_of(call, signal)) is not None:
            reason = obstacle
        elif shape is None:
            reason = "gives no tensor"
        elif axes_of(call, shape, n_samples) is None:
            reason = f"of shape {list(shape)}"
        else:
            reason = f"of shape {list(shape)}, as long as the batch by chance"
        reasons.setdefault(reason, []).append(plain_name(call.module))
    if reasons:
        shown = [
            f"{', '.join(dict.fromkeys(names))} ({why})" for why, names in list(reasons.items())[:_SHOWN]
        ]
        more = f" and {len(reasons) - _SHOWN} more kinds" if len(reasons) > _SHOWN else ""
        found.append(
            f"leaves out {', '.join(shown)}{more}, where no axis has the {n_samples} samples of the batch"
        )
    head = next((c for c in reversed(calls) if c.is_parametric), None)
    if chosen and head is not None and all(c.module == head.module for c in chosen):
        own = {id(p) for p in module_of(module, head.module).parameters()}
        if any(id(p) not in own for p in module.parameters()):
            found.append(f"watches only the output head, {plain_name(head.module)}")
    if found:
        found[-1] += "; name what to watch"
    return found


def _matching(module: nn.Module, calls: list[Call], layers: str | Sequence[str]) -> list[Call]:
    patterns = [layers] if isinstance(layers, str) else list(layers)
    # Of a compiled module and its wrapper, which have one plain name, the module itself comes last.
    names = {plain_name(name): name for name, _ in module.named_modules() if name}
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {n for n in names if fnmatch.fnmatchcase(n, pattern)}
        if not matches:
            raise CaptureError(
                f"`layers`: {pattern!r} matches no module; there are: {some_names(names, like=pattern)}"
            )
        if pattern not in names:
            matches = {n for n in matches if not any(other.startswith(n + ".") for other in matches)}
        chosen |= matches
    found = [c for c in calls if c.module in {names[n] for n in chosen}]
    if idle := sorted(chosen - {plain_name(c.module) for c in found}):
        raise CaptureError(
            f"`layers`: the hook on {', '.join(idle)} never fires; the module's `forward` is not called in a "
            f"forward pass of the model. Modules that ran: {_names(calls)}{_scripted(module)}"
        )
    return found


def _scripted(module: nn.Module) -> str:
    """What is scripted or traced, for an error; empty where nothing is."""
    found = [
        name or "the model itself"
        for name, m in module.named_modules()
        if isinstance(m, torch.jit.ScriptModule)
    ]
    if not found:
        return ""
    return f". Scripted or traced by torch.jit, which takes no hooks: {found[0]}; pass the model as it was before"


def _names(calls: list[Call]) -> str:
    return some_names(sorted({plain_name(c.module) for c in calls}))


def _layer(call: Call, *, n_calls: int, signal: Signal, n_samples: int) -> Layer:
    shape = shape_of(call, signal)
    name = plain_name(call.module) + (f"#{call.call}" if n_calls > 1 else "")
    if (obstacle := obstacle_of(call, signal)) is not None:
        raise CaptureError(f"`layers`: {name} cannot be watched: it is {obstacle}; choose another")
    if shape is None:
        raise CaptureError(
            f"`layers`: {name} gives no tensor; choose a module that returns one, or a tuple whose first is"
        )
    if (axes := axes_of(call, shape, n_samples)) is None:
        raise CaptureError(
            f"`layers`: {name} has shape {list(shape)}, in which no axis has the batch's {n_samples} samples"
        )
    batch_axis, unit_axis, is_folded = axes
    return Layer(
        name=name,
        module=call.module,
        call=call.call,
        n_calls=n_calls,
        takes_input=signal == "pre" and call.is_nonlinearity,
        batch_axis=batch_axis,
        unit_axis=unit_axis,
        n_units=shape[unit_axis],
        is_folded=is_folded,
    )
