"""The process that draws."""

import io
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from processes import is_running
from small_portraits import portrait

from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.figures import Painter
from fnet_callbacks.worker import process
from fnet_callbacks.worker.artist import Artist
from fnet_callbacks.worker.jobs import Request


@pytest.fixture
def artist():
    artist = Artist()
    yield artist
    artist.close()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png.tobytes())).convert("RGB")).astype(int)


def test_the_child_draws_what_a_painter_here_does_one_painter_for_each_sitter(artist):
    painter = Painter()
    portraits = [portrait(step=0), portrait(seed=1, step=1)]
    artist.paint(Request(0, "a", portraits[0]))
    artist.paint(Request(1, "b", portraits[1]))
    artist.paint(Request(1, "a", portraits[1]))
    expected = [painter.paint(p) for p in portraits]
    first, other, second = artist.pictures(wait=True)
    assert [(p.step, p.instrument) for p in (first, other, second)] == [(0, "a"), (1, "b"), (1, "a")]
    for found, here in zip((first, second), expected, strict=True):
        assert set(found.images) == set(here)
        for name, image in here.items():  # whose colours were many more
            drawn = pixels(found.images[name])
            assert drawn[0, 0].tolist() == image[0, 0].tolist()
            assert np.abs(drawn - image).mean() < 3
        assert found.seconds > 0
    assert not np.array_equal(other.images["communities"], second.images["communities"])
    assert artist.pictures(wait=True) == []


def test_an_error_in_the_child_is_told_and_the_next_picture_is_drawn(artist):
    artist.paint(Request(0, "a", replace(portrait(), partition=np.zeros(3, int))))
    artist.paint(Request(1, "a", portrait()))
    failed, drawn = artist.pictures(wait=True)
    assert failed.step == 0
    assert "Error" in (failed.failure or "")
    assert "graph" in drawn.images


def test_what_a_killed_child_had_not_drawn_is_told_and_another_draws_the_next(artist):
    artist.paint(Request(0, "a", portrait()))
    artist.pictures(wait=True)
    os.kill(artist._child.pid, signal.SIGKILL)
    artist.paint(Request(1, "a", portrait()))
    (lost,) = artist.pictures(wait=True)
    assert (lost.step, lost.instrument) == (1, "a")
    assert lost.failure == "the process that draws has ended (exit status -9)"
    artist.paint(Request(2, "a", portrait()))
    assert "graph" in artist.pictures(wait=True)[0].images


def test_closing_ends_the_child_and_gives_up_what_it_had_not_drawn(artist):
    artist.paint(Request(0, "a", portrait()))
    artist.pictures(wait=True)
    child = artist._child.pid
    for step in range(3):
        artist.paint(Request(step, "a", portrait(200)))
    artist.close()
    assert not is_running(child)
    assert artist.pictures(wait=True) == []
    artist.close()


def test_requests_do_not_pile_up(artist, monkeypatch):
    monkeypatch.setattr(process, "_MOST", 6)
    for step in range(20):
        artist.paint(Request(step, "a", portrait(8)))
        assert len(artist._child.unanswered) <= 6
    assert [p.step for p in artist.pictures(wait=True)] == list(range(20))


def test_where_no_child_can_start_pictures_are_drawn_here_with_one_warning(artist, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.warns(FnetWarning, match=r"drawn on the training thread: .*interpreter"):
        artist.paint(Request(0, "a", portrait()))
    artist.paint(Request(1, "a", portrait()))
    assert ["graph" in p.images for p in artist.pictures(wait=False)] == [True, True]
