"""The base of all instruments: their options, which are fixed, and what they do in a run, on a copy."""

from __future__ import annotations

import copy
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from fnet_callbacks.arguments import naming_unknown
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import path_of
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import FnetError
from fnet_callbacks.findings import LEFT_BEHIND, Analysis, Context, Findings
from fnet_callbacks.instruments.arguments import as_interval, as_name
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.live import LiveBatches
from fnet_callbacks.keys import Key
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.stopwatch import Stopwatch

_MUTABLE = (list, dict, set, np.ndarray)
_OF_MONITOR = (
    "overhead_budget",
    "worker",
    "when_busy",
    "probe",
    "probe_size",
    "probe_seed",
    "batch_to_inputs",
    "batch_to_labels",
    "model",
    "figures",
    "log",
    "folder",
    "on_error",
)


@dataclass(frozen=True, slots=True)
class Shared:
    """What is said once for all instruments of a monitor.

    Attributes:
        probe_size: Inputs that the probe should have.
        probe_seed: Of all draws of inputs and neurons.
        on_error: ``"raise"`` where what fails should end the run.
        has_figures: Whether anything is ever drawn.
    """

    probe_size: int = 1024
    probe_seed: int = 0
    on_error: Literal["warn", "raise"] = "warn"
    has_figures: bool = False


