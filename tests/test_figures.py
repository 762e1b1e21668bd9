"""Pictures: which there are, what carries over from one to the next, and the process that draws them."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from fnet_callbacks import functional as F
from fnet_callbacks.artist import Artist
from fnet_callbacks.errors import FnetError
from fnet_callbacks.figures import Painter, Portrait


def portrait(n: int = 40, *, seed: int = 0, step: int = 0) -> Portrait:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(200, 4))
    correlation = F.correlation_matrix(factors[:, np.arange(n) % 4] + generator.normal(size=(200, n)))
    graph = F.graph_from_correlation(correlation, density=0.15)
    return Portrait(
        title=f"step {step}",
        n_neurons=n,
        nodes=np.arange(n),
        correlation=correlation.astype(np.float32),
        edges=graph.edges,
        partition=F.communities(graph),
        diagrams=F.persistence(F.correlation_distance(correlation)),
        scale=F.graph_scale(correlation, graph),
    )


def with_nodes(whole: Portrait, nodes: list[int]) -> Portrait:
    """The same network with only some of its neurons alive."""
    place = {node: i for i, node in enumerate(nodes)}
    edges = [[place[i], place[j]] for i, j in whole.edges.tolist() if i in place and j in place]
    return replace(
        whole,
        nodes=np.array(nodes, dtype=int),
        correlation=whole.correlation[np.ix_(nodes, nodes)],
        edges=np.array(edges, dtype=np.int32).reshape(-1, 2),
        partition=np.unique(whole.partition[nodes], return_inverse=True)[1],
    )


# What is drawn. -------------------------------------------------------------------------------------------------------


def test_a_portrait_gives_an_image_of_each_kind():
    images = Painter().paint(portrait())
    assert set(images) == {"correlation", "graph", "communities", "homology"}
    for image in images.values():
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_without_diagrams_there_is_no_picture_of_homology():
    assert set(Painter().paint(replace(portrait(), diagrams=[]))) == {"correlation", "graph", "communities"}


def test_the_same_portrait_gives_the_same_bits():
    first, again = (Painter().paint(portrait()) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


NOTHING = np.zeros((0, 2))


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_neurons_are_no_picture(n):
    assert Painter().paint(with_nodes(portrait(), list(range(n)))) == {}


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
    for _ in range(2):
        assert set(painter.paint(strange)) == {"correlation", "graph", "communities", "homology"}


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


def test_the_sizes_of_all_portraits_so_far_are_shown_those_without_a_colour_together():
    painter = Painter()
    painter.paint(portrait(step=0))
    painter.paint(replace(portrait(step=5), partition=np.arange(40)))
    (first, sizes), (second, later) = painter._sizes
    assert (first, second) == ("step 0", "step 5")
    assert sizes.sum() == later.sum() == 40
    assert later[-1] == 40 - (len(later) - 1)


# The process that draws. ----------------------------------------------------------------------------------------------


@pytest.fixture
def artist():
    artist = Artist()
    yield artist
    artist.close()


def test_the_child_draws_what_a_painter_here_does_one_painter_for_each_sitter(artist):
    painter = Painter()
    portraits = [portrait(step=0), portrait(seed=1, step=1)]
    futures = [
        artist.paint("a", portraits[0]),
        artist.paint("b", portraits[1]),
        artist.paint("a", portraits[1]),
    ]
    expected = [painter.paint(p) for p in portraits]
    first, other, second = (future.result(60) for future in futures)
    for found, here in zip((first, second), expected, strict=True):
        assert set(found) == set(here)
        assert all(np.array_equal(found[name], here[name]) for name in here)
    assert not np.array_equal(other["communities"], second["communities"])


def test_an_error_in_the_child_is_its_futures_and_the_next_picture_is_drawn(artist):
    wrong = replace(portrait(), partition=np.zeros(3, int))
    failed, drawn = artist.paint("a", wrong), artist.paint("a", portrait())
    with pytest.raises(FnetError, match="Error"):
        failed.result(60)
    assert "graph" in drawn.result(60)


def test_a_child_that_was_killed_is_the_futures_error(artist):
    artist.paint("a", portrait()).result(60)
    artist._child.kill()
    artist._child.wait()
    with pytest.raises(FnetError, match="the process that draws has ended with -9"):
        artist.paint("a", portrait()).result(60)


def test_closing_ends_the_child_gives_up_what_it_had_not_drawn_and_another_draws_the_next(artist):
    artist.paint("a", portrait()).result(60)
    child = artist._child
    waiting = [artist.paint("a", portrait(200)) for _ in range(3)]
    artist.close()
    assert child.poll() is not None
    assert all(future.done() for future in waiting)
    assert waiting[-1].cancelled()
    assert "graph" in artist.paint("a", portrait()).result(60)


def test_closing_without_a_picture_and_twice_is_nothing():
    artist = Artist()
    artist.close()
    artist.close()
    assert artist._child is None


RUN = """
import os, signal, sys
import numpy as np
from fnet_callbacks.artist import Artist
from fnet_callbacks.figures import Portrait
artist = Artist()
artist.paint("a", Portrait("step 0", 2, np.arange(2), np.eye(2), np.array([[0, 1]]), np.zeros(2, int), [])).result(60)
print(artist._child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_child_of_a_killed_run_ends():
    run = subprocess.run(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert run.returncode == -9
    child = int(run.stdout)
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that ended and whose parent has not asked for it does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
