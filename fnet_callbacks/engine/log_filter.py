"""Which of the values of a run its loggers get."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from fnet_callbacks.arguments import some_names
from fnet_callbacks.errors import FnetError
from fnet_callbacks.keys import Key

_COST = "monitor_cost"


class LogFilter:
    """What the option ``log`` of the monitor chooses.

    Args:
        log: ``"auto"``, ``"all"``, or globs over keys; see ``Monitor``.
        keys: Those of all that is measured. Parts of the cost have none before they are paid.
        instruments: The names of all instruments.

    Attributes:
        keys: Those of ``keys`` that the loggers get.

    Raises:
        FnetError: A glob matches no key of the run.
    """

    def __init__(self, log: str | Sequence[str], keys: Sequence[Key], instruments: Iterable[str]) -> None:
        self._log = log
        self._globs = [log] if isinstance(log, str) else list(log)
        # Of an instrument that measures the whole network too, they stand in a folder beside its own.
        self._of_layers = {
            k.key for k in keys if k.place is not None and not k.key.startswith(f"{k.instrument}/")
        }
        if log not in ("auto", "all"):
            self._check([k.key for k in keys], [f"{_COST}/{name}" for name in instruments])
        self.keys = [k for k in keys if self._has(k.key)]

    def of(self, values: Mapping[str, float]) -> dict[str, float]:
        """Those of some values, by key, that the loggers get."""
        return {key: value for key, value in values.items() if self._has(key)}

    def _has(self, key: str) -> bool:
        if self._log == "all":
            return True
        if self._log == "auto":
            return key not in self._of_layers and not key.startswith(f"{_COST}/")
        return any(fnmatch.fnmatchcase(key, glob) for glob in self._globs)

    def _check(self, keys: Sequence[str], costs: Sequence[str]) -> None:
        known = [*keys, *(f"{cost}/total" for cost in costs)]
        for glob in self._globs:
            is_found = any(fnmatch.fnmatchcase(key, glob) for key in known)
            if not is_found and glob.startswith(f"{_COST}/"):
                # Which parts a cost has shows when they are paid: only whose it is can be looked at.
                whose = glob.rpartition("/")[0]
                is_found = any(fnmatch.fnmatchcase(cost, whose) for cost in costs)
            if not is_found:
                raise FnetError(
                    f"`log`: {glob!r} matches no key of this run; there are: {some_names(known, like=glob)}"
                )