class Instrument(ABC):
    """What is measured of a model at a snapshot: the base of all instruments, and of one of your own.

    One of your own says in ``quantities`` what it measures, and implements `prepare`, `analyze`, and what it needs of
    the rest. At each of its snapshots these are called, in this order:

    ====================== ============================= ==============================================================
    method                 where                         what for
    ====================== ============================= ==============================================================
    `prepare`              every rank, before the first  looks at model and data; refuses what does not fit
    `begin`                every rank                    forgets what it saw at the last snapshot
    `see`                  every rank, for each batch    takes in a batch of the probe and what the model returned
    `share`, `compute`     every rank                    give what was seen, of this rank; a sum over ranks is made
    `analyze`              rank 0, or the worker         makes values of those sums, with NumPy alone
    `state`, `restore`     where `analyze` is called     what is kept between snapshots, and over a checkpoint
    ====================== ============================= ==============================================================

    `prepare`, `see` and `compute` run isolated: the model is in eval mode, without gradients (an attack may turn them
    on), and what they do to it, to buffers and to random streams is undone. They enter no collective. What goes wrong
    leaves the snapshot of this instrument out with a warning, or ends the run with ``on_error="raise"``; so does an
    ``FnetError`` before the first step.

    An instrument is its options, plain values that do not change once it is made, so that one object may be in several
    monitors. A run works on a copy, on which methods may set what attributes they like. In the worker there is another
    copy, made of those attributes that `__init__` and `prepare` set which are numbers, texts, arrays, or lists and
    mappings of such; it has nothing of what `begin`, `see` and `compute` set. The worker imports the class from its
    module: where that is a script, a notebook or a function, `analyze` runs on the training thread.

    Args:
        name: Prefix of the keys, ``<name>/<quantity>``; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"`` for ten a decade. Default: ``default_interval`` times
            the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.

    Raises:
        FnetError: An argument is out of range; the message names it.

    Example:
        How sure the model is of its first guess, on average over the probe:

        >>> from fnet_callbacks import Instrument, Monitor, Quantity
        >>> class Confidence(Instrument):
        ...     quantities = [
        ...         Quantity("mean", "mean confidence", "Mean probability of the first guess over the probe.", (0, 1))
        ...     ]
        ...
        ...     def __init__(self, *, name="confidence", every_n_steps=None, every_n_epochs=None, temperature=1.0):
        ...         super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        ...         self.temperature = temperature  # an option is an attribute of its name
        ...
        ...     def prepare(self, forward, probe):
        ...         pass
        ...
        ...     def begin(self, probe, num_classes):
        ...         self._sum, self._n = 0.0, 0
        ...
        ...     def see(self, batch, output):
        ...         self._sum += float((output / self.temperature).softmax(1).amax(1).sum())
        ...         self._n += batch.n_samples
        ...
        ...     def compute(self, model):
        ...         return {"sum": self._sum, "n": self._n}
        ...
        ...     def analyze(self, arrays):
        ...         return {"mean": arrays["sum"] / arrays["n"]}
        >>> monitor = Monitor([Confidence(temperature=2.0)], every_n_steps=50)
    """

    default_interval: ClassVar[int] = 1
    """Snapshots of the monitor to one of this instrument, where it has no schedule of its own."""
    quantities: ClassVar[Sequence[Quantity]] = ()
    """What `analyze` gives of the whole model, in words; each is logged as ``<name>/<its name>``."""
    analyzes_here: ClassVar[bool] = False
    """Whether `analyze` is so quick that it is called on the training thread."""
    source: Literal["probe", "train"] = "probe"
    """What it measures: the probe, or the ``live`` batches of training."""
    makes_passes: ClassVar[bool] = True
    """Whether it calls the model itself, as an attack does; False where it only sees, which sharded models allow."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _check_quantities(cls)
        cls.__init__ = _freezing(cls, cls.__init__)

    def __init__(
        self,
        *,
        name: str,
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
    ) -> None:
        self.name = as_name(name)
        self.every_n_steps, self.every_n_epochs = as_interval(every_n_steps, every_n_epochs)

    def __setattr__(self, name: str, value: Any) -> None:
        if vars(self).get("_is_frozen") and name in self.options:
            raise FnetError(
                f"`{name}` of {type(self).__name__} is fixed: it may be in several monitors. Make another instrument"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_") or name in (
            "setup",
            "teardown",
            "state_key",
        ):  # what a trainer asks of callbacks
            kind = type(self).__name__
            raise AttributeError(
                f"{kind} is an instrument, which a callback drives: Trainer(callbacks=[Monitor([{kind}(...)])])"
            )
        if (left := vars(self).get(LEFT_BEHIND, {}).get(name)) is not None:
            raise AttributeError(
                f"`{name}` is a {left}, which does not reach the worker: only numbers, texts, arrays, and lists and "
                'mappings of such do. Make it one of these, or analyze with `worker="inline"`'
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        given = vars(self).get("_given", ())
        shown = ", ".join(f"{name}={value!r}" for name, value in self.options.items() if name in given)
        return f"{type(self).__name__}({shown})"

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with, as the record has it: plain values, callables by their path."""
        names = [p.name for p in inspect.signature(type(self)).parameters.values() if p.kind != p.VAR_KEYWORD]
        values = {name: getattr(self, name, None) for name in names}
        return {name: _plain(value) for name, value in values.items()}

    def running(self, shared: Shared) -> Self:
        """A copy for one run."""
        made = copy.copy(self)
        own = {name: copy.copy(value) for name, value in vars(self).items() if isinstance(value, _MUTABLE)}
        vars(made).update(own, _is_frozen=False)
        made.shared, made.context, made.stopwatch, made.together = shared, Context(), Stopwatch(), None
        return made

    shared: Shared
    context: Context
    stopwatch: Stopwatch
    together: Any

    # What it says of itself, after `prepare`.

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says of it beside its options, such as its ``layers``."""
        return {}

    @property
    def description(self) -> str:
        """What is measured, in a line for the user."""
        return type(self).__name__

    @property
    def keys(self) -> list[Key]:
        """The keys of all values that it gives."""
        return [self.key(quantity) for quantity in self.quantities]

    @property
    def watcher(self) -> Watcher | None:
        """The hooks that a pass needs; None where the output is enough."""
        return None

    @property
    def live(self) -> LiveBatches | None:
        """The training batches that it measures in place of the probe; None where it measures the probe."""
        return None

    @property
    def takes_token_labels(self) -> bool:
        """Whether labels are one integer a token, and not one an input."""
        return False

    @property
    def has_figures(self) -> bool:
        """Whether there is anything to draw of its findings."""
        return False

    @property
    def time_limit(self) -> float | None:
        """Seconds after which the worker gives up a part of `analyze`; None for no limit."""
        return None

    @property
    def analysis(self) -> Analysis:
        """What analyzes; what is imported to make it is imported in the worker."""
        return self

    # What it does.

    @abstractmethod
    def prepare(self, forward: Forward, probe: Probe) -> None:
        """Looks at model and data once, before the first snapshot; every rank, isolated.

        Args:
            forward: The model: ``forward.module`` is all of it, ``forward(inputs)`` calls what ``model`` names;
                ``forward.example`` is the first batch of the probe, on its device.
            probe: The probe of this rank: ``n_samples`` and ``num_classes`` are those of all ranks.

        Raises:
            FnetError: They do not fit the options.
        """

    def num_classes(self, probe: Probe) -> int:
        """Classes among the labels that this rank knows of; 0 where there are none."""
        return probe.num_classes or 0

    def begin(self, probe: Probe, num_classes: int) -> None:  # noqa: B027 - an instrument need not do anything here
        """Starts a snapshot with nothing seen.

        Args:
            probe: The probe, which may have grown since the last snapshot.
            num_classes: The most that a rank knows of, C; 0 where one has none.
        """

    def see(self, batch: Batch, output: Any) -> None:  # noqa: B027
        """Takes in a batch of the probe; every rank, isolated.

        Args:
            batch: ``inputs``, ``labels`` (``[S]``, or None), ``n_samples``, on the model's device.
            output: What the model returned for it.
        """

    def share(self) -> Any:
        """What every rank needs of all ranks in `compute`, where it is found as ``self.together``; see there."""
        return {}

    def compute(self, model: Any) -> Any:
        """Sums up what was seen, or makes passes of its own; every rank, isolated.

        Args:
            model: The part of the model that is called.

        Returns:
            Tensors and numbers, in dictionaries and lists, of the same form on every rank: they are summed over ranks
            and come to `analyze` as arrays. Or one of ``fnet_callbacks.instruments.together``: `Parts` gathers,
            `OfRankZero` takes rank 0's.
        """
        return {}

    @abstractmethod
    def analyze(self, arrays: Any) -> Findings | Mapping[str, float]:
        """Makes values of what `compute` gave, summed over ranks; on rank 0 or in the worker, with NumPy alone.

        Args:
            arrays: As `compute` gave it, with arrays in place of tensors and numbers.

        Returns:
            Values by quantity; or `fnet_callbacks.findings.Findings`, which has values by full key, reasons of NaN, and
            arrays for the record.
        """

    def state(self) -> dict[str, Any]:
        """What the next snapshot is compared with: numbers, texts and arrays, for the checkpoint."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Goes on from a `state`, after `prepare` and before the first `analyze`; a new run does not call it."""

    @staticmethod
    def after_change(state: Mapping[str, Any]) -> dict[str, Any]:
        """What of a `state` holds where the run goes on with other settings, that is measured otherwise."""
        return {}

    def key(self, quantity: Quantity, place: str | None = None, layer: str | None = None) -> Key:
        """The key of a value, of the whole model or of a layer."""
        prefix = self.name if place is None else f"{self.name}_layers/{place}"
        return Key(f"{prefix}/{quantity.name}", self.name, quantity, place, layer)


