"""What is drawn without matplotlib: lines, dots and texts, as an image and as SVG."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from small_portraits import portrait

from fnet_callbacks.figures import Painter, png
from fnet_callbacks.figures.drawing import Drawing, Lines, Text
from fnet_callbacks.figures.graph import graph
from fnet_callbacks.portrait import Portrait

RED, BLUE = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
LINES = Lines(np.array([[20.0, 50, 80, 50]]), np.array([RED]), 0.5)
DRAWING = Drawing(
    100, [LINES], np.array([[20.0, 50], [80, 50]]), np.array([RED, BLUE]), 5, [Text(10, 10, "a < b", 15)]
)


def large(n_edges: int) -> Portrait:
    """A network of 300 neurons in two communities."""
    pairs = np.stack(np.triu_indices(300, 1), axis=1)
    edges = pairs[np.sort(np.random.default_rng(0).permutation(len(pairs))[:n_edges])]
    return Portrait("step 7", 300, np.arange(300), None, edges, np.repeat([0, 1], 150), [])


def test_dots_lines_and_texts_are_where_they_should_be_on_white():
    image = DRAWING.image()
    assert image.shape == (100, 100, 3)
    assert image[50, 20].tolist() == [255, 0, 0]
    assert image[50, 80].tolist() == [0, 0, 255]
    middle = image[48:53, 50].astype(int)
    assert middle.min() < 200  # a line that covers half of what is below it
    assert (middle[:, 0] == 255).all()
    assert image[10, 10:50].min() < 100
    assert (image[80:] == 255).all()


def test_level_and_upright_lines_are_as_strong_and_slanted_ones_a_little_less():
    ends = np.array([[30.0, 50, 70, 50], [50, 30, 50, 70], [36, 36, 64, 64]])
    covered = []
    for line in ends:
        lines = Lines(line[None], np.array([[0.0, 0, 0]]), 1.0)
        image = replace(DRAWING, lines=[lines], places=np.zeros((0, 2)), colours=np.zeros((0, 3))).image()
        covered.append((255.0 - image[25:75, 25:75]).sum() / 255 / 3)
    assert covered[0] == covered[1]
    assert 0.65 * covered[0] < covered[2] <= covered[0]


def test_svg_has_the_same_parts():
    root = ElementTree.fromstring(DRAWING.svg())
    parts = [part.tag.partition("}")[2] for part in root.iter()]
    assert [parts.count(tag) for tag in ("path", "circle", "text")] == [1, 2, 1]
    assert [part.text for part in root.iter() if part.tag.endswith("text")] == ["a < b"]
    circles = [part.attrib for part in root.iter() if part.tag.endswith("circle")]
    assert [circle["fill"] for circle in circles] == ["#ff0000", "#0000ff"]
    assert (circles[1]["cx"], circles[1]["cy"]) == ("80.0", "50.0")


def test_of_many_edges_some_are_drawn_and_of_each_neuron_one_at_least():
    whole = large(12_000)
    layout = np.random.default_rng(1).uniform(-0.7, 0.7, (300, 2))
    drawing = graph(whole, whole.partition, layout)
    ends = np.concatenate([lines.ends for lines in drawing.lines]).reshape(-1, 2)
    assert 3000 <= len(ends) / 2 <= 3300
    assert {*map(tuple, ends.tolist())} == {*map(tuple, drawing.places.tolist())}
    assert drawing.texts[1].text == "300 neurons, 12000 edges, 2 communities"
    few = graph(large(2500), whole.partition, layout)
    assert sum(len(lines.ends) for lines in few.lines) == 2500


def test_edges_within_communities_have_their_colour_and_those_between_are_grey():
    own = portrait()
    colours = own.partition
    drawing = graph(own, colours, np.random.default_rng(1).uniform(-0.7, 0.7, (40, 2)))
    between, within = drawing.lines
    same = own.partition[own.edges[:, 0]] == own.partition[own.edges[:, 1]]
    assert (len(between.ends), len(within.ends)) == ((~same).sum(), same.sum())
    assert len(np.unique(between.colours)) == 1
    assert len(np.unique(within.colours, axis=0)) == len(np.unique(own.partition))
    assert within.alpha > between.alpha


def test_a_png_is_the_image_in_few_colours_with_the_ground_as_it_was():
    image = DRAWING.image()
    found = Image.open(io.BytesIO(png(image).tobytes()))
    assert found.mode == "P"
    drawn = np.asarray(found.convert("RGB")).astype(int)
    assert drawn[0, 0].tolist() == [255, 255, 255]
    assert np.abs(drawn - image).mean() < 3


def test_a_graph_is_drawn_without_matplotlib_and_without_compiled_code():
    code = (
        "import sys; from small_portraits import portrait\n"
        "from fnet_callbacks.figures import Painter, png\n"
        "sitter, painter = portrait(), Painter()\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "def refuse(*arguments): raise AssertionError\n"
        "Dispatcher._compile_for_args = refuse\n"
        "png(painter.paint(sitter, ['graph'])['graph'])\n"
        "print(*(m for m in ('matplotlib', 'sklearn', 'torch', 'scipy.stats') if m in sys.modules))"
    )
    tests = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "PATH": ""},
    )
    assert run.stdout.strip() == ""


def test_the_first_layouts_of_large_and_of_small_networks_keep_communities_apart():
    for n in (40, 700):
        own = portrait(n)
        layout = Painter()._layout(own)
        centres = np.array([layout[own.partition == k].mean(0) for k in range(own.partition.max() + 1)])
        nearest = np.linalg.norm(layout[:, None] - centres, axis=2).argmin(1)
        assert (nearest == own.partition).mean() > 0.8
