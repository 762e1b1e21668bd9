"""Running sums over batches and ranks; what they compute comes from `fnet_callbacks.functional`."""

from fnet_callbacks.metrics.activation_statistics import ActivationStatistics, ActivationSummary
from fnet_callbacks.metrics.running_correlation import RunningCorrelation

__all__ = ["ActivationStatistics", "ActivationSummary", "RunningCorrelation"]
