"""Of every callback of the package all its arguments, and what an object made of them holds."""

from typing import Any

PROBE: dict[str, Any] = {
    "every_n_steps": 7,
    "name": "own",
    "overhead_budget": 0.5,
    "probe": "small_models.loader",
    "probe_size": 32,
    "probe_seed": 3,
    "batch_to_inputs": "operator.itemgetter",
    "batch_to_labels": "small_models.logits_of_dict",
    "model": "net",
    "on_error": "raise",
}
LOGITS = {"output_to_logits": "small_models.logits_of_dict"}
BALL: dict[str, Any] = {"epsilon": 0.1, "bounds": [0.0, 1.0], "normalize": [[0.5], [0.25]]}
# Of each argument a value that is not the default, unless another argument asks for it.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FunctionalNetworkMonitor": {
        **PROBE,
        "every_n_steps": "log",
        "worker": "process",  # tests of this folder have the other as their default
        "when_busy": "skip",
        "measures": ["fast", "loops", "own_measures.HUBS"],
        "layer_measures": [],
        "layers": ["net.1"],
        "signal": "pre",
        "samples": "tokens",
        "max_samples": 64,
        "max_neurons": 8,
        "source": "probe",  # a probe has no live batches
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
        "figures": None,
        "measure_timeout_s": 30.0,
    },
    "RobustnessMonitor": {
        **PROBE,
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
    "LesionMonitor": {
        **PROBE, **LOGITS, "points": 3, "layers": ["net.*"], "max_neurons": 8, "density": 0.2, "seed": 4
    },
    "LocalSpecializationMonitor": {
        **PROBE,
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
    "FunctionalCodeMonitor": {
        **PROBE, **LOGITS, **BALL,
        "layers": ["net.1"], "signal": "pre", "maxima": True, "grid": [3, 4], "figures": 2,
    },
    "ReLURegionMonitor": {**PROBE, **LOGITS, **BALL, "lines": 2, "max_crossings": 20},
    "BurnInEarlyStopping": {
        "monitor": "fnet/modularity", "burn_in": 2, "mode": "min", "patience": 5, "min_delta": 0.01
    },
}  # fmt: skip


def told(value: Any) -> Any:
    """What an object of ours holds, down to plain values; when a budget's clock began is another moment each time."""
    if type(value).__module__.startswith("fnet_callbacks") and hasattr(value, "__dict__"):
        held = {key: told(inner) for key, inner in vars(value).items() if key != "_began"}
        return {"kind": type(value), **held}
    return [told(inner) for inner in value] if isinstance(value, (list, tuple)) else value
