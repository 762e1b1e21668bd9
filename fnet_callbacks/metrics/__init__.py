"""Running sums over batches and ranks, and what they come to, on the device where the activations are."""

from fnet_callbacks.metrics.activation_statistics import ActivationStatistics, ActivationSummary
from fnet_callbacks.metrics.running_correlation import RunningCorrelation
from fnet_callbacks.metrics.selection import select_on_device

__all__ = ["ActivationStatistics", "ActivationSummary", "RunningCorrelation", "select_on_device"]
