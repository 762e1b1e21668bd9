"""What the engine keeps of an instrument."""

from fnet_callbacks import Lesions, ReLURegions
from fnet_callbacks.engine.entry import Entry
from fnet_callbacks.engine.schedule import Schedule


def test_every_reason_why_it_was_not_measured_is_told_once_and_outlasts_a_checkpoint() -> None:
    entry = Entry(Lesions(), Schedule(4))
    for step, reason in ((4, "spent"), (8, "busy"), (12, "spent"), (16, "spent")):
        entry.leave_out(step, reason)
    again = Entry(Lesions(), Schedule(4))
    again.go_on_from(entry.saved())
    for one in (entry, again):
        assert one.take_missed() == "3 times from step 4 to 16: spent; at step 8: busy"
        assert (one.take_missed(), one.left_out) == ("", 4)


def test_an_instrument_of_another_kind_under_the_same_name_begins_anew() -> None:
    entry = Entry(Lesions(name="mine"), Schedule(4), count=3, last_step=8, state={"units": [1]})
    same, other = Entry(Lesions(name="mine"), Schedule(4)), Entry(ReLURegions(name="mine"), Schedule(4))
    for one in (same, other):
        one.go_on_from(entry.saved())
    assert (same.count, same.last_step, same.state) == (3, 8, {"units": [1]})
    assert (other.count, other.state, other.is_first) == (0, {}, True)
