"""The steps that ask for a snapshot, and the account of what it costs."""

import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.engine.budget import Budget, as_share
from fnet_callbacks.engine.schedule import Schedule
from fnet_callbacks.errors import FnetError
from fnet_callbacks.instruments.arguments import as_interval

schedules = st.builds(
    Schedule, st.one_of(st.just("log"), st.integers(1, 1000)), multiple=st.sampled_from([1, 10, 100])
)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


# Steps.


def test_a_schedule_asks_at_the_multiples():
    assert [step for step in range(13) if Schedule(4).asks_at(step)] == [4, 8, 12]
    assert [Schedule(4).next_after(step) for step in (0, 3, 4, 7)] == [4, 4, 8, 8]


def test_a_schedule_of_a_multiple_asks_at_each_so_many_th_of_its_steps():
    tenth = Schedule(4, multiple=10)
    assert [step for step in range(130) if tenth.asks_at(step)] == [40, 80, 120]
    assert [tenth.next_after(step) for step in (0, 39, 40)] == [40, 40, 80]
    assert [step for step in range(1001) if Schedule("log", multiple=10).asks_at(step)] == [1, 10, 100, 1000]


def test_a_schedule_of_epochs_asks_at_no_step():
    each_second = Schedule(every_n_epochs=2)
    assert [epoch for epoch in range(1, 7) if each_second.asks_after_epoch(epoch)] == [2, 4, 6]
    assert not any(each_second.asks_at(step) for step in range(20))
    assert each_second.next_after(3) == math.inf
    assert [e for e in range(1, 50) if Schedule(every_n_epochs=2, multiple=10).asks_after_epoch(e)] == [
        20,
        40,
    ]
    assert not any(Schedule(3).asks_after_epoch(epoch) for epoch in range(1, 20))


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
@settings(deadline=None)
def test_the_next_step_is_the_first_that_asks(schedule, step):
    following = schedule.next_after(step)
    assert following > step
    assert schedule.asks_at(following)
    assert not any(schedule.asks_at(between) for between in range(step + 1, min(following, step + 2000)))
    assert schedule.next_after(following - 1) == following


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, float("nan"), "logarithmic", "", [1]])
def test_steps_that_are_no_schedule_are_refused(wrong):
    with pytest.raises(FnetError, match=r"`every_n_steps=.*integer of at least 1, or 'log'"):
        as_interval(wrong, None)


# The budget.


@pytest.mark.parametrize("wrong", [0, 0.0, -0.05, 1.0001, 5, math.nan, math.inf, True, "0.05"])
def test_a_share_that_is_none_is_refused(wrong):
    with pytest.raises(FnetError, match=r"`overhead_budget=.*above 0 and at most 1"):
        as_share(wrong)


def test_no_share_is_no_limit():
    assert as_share(None) is None
    assert as_share(1) == 1.0


def affords(budget: Budget) -> bool:
    """Whether one more snapshot of the one instrument stays within the share."""
    return budget.afforded(["net"]) == ["net"]


def test_what_the_start_cost_is_paid_back():
    clock = Clock()
    budget = Budget(0.25, clock=clock)
    budget.charge(1.0)
    clock.now += 3.5
    assert not affords(budget)
    clock.now += 0.5
    assert affords(budget)
    assert budget.share_spent == 0.25


def test_the_largest_of_the_last_three_is_what_the_next_will_cost():
    budget = Budget(0.5, clock=Clock())
    assert budget.expected("net") is None
    for step, (cost, expected) in enumerate([(4, 4), (1, 4), (2, 4), (1, 2), (1, 2), (1, 1)]):
        budget.settle((step, "net"), cost)
        assert budget.expected("net") == expected
    assert budget.expected("attacks") is None
    assert budget.all_expected() == {"net": 1}


def test_the_next_snapshot_waits_until_its_own_cost_is_there():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle((0, "net"), 1.0)
    clock.now += 3.9
    assert not affords(budget)
    clock.now += 0.1
    assert affords(budget)


def test_what_was_not_used_may_be_used_later():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle((0, "net"), 1.0)
    clock.now += 10
    for step in range(1, 5):
        assert affords(budget)
        budget.settle((step, "net"), 1.0)
    assert not affords(budget)


