"""Most tests of callbacks measure on the training thread: a process for each fit would cost two seconds a test."""

from fnet_callbacks import FunctionalNetworkMonitor

assert FunctionalNetworkMonitor.__init__.__kwdefaults__["worker"] == "process"
FunctionalNetworkMonitor.__init__.__kwdefaults__["worker"] = "inline"
