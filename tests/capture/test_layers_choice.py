"""Which activations are watched, under which names, with which axes."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.errors import CaptureError, FnetWarning

S = 6  # samples; no other length in these tests is a 6, unless it says so


def choose(model: nn.Module, *inputs: torch.Tensor, **options) -> list[Layer]:
    with isolated(model, seed=0):
        return choose_layers(model, lambda given: model(*given), inputs, n_samples=S, **options)


def names(model: nn.Module, *inputs: torch.Tensor, **options) -> list[str]:
    return [layer.name for layer in choose(model, *inputs, **options)]


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2), nn.Softmax(1)
    )


def test_auto_takes_the_nonlinearities_of_a_classifier_and_leaves_its_head_out():
    layers = choose(mlp(), torch.rand(S, 3))
    assert [(layer.name, layer.n_units, layer.unit_axis) for layer in layers] == [("1", 5, 1), ("3", 4, 1)]


def test_auto_leaves_out_a_nonlinearity_behind_the_head():
    assert names(
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1), nn.Sigmoid()), torch.rand(S, 3)
    ) == ["1"]


def test_auto_takes_parametric_modules_where_there_is_no_nonlinearity_module():
    assert names(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)), torch.rand(S, 3)) == [
        "0",
        "1",
    ]


@pytest.mark.parametrize("first", [nn.Identity(), nn.Flatten()])
def test_auto_watches_the_head_where_there_is_nothing_else(first):
    assert names(nn.Sequential(first, nn.Linear(3, 2)), torch.rand(S, 3)) == ["1"]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_units_of_a_convolution_are_its_channels(dims):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    model = nn.Sequential(conv(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.ReLU(), nn.LazyLinear(2))
    inputs = torch.rand(S, 2, *[4] * dims)
    model(inputs)
    spatial, flat = choose(model, inputs)
    assert (spatial.batch_axis, spatial.unit_axis, spatial.n_units) == (0, 1, 5)
    assert (flat.batch_axis, flat.unit_axis, flat.n_units) == (0, 1, 5 * 2**dims)


def test_a_channels_last_block_behind_a_convolution_has_its_units_last():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.act, self.head = (
                nn.Conv2d(2, 5, 1),
                nn.LayerNorm(5),
                nn.GELU(),
                nn.Linear(5, 1),
            )

        def forward(self, x):
            return self.head(self.act(self.norm(self.conv(x).permute(0, 2, 3, 1))))

    (layer,) = choose(Block(), torch.rand(S, 2, 4, 4))
    assert (layer.name, layer.batch_axis, layer.unit_axis, layer.n_units) == ("act", 0, 3, 5)


def test_every_call_of_a_shared_module_is_an_entry_of_its_own():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.relu = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2), nn.ReLU()

        def forward(self, x):
            return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))

    layers = choose(Shared(), torch.rand(S, 3))
    assert [(layer.name, layer.n_units) for layer in layers] == [("relu#0", 5), ("relu#1", 4)]
    assert {layer.n_calls for layer in layers} == {3}


def test_a_nonlinearity_that_a_sequential_holds_twice_has_one_name():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 5), relu, nn.Linear(5, 4), relu, nn.Linear(4, 2))
    assert names(model, torch.rand(S, 3)) == ["1#0", "1#1"]


def test_the_pre_activation_is_the_input_of_the_nonlinearity():
    model = nn.Sequential(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2))
    (post,), (pre,) = choose(model, torch.rand(S, 3)), choose(model, torch.rand(S, 3), signal="pre")
    assert (post.takes_input, post.n_units) == (False, 4)
    assert (pre.takes_input, pre.n_units) == (True, 8)


def test_patterns_match_names_and_come_in_the_order_of_computation():
    assert names(mlp(), torch.rand(S, 3), layers=["3", "[01]"]) == ["0", "1", "3"]


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
        self.head = nn.Linear(5, 2)
        self.idle = nn.Linear(1, 1)

    def forward(self, x):
        return self.head(self.block(x))


def test_of_nested_matches_the_innermost_count_and_a_plain_name_is_taken_as_it_is():
    assert names(Nested(), torch.rand(S, 3), layers="block*") == ["block.0", "block.1"]
    assert names(Nested(), torch.rand(S, 3), layers="block") == ["block"]


def test_a_pattern_that_matches_nothing_is_named_beside_what_there_is():
    with pytest.raises(CaptureError, match=r"'conv\*' matches no module; there are: block, block.0"):
        choose(Nested(), torch.rand(S, 3), layers=["block", "conv*"])


def test_a_module_that_never_runs_is_named_beside_those_that_do():
    with pytest.raises(CaptureError, match=r"the hook on idle never fires.*block, block.0, block.1, head"):
        choose(Nested(), torch.rand(S, 3), layers=["idle"])


def test_a_model_without_modules_leaves_nothing_to_watch():
    with pytest.raises(CaptureError, match="leaves nothing to watch; modules that ran: none"):
        choose(nn.Identity(), torch.rand(S, 3))


def test_an_unknown_signal_is_refused():
    with pytest.raises(CaptureError, match="`signal='past'` should be 'post' or 'pre'"):
        choose(mlp(), torch.rand(S, 3), signal="past")


def test_a_layer_that_returns_a_dict_is_named():
    class Dict(nn.Module):
        def forward(self, x):
            return {"out": x}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.head = Dict(), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.part(x)["out"])

    with pytest.raises(CaptureError, match="`layers`: part gives no tensor"):
        choose(Model(), torch.rand(S, 3), layers="part")
    assert names(Model(), torch.rand(S, 3)) == ["head"]


def test_a_layer_without_an_axis_of_samples_is_left_out_by_auto_and_named_when_asked_for():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.position, self.token, self.head = nn.Embedding(4, 5), nn.Embedding(9, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.position(torch.arange(4)) + self.token(x))

    tokens = torch.zeros(S, 4, dtype=torch.long)
    assert names(Positions(), tokens) == ["token"]
    with pytest.raises(
        CaptureError, match=r"position has shape \[4, 5\], in which no axis has the batch's 6"
    ):
        choose(Positions(), tokens, layers="position")


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("recurrent", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_shows_its_sequence_whatever_its_layout(recurrent, batch_first):
    model = recurrent(3, 5, batch_first=batch_first)
    inputs = torch.rand(S, 4, 3) if batch_first else torch.rand(4, S, 3)
    (layer,) = choose(nn.Sequential(model), inputs)
    assert (layer.batch_axis, layer.unit_axis, layer.n_units) == (0 if batch_first else 1, 2, 5)


def test_the_last_state_of_a_sequence_has_its_samples_first_even_where_there_are_as_many_units():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.hidden, self.act, self.head = (
                nn.GRU(3, 5),
                nn.Linear(5, S),
                nn.ReLU(),
                nn.Linear(S, 2),
            )

        def forward(self, x):
            return self.head(self.act(self.hidden(self.gru(x)[0][-1])))

    layers = choose(Classifier(), torch.rand(4, S, 3))
    assert [(a.name, a.batch_axis, a.unit_axis) for a in layers] == [("gru", 1, 2), ("act", 0, 1)]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("length", [4, S], ids=["short", "as long as the batch"])
def test_a_recurrent_layer_that_gives_a_packed_sequence_shows_its_units(batch_first, length):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(3, 5, batch_first=batch_first), nn.Linear(5, 2)

        def forward(self, x):
            lengths = torch.arange(S) % length + 1
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.gru(packed)[1][0])

    (layer,) = choose(Packed(), torch.rand(S, length, 3))
    assert (layer.name, layer.batch_axis, layer.n_units) == ("gru", 0, 5)


def test_embedding_and_attention_show_their_features():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.embed(x)
            return self.head(self.attention(x, x, x)[0].mean(1))

    layers = choose(Attention(), torch.zeros(S, 4, dtype=torch.long))
    assert [layer.name for layer in layers] == ["embed", "attention"]
    assert {(layer.batch_axis, layer.unit_axis, layer.n_units) for layer in layers} == {(0, 2, 8)}


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_encoder_is_watched_inside_although_it_could_run_fused(batch_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))
    inputs = torch.rand(S, 4, 8) if batch_first else torch.rand(4, S, 8)
    layers = choose(model, inputs, layers="*.linear1")
    assert [layer.name for layer in layers] == ["0.layers.0.linear1", "0.layers.1.linear1"]
    assert {(layer.batch_axis, layer.n_units) for layer in layers} == {(0 if batch_first else 1, 16)}


def test_tokens_that_are_folded_into_the_batch_are_seen():
    class Folding(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.act, self.head = nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.act(self.hidden(x.flatten(0, 1))))

    (layer,) = choose(Folding(), torch.rand(S, 4, 3))
    assert (layer.batch_axis, layer.unit_axis, layer.is_folded) == (0, 1, True)


def test_a_compiled_part_keeps_its_plain_name():
    model = nn.Sequential(
        torch.compile(nn.Sequential(nn.Linear(3, 5), nn.ReLU()), backend="eager"), nn.Linear(5, 2)
    )
    assert names(model, torch.rand(S, 3)) == ["0.1"]
    assert names(model, torch.rand(S, 3), layers="0") == ["0"]


def test_the_hooks_of_the_trial_pass_are_gone_after_it_even_if_it_failed():
    model = mlp()
    with pytest.raises(RuntimeError):
        choose(model, torch.rand(S, 7))
    assert not any(m._forward_hooks for m in model.modules())


class Routed(nn.Module):
    """Sends some tokens to a part of itself; to another, as wide as the batch is long, an odd number."""

    def __init__(self, some: int) -> None:
        super().__init__()
        self.n_tokens = some
        self.all, self.act, self.some, self.head = nn.Linear(3, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 2)
        self.flat, self.wide, self.odd = nn.ReLU(), nn.Linear(5, S), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_tokens = self.n_tokens if len(x) == S else self.n_tokens // 2 + 1
        x = self.act(self.all(x))
        self.flat(x.flatten(0, 1))
        self.some(x.flatten(0, 1)[:n_tokens])
        self.odd(self.wide(x.flatten(0, 1)[: n_tokens + 1]))
        return self.head(x.mean(1))


@pytest.mark.parametrize("some", [2 * S, S], ids=["twice the samples", "as many as samples"])
def test_what_is_as_long_as_the_batch_by_chance_has_no_samples(some: int):
    model, inputs = Routed(some), torch.randn(S, 7, 3)
    with pytest.warns(FnetWarning, match=r"leaves out some .*odd .*no axis has the \d+ samples of the batch"):
        found = choose(model, inputs)
    assert [layer.name for layer in found] == ["act", "flat"]
    assert [layer.is_folded for layer in found] == [False, True]
    assert names(model, inputs, layers="some") == ["some"]  # who names it knows


def test_where_the_batch_cannot_be_halved_nothing_is_left_out():
    class Joined(nn.Module):
        """Graphs of a batch behind one another, as block-diagonal ones are."""

        def __init__(self) -> None:
            super().__init__()
            self.lift, self.act, self.head = nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(self.lift(x)).unflatten(0, (S, -1)).mean(1))

    assert names(Joined(), torch.randn(4 * S, 3)) == ["act"]


class Graphs(nn.Module):
    """Nodes of all graphs one behind the other, and a vector that says whose each is."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.act, self.head = nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return self.head(torch.zeros(int(batch.max()) + 1, 12).index_add(0, batch, self.act(self.lift(x))))


