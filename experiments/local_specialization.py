"""Are the groups into which a network falls important, and coherent? After Hod et al. (2021, arXiv:2110.08058).

    python -m experiments.local_specialization --data-dir DATA

An MLP of four layers of 256 and a small CNN are trained on Fashion-MNIST without a regularisation, with dropout and
with an L1 penalty, five seeds each. The units of each are clustered into 16 by the weights and by the activations, over
the whole network and layer by layer, and each group is compared with 19 random ones of its size: in what its lesion
costs (importance) and how unevenly over classes (coherence), in the labels of the inputs that activate it most, and in
how sure the network is of the class of an input made for it. Printed for each: the share of the groups whose p is 0.05,
the least that 19 references can give (by chance one in twenty), the mean effect (1: as random groups), the seeds'
Fisher p-values combined by Bates' distribution, bold where at most one in twenty of all such findings in the table is
expected to be false (Benjamini & Hochberg), and n-cut's z against networks whose weights are permuted within layers.
What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import lightning as L
import numpy as np
import torch

from experiments.data import DataModule
from experiments.models import Classifier
from fnet_callbacks import FnetError, local_specialization
from fnet_callbacks import functional as F
from fnet_callbacks.compare.comparison import ALPHA
from fnet_callbacks.compare.effects import false_discovery_rate
from fnet_callbacks.report.wording import number, probability
from fnet_callbacks.specialization.local import ClusterScope, Kind

MODELS = {"mlp": [256, 256, 256, 256], "cnn": [32, 64, 128]}
REGULARIZERS = ("none", "dropout", "l1")
GRAPHS, SCOPES = get_args(Kind), get_args(ClusterScope)
QUESTIONS = ("importance", "coherence", "label_entropy", "softmax_entropy")
SHUFFLES = 20
STEPS = 64  # of gradient ascent, as in the paper


@dataclass(frozen=True, slots=True)
class Case:
    """One network."""

    model: str
    regularizer: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.model}-{self.regularizer}-{self.seed}"


def trained(case: Case, data: DataModule, out: Path, *, epochs: int) -> Classifier:
    """The network, trained unless it is there."""
    L.seed_everything(case.seed, verbose=False)
    module = Classifier(
        case.model,  # type: ignore[arg-type]
        MODELS[case.model],
        case.regularizer,
        activation="relu",
        lr=1e-3,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
    )
    path = out / f"{case.name}-{data.dataset}-{data.train_size}-{epochs}.pt"
    if path.is_file():
        module.load_state_dict(torch.load(path, weights_only=True))
        return module
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, data.train_dataloader())
    torch.save(module.state_dict(), beside := path.with_suffix(".part"))
    beside.replace(path)
    return module


def found_in(case: Case, data: DataModule, out: Path, *, epochs: int, k: int, samples: int) -> dict[str, Any]:
    """What `local_specialization` says of a network, by graph and scope; kept as JSON."""
    path = out / f"{case.name}.json"
    options = {
        **{"dataset": data.dataset, "train_size": data.train_size, "epochs": epochs},
        **{"k": k, "samples": samples, "steps": STEPS, "shuffles": SHUFFLES},
    }
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["options"] != options:
            raise FnetError(
                f"`out`: {path} was made with {kept['options']}, not {options}; take another folder"
            )
        return kept["found"]
    module = trained(case, data, out, epochs=epochs)
    found: dict[str, Any] = {}
    for graph in GRAPHS:
        for scope in SCOPES:
            made = local_specialization(
                module,
                data.val_dataloader(),
                graph=graph,
                scope=scope,
                signal="pre",  # as in the paper
                k=k,
                visualization_steps=STEPS,
                max_samples=samples,
                shuffles=SHUFFLES if scope == "global" else 0,
                seed=case.seed,
            )
            found[f"{graph} {scope}"] = {
                "accuracy": float(np.nanmean(made.accuracy)),
                "z": made.z_score,
                **{
                    question: {
                        "p": [getattr(s, question).p_value for s in made.subclusters],
                        "effect": getattr(made, question).effect,
                        "fisher": getattr(made, question).p_value,
                    }
                    for question in QUESTIONS
                },
            }
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps({"options": options, "found": found}))
    beside.replace(path)
    return found


def told(found: dict[Case, dict[str, Any]]) -> str:
    """The table, as Markdown."""
    cells = list(_cells(found))
    combined = [
        F.bates_p([each[question]["fisher"] for each in own]) for *_, own in cells for question in QUESTIONS
    ]
    q = iter(zip(combined, false_discovery_rate(combined), strict=True))
    lines = [
        f"| network | regularisation | graph | n-cut's z | {' | '.join(QUESTIONS).replace('_', ' ')} |",
        f"| --- | --- | --- | ---: |{' --- |' * len(QUESTIONS)}",
    ]
    for model, regularizer, kind, z, own in cells:
        told = []
        for question in QUESTIONS:
            extreme = [value <= ALPHA for each in own for value in each[question]["p"]]
            effects = [e for each in own if math.isfinite(e := each[question]["effect"])]
            effect = number(float(np.mean(effects))) if effects else "–"
            p, adjusted = next(q)
            bold = "**" if adjusted <= ALPHA else ""
            share = f"{np.mean(extreme):.0%}" if extreme else "–"
            told.append(f"{share}, {effect}, {bold}p {probability(p)}{bold}")
        lines.append(f"| {model} | {regularizer} | {kind} | {number(z)} | {' | '.join(told)} |")
    return "\n".join(lines)


def _cells(found: dict[Case, dict[str, Any]]) -> Iterator[tuple[str, str, str, float, Sequence[Any]]]:
    """Network, regularisation, graph, mean z, and what each seed gave."""
    for model, regularizer in dict.fromkeys((c.model, c.regularizer) for c in found):
        seeds = [each for c, each in found.items() if (c.model, c.regularizer) == (model, regularizer)]
        for kind in seeds[0]:
            z = float(np.mean([each[kind]["z"] for each in seeds]))
            yield model, regularizer, kind, z, [each[kind] for each in seeds]


def main() -> None:
    """Trains what is missing, and tells."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/local_specialization"), help="folder of the networks")
    add("--data-dir", help="folder with the data sets")
    add("--dataset", default="fashion-mnist")
    add("--train-size", type=int, default=10_000)
    add("--epochs", type=int, default=5)
    add("--seeds", type=int, default=5)
    add("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    add("--samples", type=int, default=1024, help="that accuracy with a lesion is measured on")
    add("--k", type=int, default=16, help="clusters of a network")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    data = DataModule(asked.dataset, asked.data_dir, train_size=asked.train_size, seed=0)
    data.setup("fit")
    found = {}
    for model in asked.models:
        for regularizer in REGULARIZERS:
            for seed in range(asked.seeds):
                case = Case(model, regularizer, seed)
                print(case.name, file=sys.stderr, flush=True)
                found[case] = found_in(
                    case, data, asked.out, epochs=asked.epochs, k=asked.k, samples=asked.samples
                )
    text = told(found)
    (asked.out / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except FnetError as error:
        sys.exit(f"error: {error}")