def _check_quantities(cls: type[Instrument]) -> None:
    """Sees whether a class says in words what it measures.

    Raises:
        FnetError: It does not, or of two alike.
    """
    declared = vars(cls).get("quantities", ())
    if hasattr(declared, "__get__"):  # a property, which is known of an object
        return
    if not isinstance(declared, list | tuple) or not all(isinstance(own, Quantity) for own in declared):
        raise FnetError(
            f"`quantities` of {cls.__name__} should be a list of Quantity(name, label, definition), got {declared!r}"
        )
    names = [own.name for own in declared]
    if len({*names}) < len(names):
        raise FnetError(f"`quantities` of {cls.__name__} has two of one name: {', '.join(names)}")


def _plain(value: Any) -> Any:
    """An option as the record has it."""
    if isinstance(value, Quantity):
        return value.name
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    return path_of(value) if callable(value) else value


def _freezing(cls: type[Instrument], init: Any) -> Any:
    """The constructor of a class, after which an object of just this class does not change."""
    checking = naming_unknown(init, _elsewhere)

    @functools.wraps(init)
    def freezing(self: Instrument, *arguments: Any, **keywords: Any) -> None:
        checking(self, *arguments, **keywords)
        if type(self) is cls:
            vars(self)["_given"], vars(self)["_is_frozen"] = [*keywords], True

    return freezing


def _elsewhere(name: str) -> str:
    """Where an option belongs that an instrument does not have."""
    return f"it is the monitor's: Monitor(instruments, {name}=...)" if name in _OF_MONITOR else ""
