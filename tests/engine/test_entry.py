"""What the engine keeps of an instrument."""

from fnet_callbacks import Lesions
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
