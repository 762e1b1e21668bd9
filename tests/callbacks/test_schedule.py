"""The steps that ask for a snapshot, the account of what it costs, and what of a worker's time a run pays for."""

import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from itertools import pairwise
from pathlib import Path

import pytest
from fnet_callbacks.callbacks.schedule import Budget, Schedule, Waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.errors import FnetError

schedules = st.builds(Schedule, st.one_of(st.just("log"), st.integers(1, 1000)))


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


# Steps.


def test_a_schedule_asks_at_the_multiples():
    assert [step for step in range(13) if Schedule(4).asks_at(step)] == [4, 8, 12]
    assert [Schedule(4).next_after(step) for step in (0, 3, 4, 7)] == [4, 4, 8, 8]


def test_a_logarithmic_schedule_asks_ten_times_a_decade():
    asked = [step for step in range(130) if Schedule("log").asks_at(step)]
    assert asked == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 79, 100, 126]


def test_a_logarithmic_schedule_is_rounded_exactly_up_to_a_milliard():
    with localcontext(prec=40):
        exact = {
            int((Decimal(10) ** (Decimal(k) / 10)).quantize(Decimal(1), ROUND_HALF_EVEN)) for k in range(91)
        }
    steps = [1]
    while steps[-1] < 10**9:
        steps.append(Schedule("log").next_after(steps[-1]))
    assert steps == sorted(exact)


@given(schedules, st.integers(0, 10**9))
def test_the_next_step_is_the_first_that_asks(schedule, step):
    following = schedule.next_after(step)
    assert following > step
    assert schedule.asks_at(following)
    assert not any(schedule.asks_at(between) for between in range(step + 1, min(following, step + 2000)))
    assert schedule.next_after(following - 1) == following


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, float("nan"), "logarithmic", "", None, [1]])
def test_steps_that_are_no_schedule_are_refused(wrong):
    with pytest.raises(FnetError, match=r"`every_n_steps=.*integer of at least 1, or 'log'"):
        Schedule(wrong)


# The budget.


@pytest.mark.parametrize("wrong", [0, 0.0, -0.05, 1.0001, 5, math.nan, math.inf, True, "0.05", None])
def test_a_share_that_is_none_is_refused(wrong):
    with pytest.raises(FnetError, match=r"`overhead_budget=.*above 0 and at most 1"):
        Budget(wrong)


def test_what_the_start_cost_is_paid_back():
    clock = Clock()
    budget = Budget(0.25, clock=clock)
    budget.charge(1.0)
    clock.now += 3.5
    assert not budget.affords()
    clock.now += 0.5
    assert budget.affords()
    assert budget.share_spent == 0.25


def test_the_dearest_of_the_last_three_is_what_the_next_will_cost():
    budget = Budget(0.5, clock=Clock())
    assert budget.expected is None
    for step, (cost, expected) in enumerate([(4, 4), (1, 4), (2, 4), (1, 2), (1, 2), (1, 1)]):
        budget.settle(step, cost)
        assert budget.expected == expected


def test_the_next_snapshot_waits_until_its_own_cost_is_there():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle(0, 1.0)
    clock.now += 3.9
    assert not budget.affords()
    clock.now += 0.1
    assert budget.affords()


def test_what_was_not_used_may_be_used_later():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle(0, 1.0)
    clock.now += 10
    for step in range(1, 5):
        assert budget.affords()
        budget.settle(step, 1.0)
    assert not budget.affords()


def test_a_snapshot_in_flight_counts_at_what_it_is_expected_to_cost():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle(0, 1.0)
    clock.now += 5.9
    budget.charge(0.25, snapshot=1)
    assert not budget.affords()  # 1 spent, 1 in flight, 1 for the next
    clock.now += 0.1
    assert budget.affords()
    budget.settle(1, 0.5)
    assert budget.expected == 1.0
    clock.now -= 0.5
    assert budget.affords()  # it was cheaper than expected


