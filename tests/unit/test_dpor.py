"""The reduction by itself, on a machine of the test's own: programs of reads and writes, with and without locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemfuzz.abc import Extent, Outcome
from idemfuzz.explorers.dpor import Diverged, Guide, Tree, foata, happens_before, races
from idemfuzz.explorers.interleave import interleavings
from idemfuzz.explorers.pct import PctGuide, found_at_least
from idemfuzz.model import Footprint, History, Lapse, Plan, Region, Step

ACTS = ("read", "write", "lock", "unlock")
Program = Sequence[tuple[str, str]]
"""(act, thing) pairs; locks are waited for, as in a database."""


def footprint(act: str, thing: str) -> Footprint:
    region = Region("db", thing)
    return Footprint.of(reads=[region]) if act == "read" else Footprint.of(writes=[region])


@dataclass
class Machine:
    """Runs programs under a scheduler, and remembers what each read and what is left."""

    programs: Mapping[int, Program]
    at: dict[int, int] = field(default_factory=dict)
    values: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    queues: dict[str, list[int]] = field(default_factory=dict)
    seen: dict[int, list[object]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def run(self, scheduler: Guide | PctGuide) -> object:
        for number in self.programs:
            self.at[number], self.seen[number] = 0, []
        while ready := self.ready():
            choice = scheduler.choose(ready)
            assert not isinstance(choice, Lapse)
            scheduler.took(self.step(choice, ready))
        # Who waits for ever is part of the outcome, too.
        return (
            tuple(sorted((name, tuple(value)) for name, value in self.values.items())),
            tuple(tuple(self.seen[number]) for number in sorted(self.programs)),
            tuple(sorted(self.waiting())),
        )

    def waiting(self) -> set[int]:
        return {number for queue in self.queues.values() for number in queue}

    def ready(self) -> dict[int, Footprint]:
        waiting = self.waiting()
        return {
            number: footprint(*program[self.at[number]])
            for number, program in self.programs.items()
            if number not in waiting and self.at[number] < len(program)
        }

    def step(self, number: int, choices: Mapping[int, Footprint]) -> Step:
        act, thing = self.programs[number][self.at[number]]
        label, occurrence = f"{act} {thing}", self.at[number]
        touched = footprint(act, thing)
        waited = False
        self.at[number] += 1
        if act == "read":
            self.seen[number].append((thing, tuple(self.values.get(thing, ()))))
        elif act == "write":
            self.values.setdefault(thing, []).append((number, occurrence))
        elif act == "lock":
            if thing in self.holders and self.holders[thing] != number:
                self.queues.setdefault(thing, []).append(number)
                waited = True
            else:
                self.holders[thing] = number
                self.seen[number].append("got " + thing)
        elif self.holders.get(thing) == number:
            del self.holders[thing]
            if queue := self.queues.get(thing):
                waiter = queue.pop(0)
                self.holders[thing] = waiter
                self.seen[waiter].append("waited for " + thing)
        step = Step(number, label, occurrence, touched, dict(choices), waited)
        self.steps.append(step)
        return step


class Script:
    """A scheduler that follows a prefix and then takes the lowest."""

    def __init__(self, prefix: Sequence[int]) -> None:
        self.prefix = list(prefix)

    def choose(self, ready: Mapping[int, Footprint | None]) -> int:
        return self.prefix.pop(0) if self.prefix else min(ready)

    def took(self, step: Step) -> None:
        pass


def everything(programs: Mapping[int, Program]) -> Iterator[tuple[object, Sequence[Step]]]:
    """Every Schedule there is."""
    left: list[tuple[int, ...]] = [()]
    while left:
        prefix = left.pop()
        machine = Machine(programs)
        outcome = machine.run(Script(prefix))  # type: ignore[arg-type]
        yield outcome, machine.steps
        taken = [step.delivery for step in machine.steps]
        for index in range(len(prefix), len(taken)):
            left += [
                (*taken[:index], other) for other in machine.steps[index].choices if other != taken[index]
            ]


def reduced(programs: Mapping[int, Program], *, symmetric: bool = False) -> tuple[set[object], Tree]:
    tree = Tree(symmetric=symmetric)
    outcomes = set()
    while (guide := tree.next()) is not None:
        machine = Machine(programs)
        outcomes.add(machine.run(guide))
        tree.enter(guide, machine.steps)
        assert tree.runs < 20_000
    return outcomes, tree


steps_plain = st.tuples(st.sampled_from(ACTS[:2]), st.sampled_from("xyz"))
steps_locking = st.tuples(st.sampled_from(ACTS), st.sampled_from("xy"))
programs = st.lists(steps_plain, max_size=3)


def several(steps: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
    """Two programs of up to four steps, or three of up to two: what can be enumerated in a moment."""
    return st.lists(st.lists(steps, max_size=4), min_size=2, max_size=2) | st.lists(
        st.lists(steps, max_size=2), min_size=3, max_size=3
    )


@pytest.mark.slow
@given(several(steps_plain))
@settings(max_examples=150, deadline=None)
def test_same_outcomes_as_every_schedule(found):
    """Goal: nothing is lost, and each class is run once. Method: full enumeration beside the reduction."""
    numbered = dict(enumerate(found, 1))
    everywhere = list(everything(numbered))
    outcomes, tree = reduced(numbered)
    assert outcomes == {outcome for outcome, _ in everywhere}
    assert tree.classes == {foata(steps, happens_before(steps)) for _, steps in everywhere}
    assert tree.runs - tree.redundant == len(tree.classes)


@pytest.mark.slow
@given(several(steps_locking))
@settings(max_examples=150, deadline=None)
def test_same_outcomes_with_lock_waits(found):
    """The same where deliveries wait for each other, and may wait for ever."""
    numbered = dict(enumerate(found, 1))
    outcomes, _ = reduced(numbered)
    assert outcomes == {outcome for outcome, _ in everything(numbered)}


@pytest.mark.slow
@given(programs, st.integers(2, 3))
@settings(max_examples=50, deadline=None)
def test_same_outcomes_but_for_the_names_of_the_deliveries(program, number):
    """Of deliveries that cannot be told apart the first may always begin."""
    numbered = dict.fromkeys(range(1, number + 1), program)

    def anonymous(outcome: object) -> object:
        # Which of them read what is forgotten, and so is who wrote.
        values, seen, waiting = outcome  # type: ignore[misc]
        return (
            tuple((name, tuple(sorted(at for _, at in written))) for name, written in values),
            tuple(
                sorted(
                    str([(name, sorted(at for _, at in written)) for name, written in reads])
                    for reads in seen
                )
            ),
            len(waiting),
        )

    outcomes, _ = reduced(numbered, symmetric=True)
    assert {anonymous(o) for o in outcomes} == {anonymous(o) for o, _ in everything(numbered)}


def test_check_then_act_falls_in_the_second_execution():
    """Goal: the commonest race is found at once."""
    program = [("read", "x"), ("write", "x")]
    tree = Tree(symmetric=True)
    both_saw_nothing = []
    while (guide := tree.next()) is not None:
        machine = Machine({1: program, 2: program})
        machine.run(guide)
        both_saw_nothing.append(all(seen == [("x", ())] for seen in machine.seen.values()))
        tree.enter(guide, machine.steps)
    assert both_saw_nothing.index(True) == 1


def test_independent_programs_have_one_class():
    _, tree = reduced({1: [("write", "x")] * 4, 2: [("write", "y")] * 4, 3: [("read", "z")] * 4})
    assert (tree.runs, len(tree.classes)) == (1, 1)


def test_few_executions_per_class_on_the_average():
    """Sleep sets cut what source sets do not: at most 1.3 executions per class."""
    body = [("read", "x"), ("write", "y"), ("read", "y"), ("write", "x")]
    _, tree = reduced({1: body, 2: body, 3: body[:2]})
    assert tree.runs <= 1.3 * len(tree.classes)


def test_fewest_preemptions_come_first():
    body = [("read", "x"), ("write", "x"), ("read", "x"), ("write", "x")]
    tree = Tree(symmetric=False)
    counts = []
    while (guide := tree.next()) is not None:
        machine = Machine({1: body, 2: body})
        machine.run(guide)
        tree.enter(guide, machine.steps)
        pairs = zip(machine.steps, machine.steps[1:], strict=False)
        counts.append(sum(a.delivery != b.delivery and a.delivery in b.choices for a, b in pairs))
    assert counts[0] == 0
    assert counts.index(1) < counts.index(2) < counts.index(3)


def test_a_job_that_is_not_deterministic_is_told_from_one_that_is():
    """Goal: doubt ourselves first. Method: the same prefix leads to another Step the second time."""
    tree = Tree(symmetric=True)
    program = [("read", "x"), ("write", "x")]
    guide = tree.next()
    assert guide is not None
    machine = Machine({1: program, 2: program})
    machine.run(guide)
    tree.enter(guide, machine.steps)
    guide = tree.next()
    assert guide is not None
    other = Machine({1: [("read", "y"), ("write", "x")], 2: program})
    other.run(guide)
    with pytest.raises(Diverged, match=r"nondeterministic at step 1: read x#0 then, read y#0 now"):
        tree.enter(guide, other.steps)


def searched(programs: Callable[[int], Mapping[int, Program]]) -> Extent:
    """The whole search of two deliveries, the programs of each run as told by its number."""
    search = interleavings(Plan(2), 200)
    outcome: Outcome | None = None
    runs = 0
    while True:
        try:
            proposal = search.send(outcome)  # type: ignore[arg-type]
        except StopIteration as end:
            extent: Extent = end.value
            return extent
        machine = Machine(programs(runs))
        machine.run(proposal.scheduler)  # type: ignore[arg-type]
        runs += 1
        outcome = Outcome(History(()), tuple(machine.steps), False, False)


def test_one_run_that_went_astray_is_forgotten():
    """Goal: a busy machine is no doubt about the job. Method: only the run that made the record differs from all others."""
    program, astray = [("read", "x"), ("write", "x")], [("read", "y"), ("write", "x")]
    extent = searched(lambda run: {1: astray if run == 0 else program, 2: program})
    plain = searched(lambda run: {1: program, 2: program})
    assert (extent.exhaustive, extent.diverged, extent.classes) == (True, False, plain.classes)
    assert extent.ran > plain.ran


def test_a_job_that_goes_another_way_each_time_stays_in_doubt():
    program = [("read", "x"), ("write", "x")]
    extent = searched(lambda run: {1: [("read", f"y{run}"), ("write", "x")], 2: program})
    assert (extent.exhaustive, extent.diverged) == (False, True)


def test_a_race_names_who_could_go_first():
    x = footprint("write", "x")
    steps = [Step(1, "w", 1, x, {1: x, 2: x}), Step(2, "w", 1, x, {2: x})]
    assert races(steps, happens_before(steps)) == [(0, {2}, 2)]


def test_pct_finds_a_bug_of_depth_two_as_often_as_it_promises():
    """Method: two ordering constraints; the rate over many seeds is at least the bound."""
    program = [("read", "x"), ("read", "y"), ("write", "x"), ("read", "z")]
    runs = 400
    found = 0
    for seed in range(runs):
        machine = Machine({1: program, 2: program})
        machine.run(PctGuide(str(seed), 2, 2 * len(program), 2))
        found += all(seen[0] == ("x", ()) for seen in machine.seen.values())
    assert found / runs >= found_at_least(1, 2, 2 * len(program), 2)


def test_pct_is_the_same_for_the_same_seed():
    def order(seed: str) -> list[int]:
        machine = Machine({1: [("read", "x")] * 6, 2: [("write", "x")] * 6})
        machine.run(PctGuide(seed, 2, 12, 3))
        return [step.delivery for step in machine.steps]

    assert order("a") == order("a")
    assert len({tuple(order(str(seed))) for seed in range(20)}) > 5
