"""Models of which parts were converted to eight bits, below a head that is still trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import seed_everything
from small_models import CLASSES, Net, loader, monitor, network, record, trainer
from torch import nn
from torch.ao import quantization

from fnet_callbacks import CaptureError, Lesions, local_specialization
from fnet_callbacks.capture.layers import choose_layers
from fnet_callbacks.capture.silencer import Silencer

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}")
    for start in (
        "torch.ao.quantization",
        "torch.quantize_per_tensor",
        "Please use quant_min",
        ".*in eval mode",
    )
]


def dynamic() -> Net:
    """Weights of eight bits, activations as they were."""
    net = Net()
    net.net = quantization.quantize_dynamic(net.net, {nn.Linear}, dtype=torch.qint8)
    net.net.append(nn.Linear(CLASSES, CLASSES))
    return net


def static() -> Net:
    """Weights and activations of eight bits."""
    net = Net()
    whole = nn.Sequential(quantization.QuantStub(), *net.net, quantization.DeQuantStub()).eval()
    whole.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(whole)
    prepared(next(iter(loader()))[0])
    net.net = nn.Sequential(*quantization.convert(prepared), nn.Linear(CLASSES, CLASSES))
    return net


BOTH = pytest.mark.parametrize("make, names", [(dynamic, ["net.1", "net.3"]), (static, ["net.2", "net.4"])])


@BOTH
def test_converted_parts_are_watched_and_the_head_is_trained(
    tmp_path: Path, make: Callable[[], Net], names: list[str]
) -> None:
    seed_everything(0)
    net = make()
    before = net.net[-1].weight.detach().clone()
    watched = monitor(4, network(measures="fast"), Lesions(every_n_steps=4), worker="inline")
    trainer(tmp_path, watched).fit(net, loader())
    own = record(tmp_path)
    assert [layer["name"] for layer in own.manifest["instruments"]["fnet"]["layers"]] == names
    assert np.isfinite(own.series("fnet/modularity")).all()
    assert np.isfinite(own.series("lesion/random_tolerance")).all()
    assert not torch.equal(net.net[-1].weight, before)


def test_quantised_units_are_silenced_like_others() -> None:
    seed_everything(0)
    net = static().eval()
    x = next(iter(loader()))[0]
    found: list[torch.Tensor] = []
    layer = choose_layers(net, net, x, n_samples=len(x), layers="net.2")[0]
    with Silencer(net, [layer]).silenced([np.array([0, 5])]):
        handle = net.net[2].register_forward_hook(lambda _, __, output: found.append(output))
        net(x)
        handle.remove()
    net.net[2].register_forward_hook(lambda _, __, output: found.append(output))
    net(x)
    silenced, whole = (seen.dequantize() for seen in found)
    assert whole[:, [0, 5]].abs().sum() > 0
    whole[:, [0, 5]] = 0
    assert torch.equal(silenced, whole)
    assert found[0].q_scale() == found[1].q_scale()


def test_groups_of_quantised_units_are_refused_by_the_layer() -> None:
    seed_everything(0)
    with pytest.raises(CaptureError, match=r"layer net\.2 shows quantised values"):
        local_specialization(static(), loader(), graph="activations")


@BOTH
def test_packed_weights_make_no_graph(make: Callable[[], Net], names: list[str]) -> None:
    with pytest.raises(CaptureError, match=r"units cannot be followed through net\.0 .*graph='activations'"):
        local_specialization(make(), loader(), graph="weights")
