"""FGSM and PGD: adversarial inputs, from gradients with respect to the input only.

The functions leave the model as they found it: nothing is written to a parameter's ``.grad`` and no global
random stream is advanced by them. They do not switch modes: put the model into ``eval()`` first (a callback
does so within its isolated pass), or dropout and BatchNorm take part in the attack.

Every attack is one loop of projected gradient ascent; FGSM is that loop with one full step from the clean
input. ``epsilon`` and ``bounds`` are meant in the space of the raw input, before any normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fnet_callbacks.arguments import as_choice, as_flag, as_integer, is_number, plain
from fnet_callbacks.checks import checked_integer, checked_tensor, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.neighbourhood import Neighbourhood, Norm, Normalize, as_bounds, as_normalization

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample in nats, ``[S]``: the loss that is attacked by default.

    ``logits`` are ``[S, C]``, or ``[S]`` or ``[S, 1]`` where a single logit tells class 1 from class 0.

    Raises:
        FnetError: ``logits`` or ``labels`` has another shape, a label has no logit, or is no whole number of 0 or more.
    """
    logits, labels = _as_classes(checked_tensor("logits", logits, floating=True), labels)
    if len(labels) and int(labels.max()) >= logits.shape[1]:
        raise FnetError(f"labels go up to {int(labels.max())}, the model has {logits.shape[1]} logits")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def fgsm(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    bounds: tuple[float, float],
    normalize: Normalize | None = None,
    norm: Norm = "linf",
    loss: Loss = cross_entropy,
) -> Tensor:
    """Fast gradient sign method: one step of length ``epsilon`` from the clean input.

    Arguments, result and errors are those of :func:`pgd`. A sample without a gradient is returned unchanged.

    Example:
        >>> weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
        >>> fgsm(lambda x: x @ weight.T, torch.full((1, 2), 0.5), torch.tensor([1]),
        ...      epsilon=0.25, bounds=(0.0, 1.0))
        tensor([[0.2500, 0.7500]])

    Reference: Goodfellow, Shlens & Szegedy (2015), arXiv:1412.6572, section 4.
    Cost: one forward and one backward pass.
    """
    plan = _Plan(epsilon, bounds, normalize, norm, loss, step_size=epsilon)
    return _attack(model, inputs, labels, plan)[0]


def pgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    bounds: tuple[float, float],
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    norm: Norm = "linf",
    normalize: Normalize | None = None,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> Tensor:
    """Projected gradient descent: many small steps uphill in the loss, each projected back into the ball.

    Args:
        model: Inputs ``[S, ...]`` to logits, used in the mode it is in. On CUDA pass the module itself, not a
            lambda: cuDNN is off for recurrent modules, and for callables that cannot be looked into.
        inputs: What the model takes, floating point, ``[S, ...]``; normalised where ``normalize`` is given.
        labels: True labels, ``[S]``.
        epsilon: Radius of the ball around each input, in the units of ``bounds``; above 0.
        bounds: Smallest and largest legal value of a raw input, such as ``(0.0, 1.0)``.
        steps: Gradient steps of each run.
        step_size: Length of a step, in the units of ``bounds``. Default ``2.5 * epsilon / steps``, the rule
            of Madry et al., with which the far side of the ball is in reach of any start; for
            ``epsilon=8/255`` and 10 steps it is the customary 2/255.
        random_start: Start from a point drawn uniformly in the ball, else from the clean input.
        restarts: Independent runs; of each sample the run that ends with the largest loss is returned. More
            than one needs ``random_start``.
        norm: ``"linf"`` bounds each value, ``"l2"`` the Euclidean length over all values of a sample.
        normalize: ``(mean, std)`` that were applied to the raw input, numbers or one per channel (axis 1).
        loss: ``loss(logits, labels)`` to be increased, one value per sample (``reduction="none"``). One that
            averages or sums over the batch works too; it is asked sample by sample to compare restarts.
        seed: Of the random starts. They are drawn on the CPU, so every device starts from the same points.

    Returns:
        Adversarial inputs in the space, shape, dtype and device of ``inputs``; within the ball and the bounds
        up to the rounding of that dtype.

    Raises:
        FnetError: An argument is out of range, or ``inputs`` leaves ``bounds``.

    Reference: Madry et al. (2018), arXiv:1706.06083, section 2.1.
    Cost: ``restarts * steps`` forward and backward passes.
    """
    plan = _Plan(
        epsilon, bounds, normalize, norm, loss, steps, step_size, random_start, restarts=restarts, seed=seed
    )
    return _attack(model, inputs, labels, plan)[0]


