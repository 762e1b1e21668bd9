"""Silenced units show 0 to all that reads them, the last state of a recurrent layer too."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fnet_callbacks.capture.layers import choose_layers
from fnet_callbacks.capture.silencer import Silencer

S, T, FEATURES, HIDDEN = 5, 4, 3, 6


class Recurrent(nn.Module):
    """A classifier whose head reads the last state."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(FEATURES, HIDDEN, num_layers=2, **options)
        self.head = nn.Linear(HIDDEN * (2 if self.rnn.bidirectional else 1), 2)

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Outputs ``[S, T, D H]``, and the last layer's state and cells, ``[S, D H]``."""
        outputs, state = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))
        hidden, cells = state if isinstance(state, tuple) else (state, None)
        outputs = outputs if self.rnn.batch_first else outputs.transpose(0, 1)
        directions = 2 if self.rnn.bidirectional else 1
        last = [None if s is None else torch.cat([*s[-directions:]], dim=1) for s in (hidden, cells)]
        return outputs, last[0], last[1]  # type: ignore[return-value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.seen(x)[1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_the_last_state_is_silenced_with_the_outputs(
    kind: Any, batch_first: bool, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind, batch_first=batch_first, bidirectional=bidirectional).eval()
    x = torch.randn(S, T, FEATURES)
    (layer,) = choose_layers(model, model, x, n_samples=S, layers="rnn")
    units = np.array([0, HIDDEN - 1] + ([HIDDEN + 1] if bidirectional else []))
    whole = model.seen(x)
    with Silencer(model, [layer]).silenced([units]):
        outputs, hidden, cells = model.seen(x)
    assert (whole[1][:, units] != 0).all()
    for seen, before in (
        (outputs, whole[0]),
        (hidden, whole[1]),
        *(((cells, whole[2]),) if cells is not None else ()),
    ):
        expected = before.clone()  # type: ignore[union-attr]
        expected[..., units] = 0
        assert torch.equal(seen, expected)
    with Silencer(model, [layer]).silenced([np.arange(layer.n_units)]):
        assert torch.equal(model(x), model.head.bias.expand(S, 2))
