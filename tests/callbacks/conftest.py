"""Most tests of callbacks measure on the training thread: a process for each fit would cost two seconds a test."""

import pytest

from fnet_callbacks import Monitor
from fnet_callbacks.worker.analyst import Analyst

assert Monitor.__init__.__kwdefaults__["worker"] == "auto"
Monitor.__init__.__kwdefaults__["worker"] = "inline"


@pytest.fixture(autouse=True)
def _a_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs are over before a worker has begun, which would then not be what is tested."""
    monkeypatch.setattr(Analyst, "stop_waiting", lambda self: None)
