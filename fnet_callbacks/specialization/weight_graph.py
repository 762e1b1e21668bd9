"""The graph of a network's weights: units as nodes, absolute weights as edges, for any model that `torch.fx` traces."""

from __future__ import annotations

from typing import Any

from torch import nn

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization.growth import WeightGraph
from fnet_callbacks.specialization.tracing import Shapes, symbolic_trace
from fnet_callbacks.specialization.wiring import Wiring


def weight_graph(model: nn.Module, inputs: Any) -> WeightGraph:
    """The graph of a model's weights.

    A unit of a linear layer is a feature, of a convolution a channel; the edge between two of a convolution is the sum
    of the absolute weights of its kernel, and after a flattening that over the positions. Inputs are channels, or
    single entries where they are flattened before any weight.

    BatchNorm is folded: a running scale multiplies the weights into its channels, or, where something else reads these
    too, those out of them. So is every other factor of a unit that does not depend on the input: the weight of
    LayerNorm, RMSNorm, GroupNorm and InstanceNorm (what these take from the sample counts as 1), a parameter, mask or
    number that units are multiplied with or divided by, the ``alpha`` of a sum, and the positions that a sum runs over
    (it is as many means). A factor that depends on the input (a gate), that is drawn, or that differs between the
    samples or positions of a channel is refused.

    Pooling, activation functions and dropout let units pass. A residual sum makes the units that it adds one node each;
    where one of them is multiplied, their ratio is folded into the weights to one that nothing else reads, so that what
    comes through the sum is right, and refused where there is none. A concatenation sets units side by side.

    Args:
        model: Any module that `torch.fx` traces; its weights are read, nothing is changed.
        inputs: What it is called with, a tensor or a tuple; one sample is enough. It is called once, in eval mode and
            without gradients.

    Raises:
        CaptureError: The model cannot be traced, or an operation in it has no known way from units to units; the
            message names it.

    Reference: Hod et al. (2021), arXiv 2110.08058, section 2.1 of whose graphs this is the ``norm=1`` one, with the
        entrywise norm that the text has; Filan et al. (2021), arXiv 2103.03386.
    Cost: one forward pass, all of whose activations are kept; memory of one number for each pair of channels or
        features that a layer joins.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        traced = Shapes(symbolic_trace(model, inputs)).noted(inputs)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise CaptureError(
            f"`graph='weights'`: {type(model).__name__} cannot be traced by torch.fx ({error}); graph='activations' "
            "needs no trace"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    return Wiring(traced).graph()