def test_a_snapshot_in_flight_counts_at_what_it_is_expected_to_cost():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle((0, "net"), 1.0)
    clock.now += 5.9
    budget.charge(0.25, part=(1, "net"))
    assert not affords(budget)  # 1 spent, 1 in flight, 1 for the next
    clock.now += 0.1
    assert affords(budget)
    budget.settle((1, "net"), 0.5)
    assert budget.expected("net") == 1.0
    clock.now -= 0.5
    assert affords(budget)  # it was cheaper than expected


def test_a_snapshot_in_flight_counts_at_what_it_has_cost_where_that_is_more():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle((0, "net"), 1.0)
    budget.charge(3.0, part=(1, "net"))
    clock.now += 9.9
    assert not affords(budget)
    clock.now += 0.1
    assert affords(budget)


def test_while_no_cost_is_known_one_snapshot_is_in_flight_at_most():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    assert affords(budget)
    budget.charge(0.0, part=(0, "net"))
    clock.now += 1000
    assert not affords(budget)
    assert budget.afforded(["net", "attacks"]) == ["attacks"]  # of which none is in flight
    budget.settle((0, "net"), 1.0)
    assert affords(budget)


def test_what_the_end_will_cost_is_kept_free():
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    budget.settle((0, "net"), 1.0)
    budget.set_aside(2.0)
    clock.now += 7.9
    assert not affords(budget)  # 1 spent, 1 for the next, 2 for the end
    clock.now += 0.1
    assert affords(budget)


def test_snapshots_in_flight_are_kept_apart():
    clock = Clock()
    budget = Budget(1.0, clock=clock)
    for step in (1, 2):
        budget.charge(0.5 * step, part=(step, "net"))
    budget.charge(0.25, part=(1, "net"))
    budget.settle((1, "net"), 1.0)
    assert budget.expected("net") == 1.75
    assert not budget.is_in_flight((1, "net"))
    assert budget.is_in_flight((2, "net"))
    budget.settle((2, "net"), 2.0)
    assert budget.expected("net") == 3.0
    clock.now += 9.5
    assert budget.share_spent == 0.5


def of_three(clock: Clock) -> Budget:
    """One that knows what each of three instruments costs, all paid for."""
    budget = Budget(0.5, clock=clock)
    for name, cost in (("attacks", 4.0), ("net", 1.0), ("lesions", 2.0)):
        budget.settle((0, name), cost)
    clock.now += 14
    return budget


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (1.9, []),
        (2, ["net"]),
        (5.9, ["net"]),
        (6, ["net", "lesions"]),
        (13.9, ["net", "lesions"]),
        (14, ["attacks", "net", "lesions"]),
    ],
)
def test_of_what_is_due_the_cheaper_go_first_and_keep_their_order(seconds, expected):
    budget = of_three(clock := Clock())
    clock.now += seconds
    assert budget.afforded(["attacks", "net", "lesions"]) == expected


def test_those_that_are_not_due_cost_nothing():
    budget = of_three(clock := Clock())
    clock.now += 8
    assert budget.afforded(["attacks"]) == ["attacks"]
    assert budget.afforded(["attacks", "net"]) == ["net"]


def test_what_is_in_flight_of_one_leaves_less_for_the_others():
    budget = of_three(clock := Clock())
    clock.now += 9
    budget.charge(0.5, part=(1, "attacks"))  # 3.5 to come
    assert budget.afforded(["net", "lesions"]) == []
    budget.settle((1, "attacks"), 0.0)
    assert budget.afforded(["net", "lesions"]) == ["net", "lesions"]