@dataclass(frozen=True, slots=True)
class RobustAccuracy:
    """Counts behind an accuracy, attacked or clean; those of batches and of ranks add up.

    ``zero_gradients`` counts the samples on which every gradient that the attack took was zero (or not finite): a high
    share is a sign of masked gradients, not of robustness.
    """

    correct: int = 0
    total: int = 0
    zero_gradients: int = 0

    def __add__(self, other: RobustAccuracy) -> RobustAccuracy:
        return RobustAccuracy(
            self.correct + other.correct, self.total + other.total, self.zero_gradients + other.zero_gradients
        )

    @classmethod
    def of_hits(cls, hits: Tensor, zero_gradients: int = 0) -> RobustAccuracy:
        """Of which samples are classified correctly, booleans ``[S]``."""
        return cls(int(hits.sum()), len(hits), zero_gradients)

    @property
    def accuracy(self) -> float:
        """Share of samples that are classified correctly; NaN for none."""
        return self.correct / self.total if self.total else math.nan

    @property
    def variance(self) -> float:
        """Of ``correct``, as a binomial's; NaN for no sample."""
        return self.correct * (1 - self.accuracy)

    @property
    def zero_gradient_share(self) -> float:
        """Share of samples without any gradient; NaN for none."""
        return self.zero_gradients / self.total if self.total else math.nan


def robust_accuracy(
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    attack: Literal["fgsm", "pgd"],
    epsilon: float,
    bounds: tuple[float, float],
    normalize: Normalize | None = None,
    norm: Norm = "linf",
    loss: Loss = cross_entropy,
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    seed: int = 0,
) -> RobustAccuracy:
    """Accuracy of a model on the inputs an attack makes of ``batches``.

    ``batches`` are pairs of inputs and labels, ``[(inputs, labels)]`` for a single one. The other arguments
    are those of :func:`pgd`; from ``steps`` on they concern PGD alone. Each batch takes the next ``seed``.

    Raises:
        FnetError: An argument is out of range, inputs leave ``bounds``, a label is below 0 (leave such samples out),
            or the logits are not a classifier's.

    Cost: the attack and one more forward pass per batch.
    """
    attack = plain("attack", attack)
    if attack not in ("fgsm", "pgd"):
        raise FnetError(f"attack must be 'fgsm' or 'pgd', got {attack!r}")
    seed = _checked_seed(seed)
    if attack == "fgsm":
        plan = _Plan(epsilon, bounds, normalize, norm, loss, step_size=epsilon, seed=seed)
    else:
        plan = _Plan(epsilon, bounds, normalize, norm, loss, steps, step_size, random_start, restarts)
    counts = RobustAccuracy()
    for index, batch in enumerate(_each(batches)):
        inputs, labels = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (None, None)
        if not (isinstance(inputs, Tensor) and isinstance(labels, Tensor)):
            raise FnetError(f"batches must be pairs of inputs and labels, tensors, got {short_repr(batch)}")
        _checked_classes(labels)  # before a loss of one's own meets them
        adversarial, blind = _attack(model, inputs, labels, replace(plan, seed=seed + index))
        with torch.no_grad():
            hits = correct_predictions(model(adversarial), labels)
        counts += RobustAccuracy.of_hits(hits, int(blind.sum()))
    return counts


