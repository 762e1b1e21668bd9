"""Is a group of neurons special? Its score against those of random groups of the same size, and many such answers."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import chdtrc, comb, factorial, ndtr

from fnet_callbacks.checks import checked_array, checked_choice, checked_integer, checked_number, short_repr
from fnet_callbacks.errors import FnetError

Tail = Literal["low", "high"]
_ROUNDING = 1e-12  # of what equal numbers may differ by, computed in two ways


def reference_p(
    value: float, references: Sequence[float], *, tail: Tail, generator: np.random.Generator | None = None
) -> float:
    """How often a score as extreme comes by chance: the rank of a value among those of random references.

    Args:
        value: Of the group.
        references: Of n random groups.
        tail: Whether ``"low"`` or ``"high"`` scores are extreme.
        generator: Breaks ties at random, so that under chance all n + 1 values of p are equally frequent; None counts
            references that tie as more extreme, which errs towards chance.

    Returns:
        ``(1 + more extreme) / (n + 1)``, at least ``1 / (n + 1)``; NaN where the value or a reference is not finite.

    Raises:
        FnetError: There is no reference, ``tail`` is unknown, or another argument is no number or generator.

    Reference: Hod et al. (2021), arXiv 2110.08058, with n = 19.
    Cost: O(n).

    >>> reference_p(0.2, [0.5, 0.1, 0.9], tail="low")
    0.5
    """
    checked_choice("tail", tail, ("low", "high"))
    value = checked_number("value", value, allows_nan=True)
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise FnetError(f"generator must be a numpy.random.Generator or None, got {short_repr(generator)}")
    others = checked_array("references", references, "[groups]").astype(np.float64)
    if not len(others):
        raise FnetError("references are empty; there should be one at least")
    if not np.isfinite(others).all() or not np.isfinite(value):
        return float("nan")
    beyond = int((others < value).sum() if tail == "low" else (others > value).sum())
    ties = int((others == value).sum())
    beyond += ties if generator is None else int(generator.integers(ties + 1))
    return (1 + beyond) / (len(others) + 1)


def z_score(value: float, mean: float, spread: float) -> float:
    """How many standard deviations a value is above the mean of its nulls.

    Args:
        value: Of what is looked at.
        mean: Of the nulls.
        spread: Their standard deviation.

    Returns:
        ``(value - mean) / spread``; NaN where the nulls are alike, but for rounding, or the spread is not known.

    Raises:
        FnetError: One of them is no number.

    >>> round(z_score(0.5, 0.3, 0.1), 6)
    2.0
    """
    value, mean, spread = (
        checked_number(name, number, allows_nan=True)
        for name, number in (("value", value), ("mean", mean), ("spread", spread))
    )
    return (value - mean) / spread if spread > _ROUNDING * max(1.0, abs(mean)) else float("nan")


def relative_effect(value: float, references: Sequence[float]) -> float:
    """A score beside the mean of its references.

    Args:
        value: Of the group, D.
        references: Of random groups.

    Returns:
        ``2 D / (D + mean)``: 1 for no difference, 2 where the references score 0, 0 where the group does. NaN where the
        two are of different signs, both are 0, or one is not finite.

    Raises:
        FnetError: ``value`` is no number, or ``references`` no vector of numbers.

    Reference: Hod et al. (2021), arXiv 2110.08058.

    >>> relative_effect(-3.0, [-1.0, -1.0])
    1.5
    """
    value = checked_number("value", value, allows_nan=True)
    others = checked_array("references", references, "[groups]").astype(np.float64)
    mean = float(np.mean(others)) if len(others) else float("nan")
    if not np.isfinite([value, mean]).all() or value * mean < 0 or value == mean == 0:
        return float("nan")
    return 2 * value / (value + mean)


def fisher_p(p: Sequence[float], *, n_references: int) -> float:
    r"""One p-value of many groups of a network, by Fisher's method on half-shifted p-values.

    With n references a p-value is one of ``1 / (n + 1) ... 1``, on the mean half a step above a uniform one:
    :math:`p' = p - 1 / (2 (n + 1))` takes that back, and :math:`-2 \sum \log p'` is held against chi-square with
    2 P degrees of freedom. As p is discrete this errs a little towards chance.

    Args:
        p: ``[P]``, as of `reference_p`; those that are not finite are left out.
        n_references: n.

    Returns:
        In [0, 1]; NaN where none is left.

    Raises:
        FnetError: A p-value is not among those that n references can give, or ``n_references`` is below 1.

    Reference: Fisher (1925); Hod et al. (2021), arXiv 2110.08058, for the shift.
    Cost: O(P).
    """
    found = checked_array("p", p, "[groups]").astype(np.float64)
    found = found[np.isfinite(found)]
    n_references = checked_integer("n_references", n_references, at_least=1)
    if (found < 1 / (n_references + 1) - 1e-12).any() or (found > 1 + 1e-12).any():
        raise FnetError(f"p should be from 1 / (n_references + 1) to 1, with n_references={n_references}")
    if not len(found):
        return float("nan")
    shifted = found - 1 / (2 * (n_references + 1))
    return float(chdtrc(2 * len(shifted), -2 * np.log(shifted).sum()))


def bates_p(p: Sequence[float]) -> float:
    """One p-value of several runs: how often the mean of as many uniform numbers is as low as that of theirs.

    Args:
        p: ``[R]``, one a run; those that are not finite are left out.

    Returns:
        In [0, 1]; NaN where none is left.

    Raises:
        FnetError: A p-value is outside [0, 1].

    Reference: Bates (1955), Ann. Math. Stat. 26, 705; Hod et al. (2021), arXiv 2110.08058, for its use.
    Cost: O(R); above 20 runs by the normal limit, whose error is then below 0.002.

    >>> round(bates_p([0.1, 0.1]), 6)
    0.02
    """
    found = checked_array("p", p, "[runs]").astype(np.float64)
    found = found[np.isfinite(found)]
    if (found < 0).any() or (found > 1).any():
        raise FnetError("p should be from 0 to 1")
    n, total = len(found), float(found.sum())
    if not n:
        return float("nan")
    if n > 20:  # the sum below alternates and loses its digits
        return float(ndtr((total / n - 0.5) * np.sqrt(12 * n)))
    terms = np.arange(int(np.floor(total)) + 1)
    signed = (-1.0) ** terms * comb(n, terms) * (total - terms) ** n
    return float(np.clip(signed.sum() / factorial(n), 0.0, 1.0))
