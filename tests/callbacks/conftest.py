"""Most tests of callbacks measure on the training thread: a process for each fit would cost two seconds a test."""

from fnet_callbacks import Monitor

assert Monitor.__init__.__kwdefaults__["worker"] == "auto"
Monitor.__init__.__kwdefaults__["worker"] = "inline"
