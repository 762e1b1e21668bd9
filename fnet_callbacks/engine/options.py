"""What is said once for all instruments of a monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fnet_callbacks.arguments import as_choice, as_integer, as_text, plain
from fnet_callbacks.capture.batches import as_getter, path_of
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.engine.budget import as_share
from fnet_callbacks.errors import FnetError
from fnet_callbacks.instruments.arguments import Figures, as_figures, as_interval, as_log
from fnet_callbacks.instruments.functional_network import FunctionalNetwork
from fnet_callbacks.instruments.instrument import Instrument, Shared

DEFAULT_STEPS = 100
Getter = Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a monitor; see ``Monitor`` for each."""

    instruments: tuple[Instrument, ...]
    every_n_steps: int | Literal["log"] | None
    every_n_epochs: int | None
    overhead_budget: float | None
    worker: Literal["auto", "process", "inline"]
    when_busy: Literal["wait", "skip"]
    probe: Any
    probe_size: int
    probe_seed: int
    batch_to_inputs: Getter
    batch_to_labels: Getter
    model: str | None
    figures: Figures
    log: str | list[str]
    folder: Path | None
    on_error: Literal["warn", "raise"]

    @classmethod
    def of(cls, *, instruments: Any, every_n_steps: Any, every_n_epochs: Any, **rest: Any) -> Options:
        """The options of what the user said.

        Raises:
            FnetError: One is out of range; the message names it.
        """
        steps, epochs = as_interval(every_n_steps, every_n_epochs)
        probe, folder = rest["probe"], rest["folder"]
        if folder is not None and not isinstance(folder, str | Path):
            raise FnetError(f"`folder={folder!r}` should be the path of the run's folder")
        made = cls(
            instruments=as_instruments(instruments),
            every_n_steps=DEFAULT_STEPS if steps is None and epochs is None else steps,
            every_n_epochs=epochs,
            overhead_budget=as_share(plain("overhead_budget", rest["overhead_budget"])),
            worker=as_choice("worker", rest["worker"], ("auto", "process", "inline")),
            when_busy=as_choice("when_busy", rest["when_busy"], ("wait", "skip")),
            probe=str(probe) if isinstance(probe, str) else probe,
            # One sample has no correlation.
            probe_size=as_integer("probe_size", rest["probe_size"], at_least=2),
            probe_seed=as_integer("probe_seed", rest["probe_seed"], at_least=0),
            batch_to_inputs=as_getter(rest["batch_to_inputs"], "batch_to_inputs"),
            batch_to_labels=as_getter(rest["batch_to_labels"], "batch_to_labels"),
            model=as_text("model", rest["model"]),
            figures=as_figures(rest["figures"]),
            log=as_log(rest["log"]),
            folder=None if folder is None else Path(folder),
            on_error=as_choice("on_error", rest["on_error"], ("warn", "raise")),
        )
        live = [i for i in made.instruments if i.source == "train"]
        if probe is not None and len(live) == len(made.instruments):
            raise FnetError(
                f"`probe` is not measured by {live[0].name!r} with `source='train'`, which takes live batches; leave "
                "one of them out"
            )
        return made

    @property
    def reader(self) -> BatchReader:
        """What finds inputs and labels in a batch."""
        return BatchReader(self.batch_to_inputs, self.batch_to_labels)

    @property
    def shared(self) -> Shared:
        """What instruments are told of them."""
        return Shared(self.probe_size, self.probe_seed, self.on_error, self.figures is not None)

    def settings(self) -> Mapping[str, Any]:
        """What the record says of them, in plain values."""
        return {
            "every_n_steps": self.every_n_steps,
            "every_n_epochs": self.every_n_epochs,
            "overhead_budget": self.overhead_budget,
            "worker": self.worker,
            "when_busy": self.when_busy,
            "probe_size": self.probe_size,
            "probe_seed": self.probe_seed,
            "batch_to_inputs": path_of(self.batch_to_inputs),
            "batch_to_labels": path_of(self.batch_to_labels),
            "model": self.model,
            "figures": self.figures,
            "log": self.log,
            "on_error": self.on_error,
        }


def as_instruments(value: Any) -> tuple[Instrument, ...]:
    """The instruments of a monitor, each with a name of its own; the functional network where none are given.

    Raises:
        FnetError: One is no instrument, or two have one name.
    """
    if value is None:
        return (FunctionalNetwork(),)
    if isinstance(value, Mapping) and any(isinstance(one, Instrument) for one in value.values()):
        value = value.values()  # by name, as Hydra's configurations may have them
    is_one = isinstance(value, str | type | Mapping) or not isinstance(value, Iterable)
    listed: list[Any] = [value] if is_one else [*cast(Any, value)]
    if not listed:
        raise FnetError("`instruments=[]` measures nothing; leave it out for the functional network")
    for one in listed:
        if isinstance(one, type) and issubclass(one, Instrument):
            raise FnetError(
                f"`instruments` has the class {one.__name__}; it should be an object, {one.__name__}(...)"
            )
        if not isinstance(one, Instrument):
            raise FnetError(
                f"`instruments` has {one!r:.100}; each should be an instrument, such as FunctionalNetwork()"
            )
    names = [instrument.name for instrument in listed]
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise FnetError(
            f"`instruments` has {twice!r} twice, and each needs a `name` of its own: it is the prefix of its keys"
        )
    return tuple(listed)