@dataclass
class Run:
    """A run that takes what its budget affords; results come some steps later, in order.

    Attributes:
        surprise: By how much what was in flight when something was taken last may have cost more than expected.
    """

    budget: Budget
    clock: Clock
    start: float = 0.0
    surprise: float = 0.0
    step: int = 0
    taken: int = 0
    waiting: list[tuple[int, tuple[int, str], float, float]] = field(default_factory=list)

    def go(self, seconds: float, costs: dict[str, tuple[float, float]], delay: int) -> None:
        """A step, at which instruments are due that cost this process and its worker so much."""
        self.clock.now += seconds
        self.step += 1
        self.arrive()
        if afforded := self.budget.afforded(list(costs)):
            in_flight = [(name, total) for _, (_, name), _, total in self.waiting]
            in_flight += [(name, sum(costs[name])) for name in afforded]
            self.surprise = sum(max(0.0, total - (self.budget.expected(n) or 0.0)) for n, total in in_flight)
            for name in afforded:
                self.take(name, *costs[name], delay)
            self.arrive()

    def take(self, name: str, own: float, worker: float, delay: int) -> None:
        self.clock.now += own
        self.taken += 1
        self.budget.charge(own, part=(self.step, name))
        self.waiting.append((self.step + delay, (self.step, name), worker, own + worker))

    def arrive(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.step:
            _, part, worker, _ = self.waiting.pop(0)
            self.budget.settle(part, worker)

    @property
    def spent(self) -> float:
        return self.budget.share_spent * self.elapsed

    @property
    def elapsed(self) -> float:
        return self.clock.now - 100.0


def run_from(share: float, start: float, own: float, worker: float, delay: int) -> Run:
    """A run that has paid for its start, and for a snapshot before its first step that nobody asked for."""
    clock = Clock()
    run = Run(Budget(share, clock=clock), clock, start + own + worker)
    clock.now += start
    run.budget.charge(start)
    run.take("net", own, worker, delay)
    run.arrive()
    return run


costs = st.floats(0, 3)
shares = st.floats(0.01, 1.0)
pairs = st.tuples(costs, costs)
due = st.dictionaries(st.sampled_from(["net", "attacks", "lesions"]), pairs, max_size=3)


@given(
    shares, costs, pairs, st.integers(0, 4),
    st.lists(st.tuples(st.floats(1e-3, 10), due, st.integers(0, 4)), max_size=60),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whatever_snapshots_cost_the_run_pays_no_more_than_the_surprises_in_flight(
    share, start, first, delay, steps
):
    run = run_from(share, start, *first, delay)
    for step in steps:
        run.go(*step)
        assert run.spent <= max(run.start, share * run.elapsed + run.surprise) + 1e-9


@given(shares, st.lists(st.tuples(st.floats(1e-3, 10), costs, costs), max_size=60))
@settings(max_examples=300, deadline=None)
def test_measured_at_once_the_run_exceeds_its_share_by_one_surprise(share, steps):
    clock = Clock()
    run = Run(Budget(share, clock=clock), clock)
    for seconds, own, worker in steps:
        expected, taken = run.budget.expected("net") or 0.0, run.taken
        run.go(seconds, {"net": (own, worker)}, 0)
        if run.taken > taken:
            assert run.spent <= share * run.elapsed + max(0.0, own + worker - expected) + 1e-9


@given(st.floats(0.02, 0.5), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 3), st.floats(0.1, 1))
@settings(max_examples=60, deadline=None)
def test_at_constant_cost_at_least_half_of_the_budget_is_used_and_no_more_than_all(
    share, cost, own, delay, density
):
    run = run_from(share, 0.0, own * cost, (1 - own) * cost, delay)
    seconds = density * cost  # dense: the budget grows by less than a snapshot's cost between two steps
    while run.elapsed < 10 * cost / share:
        run.go(seconds, {"net": (own * cost, (1 - own) * cost)}, delay)
    assert 0.5 <= run.budget.share_spent / share <= 1 + 1e-9
    assert run.taken >= 5


def test_twice_the_cost_is_twice_the_interval():
    intervals = []
    for cost in (0.1, 0.2):
        run = run_from(0.05, 0.0, cost, 0.0, 0)
        taken = []
        while run.step < 2000:
            before = run.taken
            run.go(0.1, {"net": (cost, 0.0)}, 0)
            taken += [run.step] * (run.taken - before)
        later = [b - a for a, b in pairwise(taken)][2:]
        intervals.append(sum(later) / len(later))
    # 20 and 40 costs of wall time, one of it the cost itself.
    assert intervals == pytest.approx([19, 38], rel=0.02)
