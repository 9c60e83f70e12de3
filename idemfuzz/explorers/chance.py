"""Chance: plans beyond the bounds of the other explorers, drawn at random: several faults, more deliveries, deeper orders.

What the others cover completely is left to them. A plan that led somewhere new is kept, and changed a little later on: the
same way of learning as a fuzzer's, with what the deliveries did in place of a program's branches.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from idemfuzz.abc import Extent, Options, Outcome, Proposal, Reference, Scheduler
from idemfuzz.explorers.interleave import Search
from idemfuzz.explorers.pct import PctGuide
from idemfuzz.explorers.points import leases
from idemfuzz.model import Effect, Fault, FaultKind, Identity, Plan, Point, Side

_PARENTS_MAX = 200
_MUTATED_SHARE = 0.4
_OVERLAPPING_SHARE = 0.4
_STEPS_MAX = 400
_SLACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Depth:
    """How far beyond: the most faults, deliveries, overlapping deliveries and ordering constraints of one plan."""

    faults: int = 3
    deliveries: int = 4
    overlapping: int = 3
    order: int = 4

    def __str__(self) -> str:
        return (
            f"up to {self.faults} faults, {self.deliveries} deliveries, {self.overlapping} at once, "
            f"orders of depth {self.order}"
        )


class ChanceExplorer:
    """Random plans; ``parents`` are plans that led somewhere new, here and in earlier searches, and grow.

    ``is_new`` says of a Trial's outcome whether it did; without it, the effects that were seen decide.
    """

    name = "chance"
    faults = frozenset(
        {"duplicate", "kill", "overlap", "timeout", "shutdown", "refused", "lost", "resent", "late"}
    )
    weight = 1

    def __init__(
        self,
        seed: str,
        depth: Depth | None = None,
        parents: list[Plan] | None = None,
        is_new: Callable[[Outcome], bool] | None = None,
    ) -> None:
        self.depth = depth or Depth()
        self.bound = f"by chance: {self.depth}"
        self.parents = parents if parents is not None else []
        self._is_new = is_new or self._shows_a_new_way
        self._ways: set[tuple[str, ...]] = set()
        self._chance = random.Random(seed)
        self._seed = seed

    def search(self, reference: Reference, options: Options, budget: int) -> Search:
        points = _Points(reference, options)
        longest = max(2, 2 * len(reference.events))
        tried: set[str] = set()
        ran = 0
        for number in range(3 * budget):
            if ran >= budget:
                break
            plan, order = self._drawn(points, reference, options)
            key = f"{plan}/{order}/{number if order else ''}"
            if key in tried:
                continue
            tried.add(key)
            scheduler: Scheduler | None = None
            if order:
                scheduler = PctGuide(
                    f"{self._seed}/{number}", plan.deliveries, min(longest, _STEPS_MAX), order
                )
            outcome = yield Proposal(plan, scheduler)
            ran += 1
            points.learn(outcome)
            longest = max(longest, len(outcome.steps))
            if not outcome.violated and self._is_new(outcome) and len(self.parents) < _PARENTS_MAX:
                self.parents.append(plan)
        return Extent(ran, None, False, f"{ran} plans by chance")

    def _drawn(self, points: _Points, reference: Reference, options: Options) -> tuple[Plan, int]:
        """A plan, and the depth of its order; 0 where its deliveries run one after another."""
        chance = self._chance
        wanted = options.faults
        if self.parents and chance.random() < _MUTATED_SHARE:
            plan = self._mutated(chance.choice(self.parents), points)
        else:
            plan = self._fresh(points)
        together = wanted is None or "overlap" in wanted
        if together and chance.random() < _OVERLAPPING_SHARE:
            deliveries = chance.randint(2, self.depth.overlapping)
            plan = replace(
                plan,
                deliveries=deliveries,
                late_seconds=0.0,
                call=plan.call or chance.randint(1, max(1, reference.calls)),
                faults=tuple(
                    f for f in plan.faults if f.kind is FaultKind.KILL and f.point.delivery <= deliveries
                )[:2],
            )
            return plan, chance.randint(2, self.depth.order)
        identity = Identity.NEW if reference.identified and chance.random() < 0.25 else Identity.SAME
        late = 0.0
        moments = points.moments
        if moments and (wanted is None or "late" in wanted) and chance.random() < 0.2:
            late = chance.choice(moments)
        return replace(plan, identity=identity, late_seconds=late), 0

    def _fresh(self, points: _Points) -> Plan:
        chance = self._chance
        call = chance.choice(points.calls) if points.calls else 1
        # Faults in the first delivery, then in the one that answers it, and so on.
        count = chance.randint(0, self.depth.faults)
        faults: dict[tuple[Point, Side], Fault] = {}
        for _ in range(count):
            delivery = min(1 + len(faults), chance.randint(1, self.depth.faults))
            fault = points.fault(chance, call, delivery)
            if fault is not None:
                faults[(fault.point, fault.side)] = fault
        least = 1 if faults else 2
        return Plan(chance.randint(least, self.depth.deliveries), faults=tuple(faults.values()), call=call)

    def _mutated(self, plan: Plan, points: _Points) -> Plan:
        chance = self._chance
        call = plan.call or 1
        way = chance.randrange(3)
        if way == 0 and plan.faults:
            index = chance.randrange(len(plan.faults))
            return replace(
                plan,
                faults=plan.faults[:index] + plan.faults[index + 1 :],
                deliveries=max(2, plan.deliveries),
            )
        if way == 1 and len(plan.faults) < self.depth.faults:
            fault = points.fault(chance, call, chance.randint(1, len(plan.faults) + 1))
            known = {(f.point, f.side) for f in plan.faults}
            if fault is not None and (fault.point, fault.side) not in known:
                return replace(plan, faults=(*plan.faults, fault))
        return replace(plan, deliveries=chance.randint(1 if plan.faults else 2, self.depth.deliveries))

    def _shows_a_new_way(self, outcome: Outcome) -> bool:
        way = tuple(f"{e.delivery} {e.point.label}" for e in outcome.history.effects if e.point is not None)
        if way in self._ways:
            return False
        self._ways.add(way)
        return True


class _Points:
    """Where faults can strike, by call and delivery; further deliveries are learned from what was run."""

    def __init__(self, reference: Reference, options: Options) -> None:
        self._wanted = options.faults
        self._kinds: dict[tuple[int, int], dict[tuple[Point, Side], set[FaultKind]]] = {}
        self._interruptions = [kind for kind, there in reference.interruptions.items() if there]
        for event in reference.events:
            if event.point is not None and event.effect is not None:
                self._add(event.point, event.effect)
        self.calls = sorted({call for call, _ in self._kinds})
        window = reference.window_seconds
        moments = {lease + _SLACK_SECONDS for _, lease in leases(reference)}
        self.moments = sorted({moment for moment in moments if moment < window} | {window})

    def learn(self, outcome: Outcome) -> None:
        for event in outcome.history.effects:
            if event.point is not None and event.effect is not None:
                self._add(event.point, event.effect)

    def _add(self, point: Point, effect: Effect) -> None:
        here = self._kinds.setdefault((point.call, point.delivery), {})
        for side in Side:
            if (point, side) in here:
                return
            kinds = {FaultKind.KILL, *self._interruptions}
            kinds |= {k for k in effect.faults if (k is FaultKind.REFUSED) == (side is Side.BEFORE)}
            kinds.discard(FaultKind.FAILOVER)
            here[(point, side)] = {k for k in kinds if self._wanted is None or str(k) in self._wanted}

    def fault(self, chance: random.Random, call: int, delivery: int) -> Fault | None:
        places = self._kinds.get((call, delivery))
        if not places:
            return None
        point, side = chance.choice(list(places))
        kinds = sorted(places[(point, side)])
        return Fault(chance.choice(kinds), point, side) if kinds else None
