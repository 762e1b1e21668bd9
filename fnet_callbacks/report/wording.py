"""How a reader is told of a scalar: its name in words, what it is, and a number in figures."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from fnet_callbacks.record import Key

_FOLLOWED = re.compile(r"(fgsm|pgd)_(noise_)?(displacement|changed_share|distance|departed_share|departure)")
_ATTACKED = re.compile(r"(fgsm|pgd)_([0-9.eE+-]+)_(accuracy|zero_gradients)")
_NAMES = {
    "n_neurons": "live neurons",
    "dead_fraction": "share of dead neurons",
    "mean_abs_correlation": "mean |correlation|",
    "partition_ami": "agreement with the last partition (AMI)",
    "flexibility": "flexibility of neurons",
    "participation": "participation coefficient",
    "births": "communities born",
    "deaths": "communities that died",
    "splits": "communities that split",
    "merges": "communities that merged",
    "layer_ami": "agreement of communities and layers (AMI)",
    "layer_entropy": "spread of communities over layers",
    "class_ami": "agreement of communities and preferred classes (AMI)",
    "class_affinity": "what communities tell of the class",
    "sigma": "small-worldness σ",
    "sigma_hqs": "small-worldness σ, matched correlations",
    "modularity_z": "modularity, z against random graphs",
    "n_communities": "number of communities",
    "betti_0": "Betti number β₀",
    "betti_1": "Betti number β₁",
    "loops": "number of loops",
    "tree_mean": "mean length of the spanning tree's edges",
    "tree_std": "spread of the spanning tree's edges",
    "fault_tolerance_random": "fault tolerance, nodes lost at random",
    "fault_tolerance_degree": "fault tolerance, hubs lost first",
    "random_tolerance": "tolerance of lesions at random",
    "degree_tolerance": "tolerance of lesions, hubs first",
    "n_samples": "samples",
    "n_subclusters": "groups of units that were tested",
    "ncut": "normalised cut of the units' clusters",
    "z_score": "normalised cut, z against shuffled networks",
    "used_units": "codes in use",
    "label_nmi": "agreement of codes and labels (NMI)",
    "label_ami": "agreement of codes and labels (AMI)",
    "prediction_nmi": "agreement of codes and predictions (NMI)",
    "prediction_ami": "agreement of codes and predictions (AMI)",
    "compactness": "spread of classes over the map, to chance",
    "participation_ratio": "participation ratio of codes",
    "map_distance": "distance from the map of the layer before",
    "map_change": "distance from the last snapshot's map",
    "n_patterns": "linear regions that are inhabited",
    "singleton_share": "share of inputs alone in their region",
    "pattern_entropy": "entropy of regions",
    "purity": "purity of regions",
    "unchanged_share": "share of inputs with the last pattern",
    "dead_share": "share of units that are dead",
    "always_on_share": "share of units that are always on",
    "crossings": "borders between two inputs",
    "crossings_same": "borders between two inputs of a class",
    "crossings_different": "borders between two inputs of two classes",
    "attacked_distance": "breaks that FGSM moves inputs over",
}
# What an attack, or noise of its norm, does to codes.
_FOLLOWED_NAMES = {
    "displacement": "displacement of codes by",
    "changed_share": "share of codes changed by",
    "distance": "distance on the map moved by",
    "departed_share": "share of codes further than by noise, under",
    "departure": "layer from which on codes leave noise, under",
}

# Of the whole network or a layer, its live neurons, and the graph of their strongest correlations.
DEFINITIONS = {
    "n_neurons": "Neurons whose activation is not the same for all inputs of the probe; only these are nodes.",
    "dead_fraction": "Share of the watched neurons that are not live.",
    "mean_abs_correlation": "Mean of |r| over all pairs of live neurons, r Pearson's correlation over the probe.",
    "effective_rank": "(Σλ)² / Σλ² of the correlation matrix's eigenvalues λ: the number of independent directions.",
    "activation_entropy": "Mean over neurons of the binary entropy, in nats, of being active (above zero).",
    "histogram_entropy": "Mean over neurons of the entropy, in nats, of the histogram of their activations, 32 bins.",
    "selectivity_entropy": "Mean over neurons of the entropy over classes of how often they are active, as a share "
    "of its largest value: 1 for a neuron that is active for all classes alike, 0 for one class alone.",
    "clustering": "Mean share of a node's neighbours that are neighbours of each other.",
    "path_length": "Mean length of the shortest paths between connected nodes, in edges.",
    "global_efficiency": "Mean of 1 / distance over all pairs of nodes (Latora & Marchiori 2001).",
    "degree_entropy": "Entropy, in nats, of the distribution of the nodes' numbers of neighbours.",
    "modularity": "Newman's Q of the partition that Louvain's method finds: how many more edges run inside "
    "communities than by chance.",
    "n_communities": "Communities in the partition whose modularity is told.",
    "community_entropy": "Entropy, in nats, of the communities' sizes.",
    "partition_ami": "Adjusted mutual information with the partition one snapshot before: 1 the same, 0 chance.",
    "flexibility": "Mean over neurons of the share of successive snapshots so far between which a neuron changed its "
    "community (Bassett et al. 2011).",
    "participation": "Mean over neurons of 1 - Σ (k_c / k)², k_c its edges into community c (Guimerà & Amaral 2005).",
    "births": "Communities of this snapshot that are no heir and no part of one of the last.",
    "deaths": "Communities of the last snapshot that have no heir, and were not merged into one.",
    "splits": "Communities of the last snapshot of which two or more of this one are fragments.",
    "merges": "Communities of this snapshot of which two or more of the last are fragments.",
    "layer_ami": "Adjusted mutual information of communities and layers: 1 where they are the same, 0 by chance.",
    "layer_entropy": "Mean over communities, by their size, of the entropy of their neurons' layers as a share of its "
    "largest value: 0 within one layer, 1 over all alike.",
    "class_ami": "Adjusted mutual information of communities and the class for which each neuron is active most often.",
    "class_affinity": "Mean over communities, by their size, of the mutual information of their mean activation with "
    "the class, as a share of the class's entropy.",
    "edge_turnover": "Share of the edges of this and the last snapshot that only one of them has.",
    "tree_mean": "Mean of 1 - |r| along the maximum spanning tree: small where neurons are redundant.",
    "tree_std": "Their standard deviation.",
    "sigma": "(C / C_random) / (L / L_random): clustering and path length against random graphs of the same degrees "
    "(Humphries & Gurney 2008); above 1 is small-world.",
    "sigma_hqs": "Small-worldness against graphs from random correlation matrices of the same moments (Zalesky et al. "
    "2012), which have the clustering that correlations bring with them.",
    "modularity_z": "Modularity less its mean over random graphs of the same degrees, in their standard deviations.",
    "betti_0": "Connected components of the Vietoris-Rips complex on 1 - |r|, where it has the graph's edges.",
    "betti_1": "Loops of that complex that nothing fills.",
    "loops": "Points in the persistence diagram of H₁ on 1 - |r|: loops over all radii.",
    "functional_persistence": "Root of the sum of squared lifetimes of these loops (Zhang & Lin 2024).",
    "persistent_entropy": "Entropy, in nats, of the loops' lifetimes as shares of their sum.",
    "local_efficiency": "Mean over nodes of the global efficiency among their neighbours.",
    "fault_tolerance_random": "Area under what remains of the largest component as nodes are removed at random.",
    "fault_tolerance_degree": "The same as those with the most neighbours are removed first.",
    "clean_accuracy": "Share of the probe that is classified correctly.",
    "random_tolerance": "Area under accuracy over the share of neurons silenced at random, relative to the intact "
    "network's.",
    "degree_tolerance": "The same with the neurons silenced first that have the most neighbours.",
    "accuracy": "Share of the probe that is classified correctly under the attack (FGSM: Goodfellow et al. 2015; PGD: "
    "Madry et al. 2018) with perturbations up to that size.",
    "generalization_gap": "Training accuracy less validation accuracy, both as the run logged them. The former is as a "
    "rule that of train mode over an epoch, which dropout lowers by itself.",
    "zero_gradients": "Share of the attacked inputs whose gradient is zero; where it is large, the accuracy under "
    "attack overstates robustness.",
    "n_subclusters": "The units of one cluster in one layer, two or more and not all of it.",
    "ncut": "Sum over the clusters of the share of their edges' weight that leaves them (Shi & Malik 2000).",
    "z_score": "Normalised cut less its mean over networks with shuffled weights, in their standard deviations: below "
    "0 where the network falls into clusters better than these (Filan et al. 2021).",
}  # fmt: skip
# Of the functional codes of a layer (Lee & Vijayan 2022), and of attacks on them.
DEFINITIONS |= {
    "quantization_error": "Mean distance of a sample's code, standardised, from that of its unit on the layer's "
    "self-organising map (Kohonen 2001).",
    "topographic_error": "Share of the samples whose two nearest units are no neighbours on the map (Kiviluoto 1996).",
    "used_units": "Units of the map that are some sample's functional code.",
    "code_entropy": "Entropy of the functional codes, as a share of the largest that there can be.",
    "participation_ratio": "(Σλ)² / Σλ² of the eigenvalues λ of the codes' covariance: over how many directions the "
    "layer spreads its codes.",
    "map_distance": "How differently the map of the layer before lays out the same samples, once both are turned and "
    "scaled onto each other (Procrustes disparity): 0 alike, 1 nothing in common.",
    "map_change": "The same between the layer's own maps at this and the last snapshot.",
    "label_nmi": "Mutual information of functional code and label, over the mean of their entropies.",
    "label_ami": "Mutual information of functional code and label, adjusted for chance: 0 by chance, 1 the same.",
    "prediction_nmi": "Mutual information of functional code and predicted class, over the mean of their entropies.",
    "prediction_ami": "Mutual information of functional code and predicted class, adjusted for chance.",
    "compactness": "Distance on the map of a class's samples from their centre, over the same with shuffled labels: 1 "
    "anywhere, 0 on one unit.",
    "displacement": "Mean distance by which the codes of attacked inputs are moved, over the mean distance of clean "
    "codes from their mean.",
    "changed_share": "Share of the attacked inputs whose functional code is another.",
    "distance": "Mean distance on the map, in units, of the functional codes of an input and of the attacked one.",
    "departed_share": "Share of the inputs whose code the attack moves further than noise of the same norm does 95 %.",
    "departure": "The layer, counted from 1, from which on to the last the attack moves most inputs further than that.",
}
# Of the linear regions that inputs are in (Picchiotti & Gori 2021).
DEFINITIONS |= {
    "n_patterns": "Distinct patterns of active units among the inputs of the probe: each is a linear region.",
    "singleton_share": "Share of the inputs that are alone in their region.",
    "pattern_entropy": "Entropy of the regions' sizes, as a share of log S: 1 where each input has its own.",
    "purity": "Share of the inputs that are of the commonest class of their region.",
    "unchanged_share": "Share of the inputs whose pattern is that of the last snapshot.",
    "dead_share": "Share of the piecewise-linear units that have slope 0 for all inputs.",
    "always_on_share": "Share of the piecewise-linear units that are on one sloped piece for all inputs.",
    "crossings": "Borders between regions on the straight line between two inputs, the mean over lines.",
    "crossings_same": "Borders between regions on the straight line between two inputs of one class, the mean over "
    "lines.",
    "crossings_different": "The same between two inputs of different classes.",
    "attacked_distance": "Mean share of the units' breaks that FGSM moves an input over.",
}
# What is asked of each group of units, against random groups of its size in its layer (Hod et al. 2021).
_ASKED = {
    "importance": "accuracy falls further where its units are lesioned",
    "coherence": "the damage of lesioning it is spread over the classes more unevenly",
    "label_entropy": "the inputs that activate it most are of fewer classes",
    "objective": "an input made for it activates it more",
    "softmax_entropy": "the network is surer of the class of an input made for it",
}
for _question, _text in _ASKED.items():
    DEFINITIONS |= {
        f"{_question}_p": f"Whether {_text} than with random groups: Fisher's p over all groups (Hod et al. 2021).",
        f"{_question}_effect": f"By how much {_text}: mean of 2 D / (D + D of random groups), 1 for no difference, "
        f"{'below' if _question.endswith('entropy') else 'above'} 1 where it is so.",
        f"{_question}_share": f"Share of the groups of which it is sure, at p = 0.05, that {_text}; by chance 0.05.",
    }
    _NAMES |= {
        f"{_question}_{what}": f"{_question.replace('_', ' ')} of groups of units, {told}"
        for what, told in (("p", "p"), ("effect", "effect"), ("share", "share at p ≤ 0.05"))
    }


def label_of(entry: Key) -> str:
    """A quantity in words."""
    if attacked := _ATTACKED.fullmatch(entry.quantity):
        attack, epsilon, what = attacked.groups()
        return f"{what.replace('_', ' ')} under {attack.upper()}, ε = {epsilon}"
    if followed := _FOLLOWED.fullmatch(entry.quantity):
        attack, noise, what = followed.groups()
        by = f"noise of {attack.upper()}'s norm" if noise else attack.upper()
        return f"{_FOLLOWED_NAMES[what]} {by}"
    return _NAMES.get(entry.quantity, entry.label)


def definition_of(entry: Key) -> str:
    """What a quantity is; empty where that is not known."""
    parts = _ATTACKED.fullmatch(entry.quantity) or _FOLLOWED.fullmatch(entry.quantity)
    return DEFINITIONS.get(parts[3] if parts else entry.quantity, entry.definition)


def labels_of(entries: Mapping[str, Key]) -> dict[str, str]:
    """Of each key the quantity in words, with its instrument where two have it; no two of one layer have the same."""
    plain = {key: label_of(entry) for key, entry in entries.items()}
    instruments: dict[str, set[str]] = {}
    for key, label in plain.items():
        instruments.setdefault(label, set()).add(entries[key].instrument)
    found = {
        key: label
        + (f" ({name})" if (name := entries[key].instrument) and len(instruments[label]) > 1 else "")
        for key, label in plain.items()
    }
    taken = Counter((label, entries[key].layer) for key, label in found.items())
    # What the run logged under names that differ by an underscore alone.
    return {
        key: label if taken[label, entries[key].layer] == 1 else f"{label} [{key}]"
        for key, label in found.items()
    }


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits that count; a dash for none."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "−∞" if value == -math.inf else "–"
    if value == 0:
        return "0"
    if round(abs(value)) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("-", "−")


def probability(p: float) -> str:
    """A p-value; a dash for none."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def counted(n: int, what: str) -> str:
    """So many of something that has a regular plural."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them; at least one."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
