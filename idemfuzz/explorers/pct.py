"""Probabilistic concurrency testing: random priorities with a few random changes, and a bound that can be printed.

Burckhardt, Kothari, Musuvathi and Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs"
(ASPLOS 2010). A bug of depth d (d ordering constraints) in n deliveries of k Steps in all is found by one run with a
probability of at least 1 / (n * k**(d - 1)).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from idemfuzz.model import Footprint, Lapse, Step


class PctGuide:
    """The scheduler of one run: the highest priority moves; at ``depth - 1`` random Steps the mover becomes the lowest."""

    def __init__(self, seed: str, deliveries: int, steps_max: int, depth: int) -> None:
        chance = random.Random(seed)
        self._priorities = {
            number: depth + rank
            for rank, number in enumerate(chance.sample(range(1, deliveries + 1), deliveries))
        }
        changes = chance.sample(range(1, max(depth, steps_max)), depth - 1)
        self._changes = {at: depth - 1 - i for i, at in enumerate(changes)}
        self._taken = 0

    def choose(self, ready: Mapping[int, Footprint | None]) -> int | Lapse:
        return max(ready, key=self._priorities.__getitem__)

    def took(self, step: Step) -> None:
        self._taken += 1
        lowered = self._changes.get(self._taken)
        if lowered is not None:
            self._priorities[step.delivery] = lowered


def found_at_least(runs: int, deliveries: int, steps_max: int, depth: int) -> float:
    """The probability with which ``runs`` runs find a bug of this depth, if there is one."""
    once: float = 1.0 / (deliveries * max(1, steps_max) ** (depth - 1))
    return float(1.0 - (1.0 - once) ** runs)
