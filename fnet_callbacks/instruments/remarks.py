"""What a user should know of a choice before the first step: what is not measured, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch

from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.capture.trees import described
from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.quantity import Quantity


def remark(name: str, sentences: Iterable[str | None]) -> None:
    """Warns of all that there is to say, at once."""
    if said := [sentence for sentence in sentences if sentence]:
        warnings.warn(f"{name}: {'. '.join(said)}", FnetWarning, stacklevel=2)


def on_number(n_neurons: int, measures: Iterable[Quantity], graph: GraphSettings) -> str | None:
    """Whether there are fewer neurons than the measures of the whole network need."""
    if n_neurons < 2:
        return f"{n_neurons} neuron is watched, which has no network; watch more `layers`"
    n_tree = n_neurons - 1
    n_edges = max(n_tree, round(graph.rule.density * n_neurons * n_tree / 2))
    is_tree = graph.rule.method == "mst" and 2 * n_tree > n_edges
    missing = [quantity.name for quantity in measures if quantity.beyond_tree and is_tree]
    if not missing:
        return None
    need = "need" if len(missing) > 1 else "needs"
    return (
        f"{n_neurons} neurons are watched, fewer than {', '.join(missing)} {need}: at `density={graph.rule.density:g}` "
        f"the spanning tree is {n_tree} of {n_edges} edges, so that they are NaN. Watch more `layers`, or raise "
        "`density`"
    )


def on_labels(
    reader: BatchReader, probe: Probe, *, of_tokens: bool, output_shape: tuple[int, ...] | None
) -> str | None:
    """What the user's ``batch_to_labels`` gives and is not used, or hardly is one of a class.

    Args:
        reader: Has that function, or none.
        probe: The batches.
        of_tokens: Whether the instrument takes one label a token.
        output_shape: Of what the model returned for a batch; None where it is not known.
    """
    if reader.to_labels is None or not probe.batches:
        return None
    value = reader.to_labels(probe.batches[0])
    if value is None:
        return None
    gives = f"`batch_to_labels` gives {described(value)}"
    labels, by_token = reader.read(probe.batches[0])[1], reader.token_labels(probe.batches[0])
    wanted = "one integer a token" if of_tokens else "one integer an input"
    if of_tokens and labels is not None:
        return f"{gives}, one integer an input, which is not used with `samples='tokens'`: labels there are {wanted}"
    if labels is None and not (of_tokens and by_token is not None):
        other = "; one a token is for `samples='tokens'`" if by_token is not None else ""
        return f"{gives}, which is not used: labels are {wanted}, as many as there are{other}"
    if of_tokens:
        return None
    if probe.num_classes is None:
        return f"{gives}, which is not used: classes are integers from 0 to 9,999, in every batch"
    return _on_classes(reader, probe, output_shape)


def _on_classes(reader: BatchReader, probe: Probe, output_shape: tuple[int, ...] | None) -> str | None:
    """Whether labels look like the targets of a regression."""
    known = [labels for batch in probe.batches if (labels := reader.read(batch)[1]) is not None]
    n_classes, n = len(torch.cat(known).unique()), sum(map(len, known))
    one_output = output_shape is not None and output_shape[1:] in ((), (1,))
    if n_classes <= 2 or not (one_output or 2 * n_classes > n):
        return None
    beside = "the model returns one number an input" if one_output else "a class has hardly more than one"
    return (
        f"`batch_to_labels` gives {n_classes} different integers for {n} inputs, and {beside}; they are taken for "
        "classes. Let it return None where they are the targets of a regression"
    )
