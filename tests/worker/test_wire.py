"""Messages: what goes in comes out, and nothing is left behind."""

import functools
import math
import os
import resource
import socket
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from own_measures import HUBS
from processes import open_descriptors

from fnet_callbacks.worker.wire import pack, receive, send, unpack


@dataclass(frozen=True, slots=True)
class Pair:
    left: object
    right: object


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_characters="\0")), inner),
)
numeric = npst.boolean_dtypes() | npst.integer_dtypes() | npst.floating_dtypes(sizes=(32, 64))
arrays = npst.arrays(numeric, npst.array_shapes(min_dims=0, min_side=0, max_side=4))


def passed(message):
    segment = pack(message)
    found = unpack(segment)
    segment.close()
    return found


@given(plain)
def test_plain_values_come_out_as_they_went_in(message):
    assert passed(message) == message


@given(arrays, arrays)
def test_arrays_keep_type_shape_and_bits_side_by_side(one, other):
    found = passed({"one": one, "list": [Pair(other, None)]})
    for here, there in ((one, found["one"]), (other, found["list"][0].left)):
        assert there.dtype == here.dtype
        assert there.shape == here.shape
        assert there.tobytes() == here.tobytes()


def test_an_array_in_strides_arrives_whole():
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    assert np.array_equal(passed(array), array)


def test_numbers_that_json_does_not_have_arrive():
    found = passed([math.inf, math.nan, np.float64(0.5), np.int64(3), (1, 2)])
    assert found[0] == math.inf
    assert math.isnan(found[1])
    assert found[2:] == [0.5, 3, [1, 2]]


@functools.cache
def remembering(value):
    return value


def test_what_is_imported_arrives_as_it_is_here():
    found = passed({"quantity": HUBS, "list": [remembering, os.getpid, Pair]})
    assert found == {"quantity": HUBS, "list": [remembering, os.getpid, Pair]}
    assert found["quantity"].function is HUBS.function


def test_what_cannot_be_imported_there_is_named(tmp_path, monkeypatch):
    (tmp_path / "short_lived.py").write_text("def f(): pass")
    monkeypatch.syspath_prepend(tmp_path)
    import short_lived  # type: ignore[import-not-found]

    segment = pack([short_lived.f])
    (tmp_path / "short_lived.py").write_text("raise RuntimeError('no display')")
    monkeypatch.delitem(sys.modules, "short_lived")
    with pytest.raises(ImportError, match="short_lived:f cannot be imported: RuntimeError: no display"):
        unpack(segment)
    segment.close()


@pytest.mark.parametrize("stranger", [object(), {1, 2}, lambda: 0, np.array(["a"]), np.array([object()])])
def test_what_cannot_travel_is_named(stranger):
    with pytest.raises(TypeError, match=f"{type(stranger).__name__} cannot travel"):
        pack({"here": stranger})


def test_a_message_outlives_its_segment_and_leaves_no_descriptor():
    before = open_descriptors()
    array = passed(np.arange(1000))
    assert array.sum() == 499500
    del array
    assert open_descriptors() == before


def test_a_segment_goes_through_a_socket_and_its_memory_is_shared():
    here, there = socket.socketpair()
    with here, there:
        segment = pack(np.zeros(3))
        send(here, segment)
        found = receive(there)
        assert found is not None
        unpack(segment)[1] = 7
        assert unpack(found).tolist() == [0, 7, 0]
        segment.close()
        found.close()
        here.close()
        assert receive(there) is None


TOO_LITTLE = """
import resource, numpy as np
from fnet_callbacks.worker.wire import pack
from own_measures import HUBS
from processes import open_descriptors
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
pack(np.zeros(100))
before = open_descriptors()
try:
    pack(np.zeros(1 << 20))
except OSError as error:
    print(type(error).__name__, open_descriptors() - before)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit to set")
def test_too_little_shared_memory_is_an_error_and_leaves_nothing():
    run = subprocess.run(
        [sys.executable, "-c", TOO_LITTLE],
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["OSError", "0"]
