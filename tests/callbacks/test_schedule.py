"""The steps that ask for a snapshot, the account of what it costs, and the cores that a worker has for nothing."""

import math
import os
import time
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.callbacks.schedule import Budget, IdleCores, Schedule, displaced
from fnet_callbacks.errors import FnetError

CPUS = sorted(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")
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


def test_a_worker_on_an_idle_core_costs_nothing_and_beside_none_all():
    assert [displaced(2.0, idle) for idle in (-0.1, 0.0, 0.25, 1.0, 7.5)] == [2.0, 2.0, 1.5, 0.0, 0.0]


class Machine:
    """The files that a kernel shows, over the processors that this test may use, and the two clocks."""

    def __init__(self, root: Path, *, renumbered: bool = False) -> None:
        self.root, self.clock, self.own = root, Clock(), Clock(now=5.0)
        self.names = [f"cpu{cpu + (9000 if renumbered else 0)}" for cpu in CPUS]
        self.host_busy = self.group_busy = 0.0
        self.usage = {}
        self.write("proc/self/cgroup", "")
        self.pass_time(1.0)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def cgroup2(self, quota: str, *, folder: str = "sys/fs/cgroup", group: str = "/") -> None:
        self.write("proc/self/cgroup", f"0::{group}\n")
        self.write(f"{folder}/cpu.max", f"{quota}\n")
        self.usage[f"{folder}/cpu.stat"] = "usage_usec {us}\nuser_usec 7\n"

    def cgroup1(self, quota: int) -> None:
        self.write("proc/self/cgroup", "9:memory:/x\n4:cpu,cpuacct:/docker/seen/from/outside\n")
        self.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", f"{quota}\n")
        self.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
        self.usage["sys/fs/cgroup/cpuacct/cpuacct.usage"] = "{ns}\n"

    def meter(self) -> IdleCores:
        self.pass_time(0.0)
        return IdleCores(root=self.root, clock=self.clock, own=self.own)

    def pass_time(self, seconds: float, *, host: float = 0.0, own: float = 0.0, group: float = 0.0) -> None:
        """Lets time go by in which so many cores were busy: on the host, in this process, in its group."""
        self.clock.now += seconds
        self.own.now += own * seconds
        self.host_busy += host * seconds
        self.group_busy += group * seconds
        ticks = [0] * (len(self.names) - 1) + [round(self.host_busy * TICKS)]
        rows = [f"{name} {busy} 0 0 7 9 0 0 0 0 0" for name, busy in zip(self.names, ticks, strict=True)]
        self.write("proc/stat", "\n".join(["cpu  1 2 3 4 5 6 7 8 9 0", *rows, "intr 1 2 3", "cpu_other 1"]))
        for path, text in self.usage.items():
            self.write(path, text.format(us=round(self.group_busy * 1e6), ns=round(self.group_busy * 1e9)))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_what_the_host_leaves_is_idle(machine):
    meter = machine.meter()
    assert meter.since_last(0.0) == 0.0  # nothing is known yet
    machine.pass_time(10, host=0.25, own=0.25)
    assert meter.since_last(0.0) == pytest.approx(len(CPUS) - 0.25)
    machine.pass_time(10, host=len(CPUS), own=0.5)  # others came
    assert meter.since_last(0.0) == 0.0


def test_every_kind_of_work_counts_once_and_waiting_is_none(machine):
    meter = machine.meter()
    rows = [f"{name} {10 * TICKS} 0 0 0 0 0 0 0 0 0" for name in machine.names]
    machine.write("proc/stat", "\n".join(rows))
    machine.clock.now += 100
    meter.since_last(0.0)
    kinds = [5, 5, 5, 1000, 1000, 5, 5, 5, 1000, 1000]  # seconds more of each, those of guests within user's
    total = [(10 if i == 0 else 0) + k for i, k in enumerate(kinds)]
    rows = [f"{name} {' '.join(str(k * TICKS) for k in total)}" for name in machine.names]
    machine.write("proc/stat", "\n".join(rows))
    machine.clock.now += 60
    assert meter.since_last(0.0) == pytest.approx(len(CPUS) / 2)


@pytest.mark.parametrize("rested", [0.9, 0.5, 0.2])
def test_a_worker_on_the_core_that_was_idle_leaves_it_idle(machine, rested):
    meter = machine.meter()
    others, worker = len(CPUS) - 1, 1 - rested
    machine.pass_time(100, host=others + worker, own=others)
    assert meter.since_last(100 * worker) == pytest.approx(1.0)
    machine.pass_time(100, host=others + 0.5, own=others + 0.5)  # the worker had nothing to do
    assert meter.since_last(0.0) == pytest.approx(0.5)


def test_no_more_cores_are_idle_than_there_are(machine):
    meter = machine.meter()
    machine.pass_time(100, host=0.5)
    assert meter.since_last(50.0) <= len(CPUS)


@pytest.mark.parametrize("worker", [0.1, 0.5, 1.0, 1.5])
def test_a_worker_on_a_machine_that_is_full_makes_no_core_idle(machine, worker):
    meter = machine.meter()
    machine.pass_time(100, host=len(CPUS), own=len(CPUS) - worker)
    assert meter.since_last(100 * worker) == 0.0


def assert_its_own_time_counts(machine: Machine, meter: IdleCores) -> None:
    machine.pass_time(10, own=0.75)
    assert meter.since_last(0.0) == pytest.approx(len(CPUS) - 0.75)
    machine.pass_time(10, own=len(CPUS) - 0.5)
    assert meter.since_last(5.0) == 0.0


def test_where_the_host_numbers_its_processors_otherwise_the_process_and_its_worker_count(tmp_path):
    machine = Machine(tmp_path, renumbered=True)
    assert_its_own_time_counts(machine, machine.meter())


def test_where_there_are_no_such_files_the_process_and_its_worker_count(machine, tmp_path):
    nowhere = IdleCores(root=tmp_path / "nowhere", clock=machine.clock, own=machine.own)
    assert_its_own_time_counts(machine, nowhere)


def test_files_that_go_bad_never_raise(machine):
    machine.cgroup2("50000 100000")
    meter = machine.meter()
    for text in ("", "cpu0\n", "cpu0 a b c d e f g h\n", "\udcff"):
        for path in ("proc/stat", "sys/fs/cgroup/cpu.stat"):
            (machine.root / path).write_bytes(text.encode(errors="surrogateescape"))
        machine.clock.now += 1
        assert 0 <= meter.since_last(0.1) <= 0.5


def test_a_quota_counts_with_the_work_of_all_in_the_group(machine):
    machine.cgroup2("50000 100000")
    meter = machine.meter()
    machine.pass_time(100, group=0.25, own=0.1, host=0.25)
    assert meter.since_last(0.0) == pytest.approx(0.25)
    machine.pass_time(100, group=0.5, own=0.1, host=0.5)  # data loaders use the rest
    assert meter.since_last(0.0) == 0.0


def test_without_the_groups_work_a_quota_counts_with_this_processs(machine):
    machine.cgroup2("50000 100000")
    machine.usage.clear()
    meter = machine.meter()
    machine.pass_time(100, own=0.2, host=0.2)
    assert meter.since_last(0.0) == pytest.approx(0.3)


def test_the_tightest_quota_of_the_groups_above_counts(machine):
    machine.cgroup2("80000 100000", folder="sys/fs/cgroup/slice/job", group="/slice/job")
    machine.cgroup2("30000 100000", folder="sys/fs/cgroup/slice", group="/slice/job")
    meter = machine.meter()
    machine.pass_time(100, group=0.1, own=0.1, host=0.1)
    assert meter.since_last(0.0) == pytest.approx(0.2)


@pytest.mark.parametrize(("quota", "idle"), [(50000, 0.3), (-1, len(CPUS) - 0.2)])
def test_a_quota_of_version_one_counts_from_inside_a_container(machine, quota, idle):
    machine.cgroup1(quota)
    meter = machine.meter()
    machine.pass_time(100, group=0.2, own=0.1, host=0.2)
    assert meter.since_last(0.0) == pytest.approx(idle)


def test_no_quota_leaves_all_processors(machine):
    machine.cgroup2("max 100000")
    meter = machine.meter()
    machine.pass_time(10)
    assert meter.since_last(0.0) == len(CPUS)


def test_a_time_too_short_to_measure_is_added_to_the_next(machine):
    meter = machine.meter()
    machine.pass_time(10, own=0.5)
    last = meter.since_last(0.0)
    for _ in range(9):
        machine.pass_time(0.01, own=len(CPUS) - 0.5)
        assert meter.since_last(0.005) == last
    machine.pass_time(0.01, own=len(CPUS) - 0.5)
    machine.pass_time(0.1, own=len(CPUS) - 1)
    assert meter.since_last(0.005) == pytest.approx(
        0.5 / 0.75
    )  # half a core was left, the worker took a quarter


def test_on_this_machine_what_a_process_uses_is_not_idle():
    wall, own = time.perf_counter(), time.process_time()
    meter = IdleCores()
    begun = time.process_time()
    while time.process_time() - own < 0.3:
        pass
    used = time.process_time() - begun
    assert 0 <= meter.since_last(0.0) <= len(CPUS) - used / (time.perf_counter() - wall)
