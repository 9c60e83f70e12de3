"""Budget: which explorers run, and how many trials each of them gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from idemfuzz.abc import Explorer, SearchingExplorer
from idemfuzz.explorers import OPTIONAL
from idemfuzz.model import Plan

SEARCH_TRIALS_MIN = 12
"""What a search gets before the budget is shared with the next one."""
_SEARCHED_SHARE = 0.3
"""Of the budget, what is kept for explorers that search."""
_PLAIN_MAX = 3


def is_wanted(explorer: Explorer | SearchingExplorer, wanted: frozenset[str] | None) -> bool:
    """Whether an explorer runs under the ``faults`` option; None asks for all but the optional ones."""
    if wanted is None:
        return bool(explorer.faults - OPTIONAL)
    together = getattr(explorer, "together", False)
    return explorer.faults <= wanted if together else bool(explorer.faults & wanted)


def divided(planned: Mapping[str, int], budget: int, *, searched: bool) -> dict[str, int]:
    """How many of its plans each list may run: short lists all of them, long ones what is left, in equal parts.

    A part of the budget is kept for explorers that search.
    """
    kept = min(budget // 2, max(SEARCH_TRIALS_MIN, int(budget * _SEARCHED_SHARE))) if searched else 0
    left = budget - kept
    shares: dict[str, int] = {}
    first = next(iter(planned), None)
    if first is not None and planned[first] <= _PLAIN_MAX:
        # Plain duplicates come before everything else.
        shares[first] = min(planned[first], left)
        left -= shares[first]
        planned = {name: number for name, number in planned.items() if name != first}
    shortest_first = sorted(planned, key=planned.__getitem__)
    for index, name in enumerate(shortest_first):
        shares[name] = min(planned[name], left // (len(planned) - index))
        left -= shares[name]
    return shares


def thinned(plans: Sequence[Plan], wanted: int) -> Sequence[Plan]:
    """Evenly over the run, the ends always among them."""
    if wanted >= len(plans):
        return plans
    if wanted < 2:
        return plans[:wanted]
    step = (len(plans) - 1) / (wanted - 1)
    return [plans[round(i * step)] for i in range(wanted)]
