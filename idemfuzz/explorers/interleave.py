"""Interleave: deliveries of one job run at the same time, in every order that can make a difference.

The search is complete where its budget allows, simplest Schedules first: serial, one preemption, two, and so on. What
is too large for the budget is sampled by PCT, and the certificate prints with what probability that finds a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from idemfuzz.abc import Extent, Options, Outcome, Proposal, Reference, Scheduler
from idemfuzz.explorers.dpor import Diverged, Guide, Tree
from idemfuzz.explorers.pct import PctGuide, found_at_least
from idemfuzz.model import Fault, Identity, Plan

_REPEATS = 3
_RESTARTS = 2
_AFTER_A_FINDING = 20
_PCT_SHARE = 0.25
_PCT_DEPTH = 2
_STEPS_MAX = 400
"""Of all deliveries together: what is longer is only sampled, for the analysis of a run costs its square."""

Search = Generator[Proposal, Outcome, Extent]


class InterleaveExplorer:
    """Two overlapping deliveries, or ``overlapping=`` of them, by dynamic partial order reduction."""

    name = "interleave"
    faults = frozenset({"overlap"})
    weight = 3

    def search(self, reference: Reference, options: Options, budget: int) -> Search:
        plans = [
            Plan(options.overlapping, identity=identity, call=call)
            for call in range(1, reference.calls + 1)
            if reference.of_call(call)
            for identity in (Identity.SAME, Identity.NEW)
            if identity is Identity.SAME or reference.identified
        ]
        extent = Extent(exhaustive=True, classes=0)
        for number, plan in enumerate(plans):
            # What one call does not use is left to the others.
            share = (budget - extent.ran) // (len(plans) - number)
            extent = extent.and_then((yield from interleavings(plan, share, seed=options.seed)))
        return extent


def tried(plan: Plan) -> Generator[Proposal, Outcome, Outcome]:
    """One Trial of a search, along the Plan's own Schedule."""
    outcome = yield Proposal(plan)
    return outcome


def interleavings(
    plan: Plan,
    budget: int,
    *,
    faults: tuple[Fault, ...] = (),
    seed: int = 0,
    sample: bool = True,
    ahead: Callable[[Guide], Scheduler] | None = None,
) -> Search:
    """All interleavings of one Plan's deliveries, as far as the budget goes; the rest is sampled if so wished.

    ``ahead`` makes a scheduler that runs the first delivery to its end before all others, which are then interleaved.
    """
    plan = replace(plan, faults=faults)
    symmetric = plan.identity is Identity.SAME and (not faults or ahead is not None)
    tree = Tree(symmetric=symmetric)
    restarts = 0
    exact = budget - int(budget * _PCT_SHARE) if sample else budget
    ran = longest = 0
    doubt = None
    limit = exact
    while longest <= _STEPS_MAX and ran < limit and (guide := tree.next()) is not None:
        for _ in range(_REPEATS):
            outcome = yield Proposal(plan, guide if ahead is None else ahead(guide))
            ran += 1
            if len(outcome.steps) > _STEPS_MAX:
                break
            steps = [step for step in outcome.steps if ahead is None or step.delivery != 1]
            try:
                tree.enter(guide, steps)
                break
            except Diverged as divergence:
                doubt = str(divergence)
                guide = guide.again()
        else:
            if restarts == _RESTARTS:
                return Extent(ran, len(tree.classes), False, f"{doubt}, {_REPEATS} times over", diverged=True)
            # The same anew each time: then it was the run that made the record which went astray, as on a machine so
            # busy that a database breaks a deadlock the other way round. Nothing that was learned from it holds.
            restarts, doubt, tree = restarts + 1, None, Tree(symmetric=symmetric)
            continue
        longest = max(longest, len(outcome.steps))
        unknown = next((s.label for s in outcome.steps if s.footprint is None), None)
        if unknown is not None:
            doubt = f"nobody knows what {unknown} touches"
        if outcome.hung:
            doubt = "a delivery did not end"
        if outcome.violated:
            limit = min(limit, ran + _AFTER_A_FINDING)
    if not tree.left and longest <= _STEPS_MAX:
        return Extent(ran, len(tree.classes), doubt is None, doubt)
    bound = f"every order with fewer than {tree.preemptions} preemptions"
    if longest > _STEPS_MAX:
        bound = f"with {longest} steps too large to be searched"
    if limit < exact or not sample:
        why = "stopped after a finding" if limit < exact else f"{ran} executions were its budget"
        return Extent(ran, len(tree.classes), False, f"{why}; {bound}")
    sampled = 0
    while ran < budget:
        outcome = yield Proposal(plan, PctGuide(f"{seed}/{ran}", plan.deliveries, longest, _PCT_DEPTH))
        ran, sampled = ran + 1, sampled + 1
    chance = found_at_least(sampled, plan.deliveries, longest, _PCT_DEPTH)
    return Extent(
        ran,
        len(tree.classes),
        False,
        f"over budget; {bound}, and {sampled} random ones: a bug of depth {_PCT_DEPTH} shows with a chance of {chance:.0%} at least",
    )