def correct_predictions(logits: Tensor, labels: Tensor) -> Tensor:
    """Which samples are classified correctly, as booleans ``[S]``.

    The largest of C logits wins; a single logit (``[S]`` or ``[S, 1]``) above 0 means class 1. A sample with NaN among
    its logits is not.

    Raises:
        FnetError: ``logits`` or ``labels`` has another shape, or a label is no whole number of 0 or more.
    """
    logits, labels = _as_classes(logits, labels)
    return (logits.argmax(dim=1) == labels) & ~logits.isnan().any(dim=1)


def predicted_classes(logits: Tensor) -> Tensor:
    """Class of each sample, ``[S]`` int64, as `correct_predictions` has it.

    Raises:
        FnetError: ``logits`` have another shape.
    """
    return _two_columns(logits).argmax(dim=1)


_SCALES = (2.0**14, 2.0**7, 1.0)  # of the loss, until nothing overflows


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do to a batch."""

    epsilon: float
    bounds: tuple[float, float]
    normalize: Normalize | None
    norm: Norm
    loss: Loss
    steps: int = 1
    step_size: float | None = None
    random_start: bool = False
    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        own: dict[str, Any] = {
            "epsilon": plain("epsilon", self.epsilon),
            "bounds": as_bounds(self.bounds),
            "normalize": as_normalization(self.normalize),
            "norm": as_choice("norm", self.norm, ("linf", "l2")),
            "steps": as_integer("steps", self.steps, at_least=1),
            "step_size": plain("step_size", self.step_size),
            "random_start": as_flag("random_start", self.random_start),
            "restarts": as_integer("restarts", self.restarts, at_least=1),
            "seed": _checked_seed(self.seed),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        if not (is_number(self.epsilon) and 0 < self.epsilon < math.inf):
            raise FnetError(f"epsilon must be a positive number in the units of bounds, got {self.epsilon!r}")
        if not self.bounds[0] < self.bounds[1]:
            raise FnetError(f"bounds must be (lowest, highest) of the raw inputs, got {self.bounds}")
        if self.restarts > 1 and not self.random_start:
            raise FnetError("restarts above 1 repeat the same run without random_start=True")
        if not (self.step_size is None or is_number(self.step_size)) or not 0 < self.step_length < math.inf:
            raise FnetError(f"step_size must be a positive number, got {self.step_size!r}")
        object.__setattr__(self, "epsilon", float(self.epsilon))
        object.__setattr__(self, "step_size", None if self.step_size is None else float(self.step_size))

    @property
    def step_length(self) -> float:
        return 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size


def _attack(model: Model, inputs: Tensor, labels: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Adversarial inputs and, ``[S]``, where no step saw a gradient; whatever grad mode the caller is in."""
    if not callable(model):
        raise FnetError(f"model must be a function from inputs to logits, got {short_repr(model)}")
    checked_tensor("labels", labels)
    if not checked_tensor("inputs", inputs).is_floating_point():
        raise FnetError(f"inputs must be floating point, got {inputs.dtype}: token ids have no gradient")
    if inputs.ndim < 2 or labels.ndim < 1 or len(labels) != len(inputs):
        raise FnetError(f"inputs [S, ...] and labels [S] must match, got {inputs.shape} and {labels.shape}")
    with torch.inference_mode(False), torch.enable_grad(), differentiable_rnn(model, inputs):
        # Tensors made in inference mode cannot be saved for backward; their clones can.
        inputs, labels = inputs.detach().clone(), labels.clone()
        region = Neighbourhood.around(
            inputs, epsilon=plan.epsilon, bounds=plan.bounds, normalize=plan.normalize, norm=plan.norm
        )
        generator = torch.Generator().manual_seed(plan.seed)
        runs = [_ascend(model, labels, region, plan, generator) for _ in range(plan.restarts)]
        if len(runs) == 1:
            return runs[0]
        points, blind = (torch.stack(parts) for parts in zip(*runs, strict=True))
        losses = torch.stack([_loss_per_sample(model, point, labels, plan.loss) for point in points])
        strongest = losses.nan_to_num(nan=-math.inf).argmax(dim=0)
        return points[strongest, torch.arange(len(inputs), device=inputs.device)], blind.all(dim=0)


