"""Dynamic partial order reduction: of all Schedules that differ only in the order of commuting Steps, one is run.

Source sets and sleep sets after Abdulla, Aronsson, Jonsson and Sagonas, "Optimal Dynamic Partial Order Reduction"
(POPL 2014). Theirs is a depth-first search; here the tree of prefixes is kept, and what is left to explore waits in a
queue, fewest preemptions first. The order of siblings in a node is the order in which they were asked for, and each
sleeps in the subtrees of the later ones, whether it has been run by then or not: in the end all are.

A Step that waits for a lock is one that could be taken, and stands where it was tried. So "tried before the lock was
free" and "tried after it" are two classes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from idemfuzz.model import Footprint, Lapse, Step, conflict

Sleep = Mapping[int, Footprint | None]
"""Deliveries whose next Step need not be taken here, with its footprint: that was, or will be, explored elsewhere."""


class Diverged(Exception):
    """A prefix that was run before led somewhere else this time: the job, or we, are not deterministic."""

    def __init__(self, index: int, expected: str, found: str) -> None:
        super().__init__(f"nondeterministic at step {index + 1}: {expected} then, {found} now")
        self.index = index


class Guide:
    """The scheduler of one run: along a prefix, and from there on without preemption, past those who sleep."""

    def __init__(self, prefix: Sequence[int] = (), sleep: Sleep | None = None) -> None:
        self.prefix = tuple(prefix)
        self._given = dict(sleep or {})
        self.redundant_from: int | None = None
        """The index of the Step from which on the run repeats what is explored elsewhere."""
        self.sleeps: list[Sleep] = []
        """Who slept before each Step behind the prefix."""
        self._sleep = dict(self._given)
        self._taken = 0
        self._last = 0

    def again(self) -> Guide:
        """A fresh guide along the same prefix."""
        return Guide(self.prefix, self._given)

    def choose(self, ready: Mapping[int, Footprint | None]) -> int | Lapse:
        if self._taken < len(self.prefix):
            wanted = self.prefix[self._taken]
            # One who cannot move is noticed when the run is entered in the tree.
            return wanted if wanted in ready else min(ready)
        self.sleeps.append(dict(self._sleep))
        awake = [number for number in ready if number not in self._sleep]
        if not awake:
            if self.redundant_from is None:
                self.redundant_from = self._taken
            awake = list(ready)
        return self._last if self._last in awake else min(awake)

    def took(self, step: Step) -> None:
        if self._taken >= len(self.prefix) - 1:
            self._sleep = {
                number: footprint
                for number, footprint in self._sleep.items()
                if number != step.delivery and not conflict(footprint, step.footprint)
            }
        self._taken += 1
        self._last = step.delivery


@dataclass(slots=True)
class _Node:
    """What can happen after one prefix."""

    choices: Mapping[int, Footprint | None]
    sleep: Sleep
    preemptions: int
    last: int
    order: list[int] = field(default_factory=list)
    """Invariant: the children in the order in which they were asked for; each sleeps in the later ones."""
    labels: dict[int, tuple[str, int]] = field(default_factory=dict)
    children: dict[int, _Node] = field(default_factory=dict)


class Tree:
    """The prefixes that were run, and those still to be run.

    ``symmetric``: the deliveries cannot be told apart, so the first may always begin.
    """

    def __init__(self, *, symmetric: bool) -> None:
        self.classes: set[frozenset[tuple[int, int, int]]] = set()
        self.runs = 0
        self.redundant = 0
        self._symmetric = symmetric
        self._root: _Node | None = None
        self._numbers = count()
        self._left: list[tuple[int, int, tuple[int, ...], Sleep]] = [(0, next(self._numbers), (), {})]

    @property
    def left(self) -> int:
        """How many prefixes are still to be run; each may ask for more."""
        return len(self._left)

    @property
    def preemptions(self) -> int | None:
        """The fewest preemptions among what is left: everything with fewer has been run. None: nothing is left."""
        return self._left[0][0] if self._left else None

    def next(self) -> Guide | None:
        """The next run, or None if every class has been explored."""
        if not self._left:
            return None
        _, _, prefix, sleep = heapq.heappop(self._left)
        return Guide(prefix, sleep)

    def enter(self, guide: Guide, steps: Sequence[Step]) -> None:
        """Learn from a run what else must be run.

        Raises:
            Diverged: the prefix did not lead where it led before. The tree is as it was; run the guide's prefix again.
        """
        nodes = self._path(guide, steps)
        self.runs += 1
        if guide.redundant_from is not None:
            self.redundant += 1
            steps = steps[: guide.redundant_from]
        before = happens_before(steps)
        if guide.redundant_from is None:
            self.classes.add(foata(steps, before))
        for index, initials, wanted in races(steps, before, since=max(0, len(guide.prefix) - 1)):
            self._ask(nodes, steps, index, initials, wanted)

    def _path(self, guide: Guide, steps: Sequence[Step]) -> list[_Node]:
        """The nodes before each Step, made where the run has left what was known."""
        node = self._root
        nodes: list[_Node] = []
        for index, step in enumerate(steps):
            if node is not None and index < len(guide.prefix):
                _compare(node, step, index, guide.prefix[index])
            else:
                sleep = guide.sleeps[index - len(guide.prefix)]
                before = nodes[-1] if nodes else None
                node = _Node(step.choices, sleep, 0, 0)
                if before is None:
                    self._root = node
                else:
                    taken = steps[index - 1].delivery
                    node.last = taken
                    node.preemptions = before.preemptions + _preempts(before, taken)
                    before.children[taken] = node
                node.order.append(step.delivery)
            node.labels[step.delivery] = (step.label, step.occurrence)
            nodes.append(node)
            node = node.children.get(step.delivery)
            if node is None and index + 1 < len(guide.prefix):
                raise Diverged(index + 1, "more steps", "an end")
        return nodes

    def _ask(
        self, nodes: Sequence[_Node], steps: Sequence[Step], index: int, initials: set[int], wanted: int
    ) -> None:
        """See to it that a race is reversed: that one of ``initials`` is taken in place of the Step at ``index``."""
        if index == 0 and self._symmetric:
            return
        node = nodes[index]
        if initials & node.sleep.keys() or initials & set(node.order):
            return
        able = initials & node.choices.keys()
        if wanted in able:
            able = {wanted}
        elif able:
            able = {min(able)}
        else:
            able = node.choices.keys() - node.sleep.keys() - set(node.order)
        for number in sorted(able):
            sleep = {**node.sleep, **{earlier: node.choices[earlier] for earlier in node.order}}
            node.order.append(number)
            prefix = (*(step.delivery for step in steps[:index]), number)
            preemptions = node.preemptions + _preempts(node, number)
            heapq.heappush(self._left, (preemptions, next(self._numbers), prefix, sleep))


def _preempts(node: _Node, taken: int) -> bool:
    return node.last in node.choices and taken != node.last


def _compare(node: _Node, step: Step, index: int, wanted: int) -> None:
    if step.delivery != wanted or step.choices.keys() != node.choices.keys():
        raise Diverged(
            index,
            f"delivery {wanted} of {sorted(node.choices)} moved",
            f"delivery {step.delivery} of {sorted(step.choices)} moved",
        )
    known = node.labels.get(step.delivery)
    if known is not None and known != (step.label, step.occurrence):
        raise Diverged(index, f"{known[0]}#{known[1]}", f"{step.label}#{step.occurrence}")


def happens_before(steps: Sequence[Step]) -> list[int]:
    """For each Step the set (as bits) of the Steps before it that its place depends on."""
    before: list[int] = []
    for index, step in enumerate(steps):
        bits = 0
        # From the nearest back: what an earlier one already implies need not be compared.
        for earlier in range(index - 1, -1, -1):
            if bits >> earlier & 1:
                continue
            other = steps[earlier]
            if other.delivery == step.delivery or conflict(other.footprint, step.footprint):
                bits |= before[earlier] | 1 << earlier
        before.append(bits)
    return before


def races(steps: Sequence[Step], before: Sequence[int], *, since: int = 0) -> list[tuple[int, set[int], int]]:
    """The pairs of Steps of two deliveries whose order could be the other one, the later of them at ``since`` or later.

    Each is (index of the earlier Step, deliveries one of which must be taken there instead, the later Step's delivery).
    """
    found = []
    for later in range(max(1, since), len(steps)):
        for earlier in range(later):
            if not before[later] >> earlier & 1 or steps[earlier].delivery == steps[later].delivery:
                continue
            between = before[later] & ~((2 << earlier) - 1)
            if any(between >> k & 1 and before[k] >> earlier & 1 for k in range(earlier + 1, later)):
                continue
            free = [k for k in range(earlier + 1, later) if not before[k] >> earlier & 1] + [later]
            found.append((earlier, _initials(steps, before, free), steps[later].delivery))
    return found


def _initials(steps: Sequence[Step], before: Sequence[int], indices: Sequence[int]) -> set[int]:
    """Of some Steps, the deliveries whose first one nothing in them has to precede."""
    seen: set[int] = set()
    found = set()
    chosen = 0
    for index in indices:
        number = steps[index].delivery
        # The Step whose race it is has one dependence that does not count: on the Step that is left out.
        if number not in seen and not before[index] & chosen:
            found.add(number)
        seen.add(number)
        chosen |= 1 << index
    return found


def foata(steps: Sequence[Step], before: Sequence[int]) -> frozenset[tuple[int, int, int]]:
    """The class of a run: the same for two runs if and only if they differ in the order of commuting Steps alone."""
    counts: dict[int, int] = {}
    levels: list[int] = []
    form = set()
    for index, step in enumerate(steps):
        counts[step.delivery] = counts.get(step.delivery, 0) + 1
        level = 1 + max((levels[k] for k in range(index) if before[index] >> k & 1), default=0)
        levels.append(level)
        form.add((step.delivery, counts[step.delivery], level))
    return frozenset(form)
