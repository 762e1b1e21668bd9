"""``fnet analyze``: what the groups of units of a finished model are for."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from fnet_callbacks.specialization.findings import LocalSpecializationResult

_WORDS = {
    "importance": "Important, in that accuracy falls further than with random units lesioned?",
    "coherence": "Coherent, in that the damage is spread over classes more unevenly?",
    "label_entropy": "Coherent, in that the ten inputs that activate a group most are of fewer classes?",
    "objective": "Coherent, in that an input made for a group activates it more?",
    "softmax_entropy": "Coherent, in that the network is surer of the class of that input?",
}


def analyze(asked: argparse.Namespace) -> int:
    """Partitions the units of a model from a checkpoint, lesions each group, and compares it with random groups."""
    from fnet_callbacks.capture.batches import as_getter, submodule
    from fnet_callbacks.cli.loading import labelled_batches, model_from
    from fnet_callbacks.specialization.local import local_specialization

    if asked.output is not None and not asked.output.absolute().parent.is_dir():
        raise FnetError(f"`output`: there is no folder {asked.output.absolute().parent}")
    module = model_from(asked.checkpoint, asked.module)
    found = local_specialization(
        submodule(module, asked.model),
        labelled_batches(asked.data, asked.batch_size, module),
        graph=asked.graph,
        k=asked.k or None,
        scope=asked.scope,
        partition=asked.partition,
        layers=asked.layers or "auto",
        max_samples=asked.samples,
        references=asked.references,
        shuffles=asked.shuffles,
        visualization_steps=asked.visualization_steps,
        signal=asked.signal,
        correlation=asked.correlation,
        replacement=asked.replacement,
        output_to_logits=as_getter(asked.output_to_logits, "output_to_logits"),
        batch_to_inputs=as_getter(asked.batch_to_inputs, "batch_to_inputs"),
        batch_to_labels=as_getter(asked.batch_to_labels, "batch_to_labels"),
        seed=asked.seed,
    )
    print(_told(found))
    if asked.output is not None:
        asked.output.write_text(
            json.dumps(_plain(dataclasses.asdict(found)), indent=1) + "\n", encoding="utf-8"
        )
        print(f"wrote {asked.output}")
    return 0


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    own = commands.add_parser(
        "analyze", help="what groups of units of a checkpoint are for", description=analyze.__doc__
    )
    add = own.add_argument
    add("checkpoint", type=Path, help="of Lightning, or a state_dict; loaded without running code from it")
    add(
        "--module",
        required=True,
        metavar="PKG:NAME",
        help="the LightningModule, or a function that builds the model",
    )
    add(
        "--data",
        required=True,
        metavar="PKG:NAME",
        help="a data module, loader, data set, or a function that gives one",
    )
    add("--model", metavar="NAME", help="submodule to call where the module has no forward")
    add("--batch-size", type=int, default=256, help="of a data set that has no loader (256)")
    add("--graph", choices=("weights", "activations"), default="weights", help="what is clustered (weights)")
    add("--scope", choices=("global", "local"), default="global", help="the whole network, or layer by layer")
    add(
        "--partition",
        choices=("louvain",),
        help="communities of the functional network in place of spectral clusters",
    )
    add("--k", type=int, default=16, help="clusters; 0 for as many as the eigengap says (16)")
    add("--layers", nargs="+", metavar="PATTERN", help="of modules; default: the nonlinearities")
    add("--samples", type=int, default=2048, help="the most that are used (2048)")
    add("--references", type=int, default=19, help="random groups beside each (19)")
    add("--shuffles", type=int, default=20, help="shuffled networks that n-cut is held against (20)")
    add(
        "--visualization-steps",
        type=int,
        default=0,
        help="of gradient ascent to an input for each group (none)",
    )
    add(
        "--signal",
        choices=("post", "pre"),
        default="post",
        help="what comes out of nonlinearities, or goes in",
    )
    add(
        "--correlation", choices=("spearman", "pearson"), default="spearman", help="of activations (spearman)"
    )
    add(
        "--replacement",
        choices=("zero", "mean", "resample"),
        default="zero",
        help="what lesioned units show (zero)",
    )
    for name, what in (
        ("output-to-logits", "from what the model returns to logits [S, C]"),
        ("batch-to-inputs", "from a batch to the model's inputs"),
        ("batch-to-labels", "from a batch to labels [S]"),
    ):
        add(f"--{name}", metavar="PKG.NAME", help=f"function {what}")
    add("--seed", type=int, default=0)
    add("-o", "--output", type=Path, metavar="FILE", help="write all of it there, as JSON")
    own.set_defaults(run=analyze)


def _told(found: LocalSpecializationResult) -> str:
    from fnet_callbacks.report.wording import number, probability
    from fnet_callbacks.specialization.findings import QUESTIONS

    lines = [
        f"{sum(found.n_units)} units in {len(found.layers)} layers; mean accuracy of classes "
        f"{number(float(_mean(found.accuracy.tolist())))}",
        f"n-cut {number(found.ncut)}"
        + (
            f", z {number(found.z_score)} (p {probability(found.p_value)}) against shuffled networks"
            if math.isfinite(found.z_score)
            else ""
        ),
        "",
    ]
    asked = [q for q in QUESTIONS if any(math.isfinite(getattr(s, q).p_value) for s in found.subclusters)]
    names = " | ".join(f"{q.replace('_', ' ')} p | effect" for q in asked)
    lines += [
        f"| layer | cluster | units | {names} |",
        f"| :--- | ---: | ---: |{' ---: | ---: |' * len(asked)}",
    ]
    for s in found.subclusters:
        tests = " | ".join(
            f"{probability(t.p_value)} | {number(t.effect)}" for t in (getattr(s, q) for q in asked)
        )
        lines.append(f"| {s.layer} | {s.cluster} | {len(s.units)} | {tests} |")
    lines.append("")
    for question in asked:
        test = getattr(found, question)
        least = sum(
            getattr(s, question).p_value <= 1 / (found.references + 1) + 1e-12 for s in found.subclusters
        )
        lines.append(
            f"{_WORDS[question]} p {probability(test.p_value)}, effect {number(test.effect)} "
            f"(1: as random groups, {'below' if question.endswith('entropy') else 'above'} 1 where it is so), "
            f"{least} of {len(found.subclusters)} groups beyond all their references"
        )
    if not found.subclusters:
        lines.append(
            "no cluster has two units or more of a layer without being all of it: nothing was tested"
        )
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan


def _plain(value: Any) -> Any:
    """As JSON has it; what is not finite as null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