def _ascend(
    model: Model, labels: Tensor, region: Neighbourhood, plan: _Plan, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One run: from a start, ``steps`` steps uphill."""
    point = region.random_point(generator) if plan.random_start else region.centre
    blind = torch.ones(len(point), dtype=torch.bool, device=point.device)
    for _ in range(plan.steps):
        gradient = _input_gradient(model, point, labels, plan.loss)
        blind &= (gradient == 0).flatten(1).all(dim=1)
        point = region.step(point, gradient, plan.step_length)
    return point, blind


def _each(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    try:
        return iter(batches)
    except TypeError:
        raise FnetError(f"batches must be pairs of inputs and labels, got {short_repr(batches)}") from None


def _checked_seed(seed: int) -> int:
    return checked_integer("seed", seed, at_least=-(2**63))  # what torch takes


def _input_gradient(model: Model, point: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Gradient of the loss with respect to the input, zero where there is none or it is not finite.

    Times a power of 2, which is no matter to its direction: in half precision the gradient of a sample that the model
    is sure of would be 0.
    """
    leaf = point.detach().requires_grad_()
    # A clone, as the model may begin with an in-place operation.
    total = loss(model(leaf.clone()), labels).sum()
    if not total.requires_grad:
        return torch.zeros_like(point)
    for scale in _SCALES:
        is_last = scale == _SCALES[-1]
        (gradient,) = torch.autograd.grad(
            scale * total, leaf, materialize_grads=True, retain_graph=not is_last
        )
        if gradient.isfinite().all():
            break
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _loss_per_sample(model: Model, inputs: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """``[S]``; extra axes of the loss are averaged, a loss over the batch is asked sample by sample."""
    with torch.no_grad():
        losses = loss(logits := model(inputs.clone()), labels)
        if losses.ndim == 0:
            return torch.stack([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])
        return losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses


def differentiable_rnn(model: Model, inputs: Tensor) -> AbstractContextManager[None]:
    """On CUDA, cuDNN's recurrent layers have no backward in eval mode; PyTorch's own have."""
    recurrent = not isinstance(model, nn.Module) or any(isinstance(m, nn.RNNBase) for m in model.modules())
    if not (inputs.is_cuda and recurrent):
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=False)


def _as_classes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[S, C]`` and labels ``[S]``."""
    logits = _two_columns(logits)
    if checked_tensor("labels", labels).numel() != len(logits):
        raise FnetError(
            f"labels must hold one class per sample ({len(logits)} in logits), got {list(labels.shape)}"
        )
    return logits, _checked_classes(labels)


def _checked_classes(labels: Tensor) -> Tensor:
    """Labels as ``[S]`` int64."""
    given = labels.reshape(-1)
    classes = given.long()
    if len(classes) and int(classes.min()) < 0:
        raise FnetError(
            f"labels must be 0 or more, got {int(classes.min())}: leave out the samples that have no class"
        )
    if given.is_floating_point() and not bool((given == classes).all()):
        raise FnetError("labels must be whole numbers, one class a sample; some are not")
    return classes


def _two_columns(logits: Tensor) -> Tensor:
    """``[S, C]``, two columns at least; a single logit z is the pair (0, z)."""
    if checked_tensor("logits", logits).ndim not in (1, 2) or logits.dtype == torch.bool:
        raise FnetError(f"logits must be [S, C], [S, 1] or [S], got {logits.dtype} {list(logits.shape)}")
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits
    logits = logits.reshape(-1)
    return torch.stack([torch.zeros_like(logits), logits], dim=1)
