"""See what the neurons of a network do together while it trains.

The monitors are Lightning callbacks, ``FunctionalNetworkMonitor`` first of all; ``fnet_callbacks.functional`` has every
measure as a function of NumPy arrays; ``read_record`` opens what a run has written; ``local_specialization`` asks what
groups of units of a finished model are for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnet_callbacks.callbacks import (
        BurnInEarlyStopping,
        FunctionalCodeMonitor,
        FunctionalNetworkMonitor,
        LesionMonitor,
        LocalSpecializationMonitor,
        ReLURegionMonitor,
        RobustnessMonitor,
    )
    from fnet_callbacks.codes.analysis import FunctionalCodesResult
    from fnet_callbacks.codes.functional_codes import functional_codes
    from fnet_callbacks.errors import CaptureError, FnetError, FnetWarning, RecordError
    from fnet_callbacks.record import Record, read_record
    from fnet_callbacks.regions.relu import ReLURegionsResult, relu_regions
    from fnet_callbacks.specialization.findings import LocalSpecializationResult
    from fnet_callbacks.specialization.local import local_specialization

__version__ = "0.1.0"
__all__ = [
    "BurnInEarlyStopping",
    "CaptureError",
    "FnetError",
    "FnetWarning",
    "FunctionalCodeMonitor",
    "FunctionalCodesResult",
    "FunctionalNetworkMonitor",
    "LesionMonitor",
    "LocalSpecializationMonitor",
    "LocalSpecializationResult",
    "ReLURegionMonitor",
    "ReLURegionsResult",
    "Record",
    "RecordError",
    "RobustnessMonitor",
    "functional_codes",
    "local_specialization",
    "read_record",
    "relu_regions",
]

# Resolved when asked for, so that `import fnet_callbacks.functional` pulls in neither torch nor Lightning.
_HOME = {
    "BurnInEarlyStopping": "callbacks",
    "CaptureError": "errors",
    "FnetError": "errors",
    "FnetWarning": "errors",
    "FunctionalCodeMonitor": "callbacks",
    "FunctionalCodesResult": "codes.analysis",
    "FunctionalNetworkMonitor": "callbacks",
    "LesionMonitor": "callbacks",
    "LocalSpecializationResult": "specialization.findings",
    "LocalSpecializationMonitor": "callbacks",
    "ReLURegionMonitor": "callbacks",
    "ReLURegionsResult": "regions.relu",
    "Record": "record",
    "RecordError": "errors",
    "RobustnessMonitor": "callbacks",
    "functional_codes": "codes.functional_codes",
    "local_specialization": "specialization.local",
    "read_record": "record",
    "relu_regions": "regions.relu",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
