"""All arguments of everything that a configuration may name, and what an object made of them holds."""

from typing import Any

LOGITS = {"output_to_logits": "small_models.logits_of_dict"}
BALL: dict[str, Any] = {"epsilon": 0.1, "bounds": [0.0, 1.0], "normalize": [[0.5], [0.25]]}
OWN: dict[str, Any] = {"name": "own", "every_n_steps": 7}
# Of each argument a value that is not the default, unless another argument asks for it.
INSTRUMENTS: dict[str, dict[str, Any]] = {
    "FunctionalNetwork": {
        **OWN,
        "every_n_steps": "log",
        "measures": ["fast", "loops", "own_measures.HUBS"],
        "layer_measures": [],
        "layers": ["net.1"],
        "signal": "pre",
        "samples": "tokens",
        "max_samples": 64,
        "max_neurons": 8,
        "source": "train",
        "method": "threshold",
        "density": 0.2,
        "threshold": 0.5,
        "sign": "positive",
        "nulls": 3,
        "seed": 4,
        "homology_radius": "graph",
        "homology_max_nodes": 16,
        "homology_backend": "ripser",
        "save_correlation": True,
        "measure_timeout_s": 30.0,
    },
    "Robustness": {
        **OWN,
        **LOGITS,
        "bounds": [0.0, 2.0],
        "attacks": ["pgd"],
        "epsilons": [0.05, 0.1],
        "normalize": [[0.5], [0.25]],
        "norm": "l2",
        "steps": 3,
        "step_size": 0.02,
        "random_start": True,  # the default: restarts ask for it
        "restarts": 2,
        "loss": "fnet_callbacks.attacks.cross_entropy",
    },
    "Lesions": {
        **OWN, **LOGITS, "points": 3, "layers": ["net.*"], "max_neurons": 8, "density": 0.2, "seed": 4
    },
    "LocalSpecialization": {
        **OWN,
        **LOGITS,
        "graph": "activations",
        "k": 4,
        "scope": "global",  # the default: a partition asks for it
        "partition": "louvain",
        "correlation": "pearson",
        "layers": ["net.1"],
        "signal": "pre",
        "references": 5,
        "shuffles": 2,
        "replacement": "mean",
        "visualization_steps": 1,
        "seed": 4,
    },
    "FunctionalCodes": {
        **OWN, **LOGITS, **BALL, "layers": ["net.1"], "signal": "pre", "maxima": True, "grid": [3, 4]
    },
    "ReLURegions": {**OWN, **LOGITS, **BALL, "lines": 2, "max_crossings": 20, "exact": True},
}  # fmt: skip
# Without its instruments, which are given by class_path or _target_, or as objects.
MONITOR: dict[str, Any] = {
    "every_n_steps": "log",
    "overhead_budget": 0.5,
    "worker": "process",  # tests of callbacks have the other as their default
    "when_busy": "skip",
    "probe": "small_models.loader",
    "probe_size": 32,
    "probe_seed": 3,
    "batch_to_inputs": "operator.itemgetter",
    "batch_to_labels": "small_models.logits_of_dict",
    "model": "net",
    "figures": 3,
    "log": ["fnet/*", "monitor/*"],
    "folder": "runs/a",
    "on_error": "raise",
}
STOPPING: dict[str, Any] = {
    "monitor": "fnet/modularity", "burn_in": 2, "mode": "min", "patience": 5, "min_delta": 0.01
}  # fmt: skip
ARGUMENTS = {**INSTRUMENTS, "Monitor": MONITOR, "BurnInEarlyStopping": STOPPING}
# Two schedules are one too many, so that one of them has the default above.
OTHER_SCHEDULE = "every_n_epochs"


def parts(value: Any) -> Any:
    """What an object of ours holds, down to plain values."""
    if isinstance(value, type) or not type(value).__module__.startswith("fnet_callbacks"):
        return [parts(inner) for inner in value] if isinstance(value, (list, tuple)) else value
    if hasattr(value, "__dict__"):
        return {"kind": type(value), **{key: parts(inner) for key, inner in vars(value).items()}}
    if hasattr(value, "__dataclass_fields__"):
        found = {name: parts(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"kind": type(value), **found}
    return value