def test_a_snapshot_in_flight_counts_at_what_it_has_cost_where_that_is_more():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle(0, 1.0)
    budget.charge(3.0, snapshot=1)
    clock.now += 9.9
    assert not budget.affords()
    clock.now += 0.1
    assert budget.affords()


def test_while_no_cost_is_known_one_snapshot_is_in_flight_at_most():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    assert budget.affords()
    budget.charge(0.0, snapshot=0)
    clock.now += 1000
    assert not budget.affords()
    budget.settle(0, 1.0)
    assert budget.affords()


def test_what_the_end_will_cost_is_kept_free():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle(0, 1.0)
    budget.set_aside(2.0)
    clock.now += 7.9
    assert not budget.affords()  # 1 spent, 1 for the next, 2 for the end
    clock.now += 0.1
    assert budget.affords()
    budget.start()
    assert budget.affords()


def test_parts_of_snapshots_in_flight_are_kept_apart():
    clock = Clock()
    budget = Budget(1.0, clock=clock)
    for step in (1, 2):
        budget.charge(0.5 * step, snapshot=step)
    budget.charge(0.25, snapshot=1)
    budget.settle(1, 1.0)
    assert budget.expected == 1.75
    budget.settle(2, 2.0)
    assert budget.expected == 3.0
    clock.now += 9.5
    assert budget.share_spent == 0.5


def test_a_run_that_starts_again_owes_nothing():
    clock = Clock()
    budget = Budget(0.05, clock=clock)
    budget.settle(0, 10.0)
    budget.charge(1.0, snapshot=1)
    budget.start()
    assert budget.expected is None
    assert budget.share_spent == 0.0
    assert budget.affords()


