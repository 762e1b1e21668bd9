"""What models, batches and arguments codes are found of, and which are refused."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from small_codes import batches, cnn, images, trained
from torch import Tensor, nn

from fnet_callbacks import CaptureError, FnetError, functional_codes
from fnet_callbacks.codes.layer import layer_codes
from fnet_callbacks.codes.measures import normalized_mutual_information


class PerToken(nn.Module):
    """Logits of each token, beside each other on the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cnn()
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        output = self.net(x).repeat_interleave(7, 0)
        self.seen.append(weakref.ref(output))
        return output


def test_outputs_that_are_no_logits_of_the_samples_have_no_predictions_and_are_not_kept() -> None:
    model = PerToken()
    alive: list[int] = []
    hook = model.register_forward_pre_hook(lambda m, _: alive.append(sum(r() is not None for r in m.seen)))
    found = functional_codes(model, batches(size=20))
    hook.remove()
    assert found.predictions is None
    assert np.isfinite(found.layers[0].label_ami)
    assert max(alive) <= 1


def test_samples_without_a_label_are_left_out_of_what_is_said_of_labels() -> None:
    inputs, labels = images()
    some = torch.where(torch.arange(200) < 60, -1, labels)
    found = functional_codes(cnn(), [(inputs, some)]).layers[-1]
    whole = functional_codes(cnn(), [(inputs, labels)]).layers[-1]
    assert found.units.tolist() == whole.units.tolist()
    assert found.label_nmi == pytest.approx(
        normalized_mutual_information(whole.units[60:], labels.numpy()[60:])
    )
    none = functional_codes(cnn(), [(inputs, torch.full((200,), -1))]).layers[-1]
    assert np.isnan([none.label_nmi, none.label_ami, none.compactness]).all()
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        functional_codes(cnn(), [(inputs, some)], epsilon=0.1, bounds=(0.0, 1.0))


def test_labels_far_apart_cost_no_more() -> None:
    inputs, labels = images()
    far = functional_codes(cnn(), [(inputs, labels * 10_000_000)]).layers[-1]
    near = functional_codes(cnn(), [(inputs, labels)]).layers[-1]
    assert (far.label_nmi, far.label_ami) == (near.label_nmi, near.label_ami)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(0))


def test_samples_may_be_on_the_second_axis() -> None:
    data = [(torch.rand(7, 16, 5), torch.arange(16) % 3) for _ in range(4)]
    found = functional_codes(TimeFirst(), data, max_samples=40)
    assert found.layers[0].codes.shape == (48, 8)  # batches are taken whole
    assert found.labels is not None
    assert len(found.labels) == 48


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.act, self.head = nn.Embedding(11, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.act(self.embedding(input_ids)).mean(1))


def test_padding_is_left_out_of_means_and_maxima() -> None:
    ids = torch.randint(1, 11, (40, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(40) % 9 + 1
    mask = torch.arange(9) < lengths[:, None]
    model = Tokens()
    padded = functional_codes(
        model, [{"input_ids": ids * mask, "attention_mask": mask.long()}], layers="act", maxima=True
    )
    with torch.no_grad():
        shown = model.act(model.embedding(ids))
    means = torch.stack([row[:n].mean(0) for row, n in zip(shown, lengths, strict=True)])
    maxima = torch.stack([row[:n].amax(0) for row, n in zip(shown, lengths, strict=True)])
    torch.testing.assert_close(padded["act"].mean, torch.cat([means, maxima], 1).double().mean(0))


class Mapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = cnn()

    def forward(self, x: Tensor) -> Any:
        return {"logits": self.net(x)}


def trained_mapping() -> Mapping:
    model = Mapping()
    trained(model.net)
    return model


def test_logits_are_found_where_it_is_said() -> None:
    plain = functional_codes(Mapping(), batches())
    assert plain.predictions is None
    told = functional_codes(
        trained_mapping(), batches(), output_to_logits=lambda o: o["logits"], epsilon=0.1, bounds=(0.0, 1.0)
    )
    assert told.predictions is not None
    assert np.isfinite(told.layers[0].prediction_nmi)
    with pytest.raises(FnetError, match="pass `output_to_logits`"):
        functional_codes(Mapping(), batches(), epsilon=0.1, bounds=(0.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (0, 3)}, r"`grid=\(0, 3\)`"),
        ({"grid": 4}, "`grid=4`"),
        ({"epsilon": 0.1}, "belong together"),
        ({"epsilon": -1.0, "bounds": (0, 1)}, "`epsilon=-1.0`"),
        ({"epsilon": 0.1, "bounds": (0.5, 0.6)}, "raw inputs span"),
        ({"epsilon": 0.1, "bounds": 1.0}, "`bounds=1.0`"),
        ({"epsilon": 0.1, "bounds": (0, 1), "normalize": 0.5}, "`normalize=0.5`"),
        ({"max_samples": 1}, "`max_samples=1`"),
        ({"output_to_logits": 3}, "`output_to_logits=3` is no entry of a Tensor"),
        ({"batch_to_labels": 3}, "`batch_to_labels=3`"),
        ({"layers": "nothing"}, "matches no module"),
        ({"signal": "both"}, "`signal='both'`"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        functional_codes(cnn(), batches(), **arguments)


def test_data_that_does_not_fit_is_named() -> None:
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        functional_codes(cnn(), [x for x, _ in batches()], epsilon=0.1, bounds=(0.0, 1.0))
    with pytest.raises(FnetError, match="`loader` has no batch"):
        functional_codes(cnn(), [])
    pairs = [((x, x), y) for x, y in batches()]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnn()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.net(a + b)

    assert len(functional_codes(Two(), pairs).layers) == 3
    with pytest.raises(CaptureError, match="attacks change one tensor"):
        functional_codes(Two(), pairs, epsilon=0.1, bounds=(0.0, 1.0))


def test_without_labels_there_is_nothing_of_classes() -> None:
    found = functional_codes(cnn(), [x for x, _ in batches()])
    assert found.labels is None
    assert found.predictions is None
    assert np.isnan([layer.label_ami for layer in found.layers]).all()


def test_the_first_samples_are_used() -> None:
    assert functional_codes(cnn(), batches(), max_samples=100).layers[0].units.shape == (100,)


def test_values_of_another_width_are_refused() -> None:
    layer = layer_codes("a", torch.randn(30, 4), (2, 2))
    with pytest.raises(FnetError, match=r"`values` should be \[S, 4\]"):
        layer.standardized(torch.randn(3, 5))


def test_batches_without_a_tensor_are_named() -> None:
    with pytest.raises(
        CaptureError, match=r"no input tensor found in a batch of type list; pass `batch_to_inputs`"
    ):
        functional_codes(cnn(), [["a", "b"]])