def graphs(*n_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    owners = torch.repeat_interleave(torch.arange(len(n_nodes)), torch.tensor(n_nodes))
    return torch.rand(len(owners), 3), owners


@pytest.mark.parametrize(
    "n_nodes", [(3, 4, 2), (3, 5, 1), (2,) * 11 + (3,)], ids=["odd", "a multiple", "as wide as the batch"]
)
def test_nodes_of_graphs_are_of_no_sample_and_it_is_said_that_the_head_alone_is_left(n_nodes):
    model, inputs = Graphs(), graphs(*n_nodes)
    with pytest.warns(
        FnetWarning, match="leaves out lift, act .*; it watches only the output head, head; name"
    ):
        found = choose_layers(model, lambda x: model(*x), inputs, n_samples=len(n_nodes))
    assert [layer.name for layer in found] == ["head"]
    with pytest.raises(CaptureError, match=r"`layers`: act has shape .* one row a part of a sample"):
        choose_layers(model, lambda x: model(*x), inputs, n_samples=len(n_nodes), layers="act")


def test_a_head_that_is_all_there_is_needs_no_word():
    assert names(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), torch.rand(S, 3)) == ["1"]


def test_an_embedding_of_positions_is_not_missed():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.lift, self.head = nn.Embedding(4, 5), nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.head((self.lift(x) + self.places(torch.arange(x.shape[1]))).relu().mean(1))

    assert names(Positions(), torch.rand(S, 4, 3)) == ["lift"]


def test_of_many_modules_a_message_names_the_nearest():
    model = nn.Sequential(OrderedDict((f"encoder{i}", nn.Linear(2, 2)) for i in range(500)))
    with pytest.raises(CaptureError) as caught:
        choose_layers(model, model, torch.rand(3, 2), n_samples=3, layers="encodr17")
    assert "'encodr17' matches no module; there are: encoder17, " in str(caught.value)
    assert "and 494 more" in str(caught.value)
    assert len(str(caught.value)) < 300
    with pytest.raises(CaptureError, match=r"there are: encoder0, .*encoder5 and 494 more"):
        choose_layers(model, model, torch.rand(3, 2), n_samples=3, layers="zzz")
