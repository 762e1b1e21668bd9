"""See what the neurons of a network do together while it trains.

``Monitor`` is the Lightning callback, and the instruments are what it measures, ``FunctionalNetwork`` first of all;
``fnet_callbacks.functional`` has every measure as a function of NumPy arrays; ``read_record`` opens what a run has
written; ``local_specialization`` asks what groups of units of a finished model are for.
"""

from typing import TYPE_CHECKING

from fnet_callbacks.imports import found_on_demand

if TYPE_CHECKING:
    from fnet_callbacks.codes.analysis import FunctionalCodesResult as FunctionalCodesResult
    from fnet_callbacks.codes.functional_codes import functional_codes as functional_codes
    from fnet_callbacks.drivers.early_stopping import BurnInEarlyStopping as BurnInEarlyStopping
    from fnet_callbacks.drivers.lightning import Monitor as Monitor
    from fnet_callbacks.errors import CaptureError as CaptureError
    from fnet_callbacks.errors import FnetError as FnetError
    from fnet_callbacks.errors import FnetWarning as FnetWarning
    from fnet_callbacks.errors import RecordError as RecordError
    from fnet_callbacks.functional.selection import GraphRule as GraphRule
    from fnet_callbacks.instruments.functional_codes import FunctionalCodes as FunctionalCodes
    from fnet_callbacks.instruments.functional_network import FunctionalNetwork as FunctionalNetwork
    from fnet_callbacks.instruments.instrument import Instrument as Instrument
    from fnet_callbacks.instruments.lesions import Lesions as Lesions
    from fnet_callbacks.instruments.local_specialization import LocalSpecialization as LocalSpecialization
    from fnet_callbacks.instruments.relu_regions import ReLURegions as ReLURegions
    from fnet_callbacks.instruments.robustness import Robustness as Robustness
    from fnet_callbacks.quantities.quantity import Quantity as Quantity
    from fnet_callbacks.record import Record as Record
    from fnet_callbacks.record import read_record as read_record
    from fnet_callbacks.regions.relu import ReLURegionsResult as ReLURegionsResult
    from fnet_callbacks.regions.relu import relu_regions as relu_regions
    from fnet_callbacks.specialization.findings import LocalSpecializationResult as LocalSpecializationResult
    from fnet_callbacks.specialization.local import local_specialization as local_specialization

__version__ = "0.1.0"
__all__ = [
    "BurnInEarlyStopping",
    "CaptureError",
    "FnetError",
    "FnetWarning",
    "FunctionalCodes",
    "FunctionalCodesResult",
    "FunctionalNetwork",
    "GraphRule",
    "Instrument",
    "Lesions",
    "LocalSpecialization",
    "LocalSpecializationResult",
    "Monitor",
    "Quantity",
    "ReLURegions",
    "ReLURegionsResult",
    "Record",
    "RecordError",
    "Robustness",
    "functional_codes",
    "local_specialization",
    "read_record",
    "relu_regions",
]

# So that `import fnet_callbacks.functional` pulls in neither torch nor Lightning.
__getattr__ = found_on_demand(
    __name__,
    {
        "BurnInEarlyStopping": "drivers.early_stopping",
        "CaptureError": "errors",
        "FnetError": "errors",
        "FnetWarning": "errors",
        "FunctionalCodes": "instruments.functional_codes",
        "FunctionalCodesResult": "codes.analysis",
        "FunctionalNetwork": "instruments.functional_network",
        "GraphRule": "functional.selection",
        "Instrument": "instruments.instrument",
        "Lesions": "instruments.lesions",
        "LocalSpecialization": "instruments.local_specialization",
        "LocalSpecializationResult": "specialization.findings",
        "Monitor": "drivers.lightning",
        "Quantity": "quantities.quantity",
        "ReLURegions": "instruments.relu_regions",
        "ReLURegionsResult": "regions.relu",
        "Record": "record",
        "RecordError": "errors",
        "Robustness": "instruments.robustness",
        "functional_codes": "codes.functional_codes",
        "local_specialization": "specialization.local",
        "read_record": "record",
        "relu_regions": "regions.relu",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
