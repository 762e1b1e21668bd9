"""Pictures: which there are, and what carries over from one to the next."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from small_portraits import portrait, with_nodes

from fnet_callbacks.errors import FnetError
from fnet_callbacks.figures import DEFAULT, OF_NETWORKS, Painter
from fnet_callbacks.portrait import CodePortrait, MapPortrait

OF_ONE = {"graph", "communities", "homology", "correlation"}

# What is drawn. -------------------------------------------------------------------------------------------------------


def test_a_portrait_gives_an_image_of_each_kind():
    images = Painter().paint(portrait(), OF_NETWORKS)
    assert set(images) == OF_ONE
    for image in images.values():
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_by_default_those_are_drawn_that_someone_looks_at():
    assert set(Painter().paint(portrait())) == {*DEFAULT} == {"graph", "communities", "homology"}


def test_without_diagrams_or_correlations_there_is_no_picture_of_them():
    bare = replace(portrait(), diagrams=[], correlation=None)
    assert set(Painter().paint(bare, OF_NETWORKS)) == {"graph", "communities"}


def test_only_those_that_are_asked_for_are_drawn_and_the_others_remember_the_snapshot():
    painter = Painter()
    assert painter.paint(portrait(step=0), ()) == {}
    assert set(painter.paint(portrait(step=1), ["neurons", "graph"])) == {"neurons", "graph"}


def test_a_name_of_no_figure_is_refused_with_the_nearest():
    with pytest.raises(FnetError, match=r"'grpah' is no figure; there is .*; did you mean 'graph'\?"):
        Painter().paint(portrait(), ["grpah"])


def test_of_codes_the_last_layer_is_drawn_or_any_by_its_name():
    def layer(name, inputs=None):
        return MapPortrait(name, (2, 3), np.arange(6), np.arange(6) - 1, None, {}, inputs)

    codes = CodePortrait("step 0", [layer("01"), layer("02", np.zeros((6, 4, 4, 3), np.uint8))])
    assert set(Painter().paint(codes)) == {"02", "02/inputs"}
    assert set(Painter().paint(codes, ["01"])) == {"01"}
    assert Painter().paint(CodePortrait("step 0", [])) == {}
    with pytest.raises(FnetError, match="'01/inputs' is no figure"):
        Painter().paint(codes, ["01/inputs"])


def test_the_same_portrait_gives_the_same_bits():
    first, again = (Painter().paint(portrait(), OF_NETWORKS) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


NOTHING = np.zeros((0, 2))


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_neurons_are_no_picture(n):
    assert Painter().paint(with_nodes(portrait(), list(range(n))), OF_NETWORKS) == {}


@pytest.mark.parametrize(
    "strange",
    [
        with_nodes(portrait(), [0, 1]),
        replace(portrait(), edges=np.zeros((0, 2), np.int32), partition=np.arange(40)),
        replace(portrait(), partition=np.zeros(40, int)),
        replace(portrait(), correlation=np.ones((40, 40), np.float32)),
        replace(portrait(), diagrams=[NOTHING, NOTHING], scale=None),
        replace(portrait(), diagrams=[np.array([[0.0, np.inf]]), np.array([[0.25, np.inf]])]),
    ],
    ids=["two", "no edges", "one community", "all equal", "no features", "nothing closes"],
)
def test_a_degenerate_portrait_is_drawn_without_a_warning(strange):
    painter = Painter()
    assert set(painter.paint(strange, OF_NETWORKS)) == OF_ONE
    assert set(painter.paint(replace(strange, title="step 1"), OF_NETWORKS)) == {*OF_NETWORKS}


# What carries over. ---------------------------------------------------------------------------------------------------


def test_communities_keep_their_colours_when_their_labels_are_shuffled():
    painter, first = Painter(), portrait()
    shuffled = replace(first, partition=(first.partition + 1) % (first.partition.max() + 1))
    assert not np.array_equal(first.partition, shuffled.partition)
    assert np.array_equal(painter._colours(first), painter._colours(shuffled))


def test_a_community_that_splits_leaves_its_colour_to_the_larger_part():
    painter = Painter()
    base = portrait()
    before = painter._colours(replace(base, partition=np.repeat([0, 1], 20)))
    after = painter._colours(replace(base, partition=np.repeat([2, 0, 1], [12, 8, 20])))
    assert (after[:12] == before[0]).all()
    assert (after[20:] == before[20]).all()
    assert len(np.unique(after)) == 3


def test_neurons_that_come_alive_do_not_change_the_colours_of_the_others():
    painter, whole = Painter(), portrait()
    some = with_nodes(whole, list(range(5, 40)))
    before = painter._colours(some)
    after = painter._colours(whole)
    assert np.array_equal(after[5:], before)


def test_neurons_stay_near_to_where_they_stood_though_communities_are_numbered_anew():
    painter, first = Painter(), portrait()
    renumbered = replace(first, partition=(first.partition + 1) % (first.partition.max() + 1))
    before, after, anew = painter._layout(first), painter._layout(renumbered), Painter()._layout(renumbered)
    moved, moved_anew = (np.linalg.norm(layout - before, axis=1).mean() for layout in (after, anew))
    assert moved < 0.15
    assert moved_anew > 0.5


def test_a_few_far_neurons_do_not_squeeze_the_picture():
    base = portrait(100)
    path = np.array([[99, 98], [98, 97], [97, 96], [96, 0]])  # hang on by a thread
    kept = base.edges[(base.edges < 96).all(1)]
    layout = Painter()._layout(replace(base, edges=np.vstack([kept, path])))
    radius = np.hypot(*layout.T)
    assert radius.max() <= 1 + 1e-9
    assert np.median(radius) > 0.3
    assert (radius > 1 - 1e-9).sum() <= 4


def test_more_figures_of_the_same_snapshot_move_nothing_and_count_it_once():
    painter, first, second = Painter(), portrait(step=0), portrait(seed=1, step=1)
    painter.paint(first, ())
    before = painter.paint(second, ["graph"])["graph"]
    again = painter.paint(second, ["graph", "communities"])
    assert np.array_equal(before, again["graph"])
    assert painter.n_snapshots == 2
    whole = Painter()
    whole.paint(first, ())
    assert np.array_equal(whole.paint(second)["communities"], again["communities"])


@pytest.fixture
def paint() -> Callable[..., dict[str, Any]]:
    """Paints portraits one after the other, and gives the last figures themselves instead of images of them."""
    own = Painter()
    return lambda *portraits: [own.figures(each, OF_NETWORKS) for each in portraits][-1]


def extents(collection: Any) -> list[Any]:
    return [path.get_extents() for path in collection.get_paths()]


def test_the_sizes_of_all_portraits_so_far_are_shown_those_without_a_colour_together(paint):
    alone = replace(portrait(step=5), partition=np.arange(40))
    axes = paint(portrait(step=0), alone)["communities"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "5"]
    bars = extents(axes.collections[1])
    first, second = ([bar for bar in bars if round(bar.x0 + 0.1) == place] for place in (0, 1))
    for column in (first, second):
        assert column[0].y0 == 0
        assert all(below.y1 == above.y0 for below, above in pairwise(column))
        assert column[-1].y1 == 40
    assert [bar.height for bar in first] == np.bincount(portrait().partition).tolist()
    assert [bar.height for bar in second] == [1] * 16 + [24]


def test_a_ribbon_is_as_wide_as_there_are_neurons_that_went_that_way(paint):
    before = replace(portrait(step=0), partition=np.repeat([0, 1], [24, 16]))
    after = replace(portrait(step=9), partition=np.repeat([0, 1, 2], [20, 4, 16]))
    dead = with_nodes(after, list(range(2, 40)))
    assert ribbons(paint(before, after)["communities"]) == [(0, 20), (20, 24), (24, 40)]
    assert ribbons(paint(before, dead)["communities"])[-3:] == [(0, 18), (18, 22), (24, 40)]


def ribbons(figure: Any) -> list[tuple[float, float]]:
    """Where ribbons leave the earlier of two bars."""
    found = [path.vertices for path in figure.axes[0].collections[0].get_paths()]
    return [(v[v[:, 0] == v[:, 0].min(), 1].min(), v[v[:, 0] == v[:, 0].min(), 1].max()) for v in found]


def test_neurons_of_one_community_stand_together_and_the_dead_are_white(paint):
    before = replace(portrait(step=0), partition=np.arange(40) % 2)
    after = with_nodes(replace(portrait(step=9), partition=np.arange(40) % 2), list(range(4, 40)))
    shown = paint(before, after)["neurons"].axes[0].images[0].get_array()
    assert shown.shape == (40, 2, 3)
    assert (shown[:4, 1] == 1).all()
    changes = (shown[1:, 1] != shown[:-1, 1]).any(-1).sum()
    assert changes == 2  # white, one community, the other


def test_a_strip_has_the_first_and_the_last_of_many_portraits(paint):
    figure = paint(*(portrait(step=step) for step in range(20)))["evolution"]
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert (titles[0], titles[-1]) == ("step 0", "step 19")


@pytest.mark.parametrize("snapshots", [1, 8, 9, 13, 15])
def test_no_text_is_cut_off_however_many_snapshots_and_whatever_their_step(paint, snapshots):
    figures = paint(*(portrait(step=1_234_567 + k) for k in range(snapshots)))
    del figures["graph"]  # whose texts are short
    for figure in figures.values():
        (left, bottom), (right, top) = figure.get_tightbbox().get_points()
        width, height = figure.get_size_inches()
        assert min(left, bottom) >= 0
        assert right <= width
        assert top <= height


def test_labels_of_many_snapshots_do_not_touch(paint):
    axes = paint(*(portrait(step=step) for step in range(0, 5000, 250)))["communities"].axes[0]
    places = axes.transData.transform([(x, 0) for x in axes.get_xticks()])[:, 0]
    assert len(places) > 6
    assert np.diff(places).min() > 2 * axes.get_xticklabels()[0].get_fontsize()
