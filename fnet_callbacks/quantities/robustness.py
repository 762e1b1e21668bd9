"""Quantities of attacks: accuracy on clean and on attacked inputs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from fnet_callbacks.quantities.quantity import Quantity

CLEAN_ACCURACY = Quantity(
    "clean_accuracy",
    "clean accuracy",
    "Share of the probe that is classified correctly.",
    (0, 1),
    chart="accuracy",
)
_REFERENCES = {"fgsm": "Goodfellow et al. 2015", "pgd": "Madry et al. 2018"}


def attack_name(attack: str, epsilon: float | str) -> str:
    """What an attack of a size is called in names; a number has four digits."""
    return f"{attack}_{epsilon if isinstance(epsilon, str) else format(epsilon, '.4g')}"


def attacked(attack: str, epsilon: float | str) -> tuple[Quantity, Quantity]:
    """What is measured of an attack: accuracy, and the share of inputs on which it found no gradient.

    Args:
        attack: Its name, such as ``"fgsm"``.
        epsilon: Its size, or the text that stands for it in keys.
    """
    name, size = attack_name(attack, epsilon), attack_name(attack, epsilon).removeprefix(f"{attack}_")
    reference = f" ({_REFERENCES[attack]})" if attack in _REFERENCES else ""
    under = f"under {attack.upper()}, ε = {size}"
    return (
        Quantity(
            f"{name}_accuracy",
            f"accuracy {under}",
            f"Share of the probe that is classified correctly under {attack.upper()}{reference} with perturbations of "
            f"size {size} at most.",
            (0, 1),
            chart="accuracy",
        ),
        Quantity(
            f"{name}_zero_gradients",
            f"zero gradients {under}",
            f"Share of the inputs attacked by {attack.upper()} whose gradient is zero; where it is large, the accuracy "
            "under attack overstates robustness.",
            (0, 1),
        ),
    )


def of_attacks(attacks: Iterable[str], epsilons: Iterable[float]) -> tuple[Quantity, ...]:
    """All quantities of some attacks of some sizes, clean accuracy first."""
    return CLEAN_ACCURACY, *(
        q for attack, epsilon in product(attacks, epsilons) for q in attacked(attack, epsilon)
    )