@dataclass
class Run:
    """A run that takes a snapshot wherever its budget affords one; results come some steps later, in order.

    Attributes:
        surprise: By how much those in flight at the last affirmative answer may have been dearer than expected.
    """

    budget: Budget
    clock: Clock
    start: float = 0.0
    surprise: float = 0.0
    step: int = 0
    taken: int = 0
    waiting: list[tuple[int, int, float, float]] = field(default_factory=list)

    def go(self, seconds: float, own: float, worker: float, delay: int) -> None:
        self.clock.now += seconds
        self.step += 1
        self.arrive()
        if self.budget.affords():
            expected = self.budget.expected or 0.0
            in_flight = [*(total for *_, total in self.waiting), own + worker]
            self.surprise = sum(max(0.0, total - expected) for total in in_flight)
            self.take(own, worker, delay)

    def take(self, own: float, worker: float, delay: int) -> None:
        self.clock.now += own
        self.taken += 1
        self.budget.charge(own, snapshot=self.step)
        self.waiting.append((self.step + delay, self.step, worker, own + worker))
        if delay == 0:
            self.arrive()

    def arrive(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.step:
            _, step, worker, _ = self.waiting.pop(0)
            self.budget.settle(step, worker)

    @property
    def spent(self) -> float:
        return self.budget.share_spent * self.elapsed

    @property
    def elapsed(self) -> float:
        return self.clock.now - 100.0


def run_from(share: float, start: float, first: tuple[float, float, int]) -> Run:
    """A run that has paid for its start, and for a snapshot before its first step that nobody asked for."""
    clock = Clock()
    run = Run(Budget(share, clock=clock), clock, start + first[0] + first[1])
    clock.now += start
    run.budget.charge(start)
    run.take(*first)
    return run


costs = st.floats(0, 3)
shares = st.floats(0.01, 1.0)


@given(
    shares,
    costs,
    st.tuples(costs, costs, st.integers(0, 4)),
    st.lists(st.tuples(st.floats(1e-3, 10), costs, costs, st.integers(0, 4)), max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_whatever_snapshots_cost_the_run_pays_no_more_than_the_surprises_in_flight(
    share, start, first, steps
):
    run = run_from(share, start, first)
    for step in steps:
        run.go(*step)
        assert run.spent <= max(run.start, share * run.elapsed + run.surprise) + 1e-9


@given(shares, st.lists(st.tuples(st.floats(1e-3, 10), costs, costs), max_size=60))
@settings(max_examples=300, deadline=None)
def test_measured_at_once_the_run_exceeds_its_share_by_one_surprise(share, steps):
    clock = Clock()
    run = Run(Budget(share, clock=clock), clock)
    for seconds, own, worker in steps:
        expected, taken = run.budget.expected or 0.0, run.taken
        run.go(seconds, own, worker, 0)
        if run.taken > taken:
            assert run.spent <= share * run.elapsed + max(0.0, own + worker - expected) + 1e-9


@given(st.floats(0.02, 0.5), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 3), st.floats(0.1, 1))
@settings(max_examples=60, deadline=None)
def test_at_constant_cost_at_least_half_of_the_budget_is_used_and_no_more_than_all(
    share, cost, own, delay, density
):
    run = run_from(share, 0.0, (own * cost, (1 - own) * cost, delay))
    seconds = density * cost  # dense: the budget grows by less than a snapshot's cost between two steps
    while run.elapsed < 10 * cost / share:
        run.go(seconds, own * cost, (1 - own) * cost, delay)
    assert 0.5 <= run.budget.share_spent / share <= 1 + 1e-9
    assert run.taken >= 5


def test_twice_the_cost_is_twice_the_interval():
    intervals = []
    for cost in (0.1, 0.2):
        run = run_from(0.05, 0.0, (cost, 0.0, 0))
        taken = []
        while run.step < 2000:
            before = run.taken
            run.go(0.1, cost, 0.0, 0)
            taken += [run.step] * (run.taken - before)
        later = [b - a for a, b in pairwise(taken)][2:]
        intervals.append(sum(later) / len(later))
    assert intervals == pytest.approx(
        [19, 38], rel=0.02
    )  # 20 and 40 costs of wall time, one of it the cost itself


# What the run pays of the worker's time.


def told(folder, **nanoseconds):
    """Writes how long each thread has waited, as Linux tells it."""
    for thread in folder.iterdir():
        shutil.rmtree(thread)
    for thread, waited in nanoseconds.items():
        (folder / thread).mkdir()
        (folder / thread / "schedstat").write_text(f"123456 {waited} 7\n")


def test_what_the_threads_waited_for_is_paid_and_no_more_than_the_worker_took(tmp_path):
    told(tmp_path, a=0, b=5_000_000_000)
    waiting = Waiting(tmp_path)
    told(tmp_path, a=200_000_000, b=5_300_000_000)
    assert waiting.share(2.0) == pytest.approx(0.25)
    assert waiting.share(2.0) == 0.0
    told(tmp_path, a=9_200_000_000, b=5_300_000_000)
    assert waiting.share(2.0) == 1.0


def test_threads_come_and_go(tmp_path):
    told(tmp_path, a=3_000_000_000, b=10**12)
    waiting = Waiting(tmp_path)
    told(tmp_path, a=3_000_000_000, c=500_000_000)
    assert waiting.share(1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["", "1", "1 x 2"])
def test_where_the_system_does_not_count_all_is_paid(tmp_path, text):
    waiting = Waiting(tmp_path / "nowhere")
    assert waiting.share(1.0) == 1.0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "schedstat").write_text(text)
    waiting = Waiting(tmp_path)
    assert waiting.share(1.0) == 1.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not count")
def test_on_this_machine_a_crowded_core_is_waited_for():
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    os.sched_setaffinity(0, one)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same core
    try:
        waiting, began, own = Waiting(), time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < 1.0:
            pass
        lost = time.perf_counter() - began - (time.thread_time() - own)
        assert lost > 0.1
        assert waiting.share(4.0) == pytest.approx(min(1.0, lost / 4.0), abs=0.1)
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, cores)
