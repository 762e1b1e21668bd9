"""``fnet analyze``: what the groups of units of a finished model are for."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnet_callbacks.cli.options import add_options, options_of
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


def analyze(arguments: argparse.Namespace) -> int:
    """Partitions the units of a model from a checkpoint, lesions each group, and compares it with random groups."""
    from fnet_callbacks.capture.batches import submodule
    from fnet_callbacks.cli.loading import labelled_batches, model_from
    from fnet_callbacks.specialization.local import local_specialization

    output = arguments.output
    if output is not None and not output.absolute().parent.is_dir():
        raise FnetError(f"`output`: there is no folder {output.absolute().parent}")
    module = model_from(arguments.checkpoint, arguments.module)
    found = local_specialization(
        submodule(module, arguments.model),
        labelled_batches(arguments.data, arguments.batch_size, module),
        **options_of(arguments, local_specialization),
    )
    print(_summary(found))
    if output is not None:
        output.write_text(json.dumps(_plain(dataclasses.asdict(found)), indent=1) + "\n", encoding="utf-8")
        print(f"wrote {output}")
    return 0


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    own = commands.add_parser(
        "analyze",
        help="what groups of units of a checkpoint are for",
        description=analyze.__doc__,
        fill=_add_arguments,
    )
    own.set_defaults(run=analyze)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """What names the model and its data; all else are the arguments of the function."""
    from fnet_callbacks.specialization.local import local_specialization

    add = parser.add_argument
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
    add("--batch-size", type=int, default=256, help="of a data set that has no loader (default: 256)")
    add_options(parser, local_specialization)
    add("-o", "--output", type=Path, metavar="FILE", help="write all of it there, as JSON")


def _summary(found: LocalSpecializationResult) -> str:
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
    questions = [q for q in QUESTIONS if any(math.isfinite(getattr(s, q).p_value) for s in found.subclusters)]
    names = " | ".join(f"{q.replace('_', ' ')} p | effect" for q in questions)
    lines += [
        f"| layer | cluster | units | {names} |",
        f"| :--- | ---: | ---: |{' ---: | ---: |' * len(questions)}",
    ]
    for s in found.subclusters:
        tests = " | ".join(
            f"{probability(t.p_value)} | {number(t.effect)}" for t in (getattr(s, q) for q in questions)
        )
        lines.append(f"| {s.layer} | {s.cluster} | {len(s.units)} | {tests} |")
    lines.append("")
    for question in questions:
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
