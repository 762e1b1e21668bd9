"""Packed sequences: what a layer shows of them, with no padding in it, and how it is changed."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from fnet_callbacks.capture.calls import first_tensor, with_first_tensor
from fnet_callbacks.capture.layers import choose_layers
from fnet_callbacks.capture.packed import last_tokens, padded, repacked
from fnet_callbacks.capture.silencer import Silencer
from fnet_callbacks.capture.watcher import Watcher

LENGTHS = (2, 5, 3, 1)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(n, 3, generator=generator) for n in LENGTHS]


def packed() -> PackedSequence:
    return pack_sequence(sequences(), enforce_sorted=False)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module] = nn.LSTM, **options: bool) -> None:
        super().__init__()
        self.rnn = kind(3, 4, **options)
        self.head = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: PackedSequence) -> Tensor:
        _, state = self.rnn(x)
        hidden = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([*hidden[-2:]], -1) if self.rnn.bidirectional else hidden[-1])


def watched(model: nn.Module, **options: int) -> Tensor:
    layers = choose_layers(model, model, packed(), n_samples=4)
    watcher = Watcher(model, layers, [np.arange(layer.n_units) for layer in layers], **options)
    watcher.expect(4)
    with watcher.attached(), torch.no_grad():
        model(packed())
    return watcher.rows()


def test_the_mask_says_where_there_are_tokens_and_packing_again_gives_the_same():
    values, mask = padded(packed())
    assert mask.sum(1).tolist() == list(LENGTHS)
    assert torch.equal(last_tokens(values, mask), torch.stack([s[-1] for s in sequences()]))
    again = repacked(values, like=packed())
    assert torch.equal(again.data, packed().data)
    assert torch.equal(pad_packed_sequence(again, batch_first=True)[0], values)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bidirectional": True}])
def test_a_sample_is_the_mean_of_its_own_outputs(kind, options):
    model = Recurrent(kind, **options)
    time = 0 if not options.get("batch_first") else 1
    with torch.no_grad():
        alone = [model.rnn(s.unsqueeze(1 - time))[0].mean(time)[0] for s in sequences()]
    torch.testing.assert_close(watched(model), torch.stack(alone))


def test_tokens_are_drawn_of_those_there_are():
    model = Recurrent()
    with torch.no_grad():
        alone = torch.cat([model.rnn(s)[0] for s in sequences()])
    found = watched(model, tokens_per_sample=9)
    assert len(found) == sum(LENGTHS)
    torch.testing.assert_close(found, alone)
    assert len(watched(model, tokens_per_sample=2)) == 2 + 2 + 2 + 1


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_state_follows_from_changed_outputs(kind, bidirectional):
    rnn = kind(3, 4, bidirectional=bidirectional)
    given = rnn(packed())
    same = with_first_tensor(given, first_tensor(given), given_by=rnn)
    torch.testing.assert_close(same[0].data, given[0].data)
    torch.testing.assert_close(same[1], given[1])
    halved = with_first_tensor(given, first_tensor(given) / 2, given_by=rnn)
    of_state = [pair[0] if isinstance(pair, tuple) else pair for pair in (halved[1], given[1])]
    torch.testing.assert_close(*[2 * of_state[0], of_state[1]])


def test_units_of_a_packed_layer_are_silenced():
    model = Recurrent()
    layers = choose_layers(model, model, packed(), n_samples=4)
    with torch.no_grad(), Silencer(model, layers).silenced([np.arange(4)]):
        torch.testing.assert_close(model(packed()), model.head.bias.expand(4, 2))
