"""Lightning callbacks; one base owns schedule, isolation, record and sinks, a monitor says what to measure."""

from fnet_callbacks.callbacks.early_stopping import BurnInEarlyStopping
from fnet_callbacks.callbacks.functional_codes import FunctionalCodeMonitor
from fnet_callbacks.callbacks.functional_network import FunctionalNetworkMonitor
from fnet_callbacks.callbacks.lesions import LesionMonitor
from fnet_callbacks.callbacks.local_specialization import LocalSpecializationMonitor
from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor
from fnet_callbacks.callbacks.relu_regions import ReLURegionMonitor
from fnet_callbacks.callbacks.robustness import RobustnessMonitor

__all__ = [
    "BurnInEarlyStopping",
    "FunctionalCodeMonitor",
    "FunctionalNetworkMonitor",
    "LesionMonitor",
    "LocalSpecializationMonitor",
    "ProbeMonitor",
    "ReLURegionMonitor",
    "RobustnessMonitor",
]
