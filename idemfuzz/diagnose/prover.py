"""Which guards carry a job: searched again without each of them, and without several where no single one falls over.

This module decides what to try and what that shows; a session runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from idemfuzz.model import Guard, GuardKind, Mend, Plan, Removal, Role

__all__ = ["Attempt", "mended", "proven"]

_PAIRS_MAX = 15


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the same search came to with other guards."""

    plans: int = 0
    fallen: int = 0
    codes: tuple[tuple[str, int], ...] = ()
    shown: str = ""
    """What the simplest fallen plan shows; where none fell, what a duplicate raises."""
    plan: Plan | None = None
    obstacle: str = ""
    """Why it shows nothing: it could not be run, a clean delivery differs, or it broke off."""


def proven(guards: Sequence[Guard], attempt: Callable[[tuple[Guard, ...]], Attempt]) -> tuple[Removal, ...]:
    """Each guard with its role. ``attempt`` searches without some of them.

    What does not fall over alone is taken away all at once: if the job still holds, all of it is decoration. If not, pairs
    tell which ones stand in for each other, and of what is left the least set that falls over is looked for.
    """
    single = [_removal((guard,), attempt((guard,))) for guard in guards]
    spare = [removal for removal in single if removal.role is Role.DECORATION]
    told = [removal for removal in single if removal.role is not Role.DECORATION]
    if len(spare) < 2:
        return (*told, *spare)
    together = tuple(guard for removal in spare for guard in removal.guards)
    whole = attempt(together)
    if whole.obstacle:
        note = f"not tried without the other ones ({whole.obstacle})"
        return (*told, *(replace(removal, why=note) for removal in spare))
    if not whole.fallen:
        note = f"nor without {_others(len(spare))} at once"
        return (*told, *(replace(removal, why=note) for removal in spare))
    found = _pairs(together, attempt)
    left = tuple(guard for guard in together if not any(guard in removal.guards for removal in found))
    if len(left) > 1:
        whole = attempt(left) if found else whole
        if whole.fallen:
            found.append(_least(left, whole, attempt))
    named = {guard for removal in found for guard in removal.guards}
    return (*told, *found, *(removal for removal in spare if not named.issuperset(removal.guards)))


def _pairs(guards: tuple[Guard, ...], attempt: Callable[[tuple[Guard, ...]], Attempt]) -> list[Removal]:
    """The pairs that fall over; none where there are too many to try."""
    pairs = list(combinations(guards, 2))
    if len(guards) == 2 or len(pairs) > _PAIRS_MAX:
        return []
    removals = (_removal(pair, attempt(pair)) for pair in pairs)
    return [replace(removal, role=Role.TOGETHER) for removal in removals if removal.fallen]


def _least(
    guards: tuple[Guard, ...], whole: Attempt, attempt: Callable[[tuple[Guard, ...]], Attempt]
) -> Removal:
    """A set that falls over, without those that it falls over without."""
    for guard in guards:
        fewer = tuple(one for one in guards if one is not guard)
        if len(fewer) > 1 and (tried := attempt(fewer)).fallen:
            guards, whole = fewer, tried
    return replace(_removal(guards, whole), role=Role.TOGETHER)


def _removal(guards: tuple[Guard, ...], attempt: Attempt) -> Removal:
    role = Role.UNPROVABLE if attempt.obstacle else Role.CARRIES if attempt.fallen else Role.DECORATION
    return Removal(
        guards,
        role,
        attempt.plans,
        attempt.fallen,
        attempt.codes,
        attempt.shown if attempt.fallen else "",
        attempt.plan,
        attempt.obstacle,
    )


def _others(count: int) -> str:
    return "both" if count == 2 else f"all {count} such guards"


def mended(
    candidates: Mapping[Guard, str], attempt: Callable[[tuple[Guard, ...]], Attempt]
) -> tuple[Mend, ...]:
    """What each candidate (with the way to have it) does for a job; all keys at once, where one alone is not enough."""
    tried = [_mend((guard,), how, attempt((guard,))) for guard, how in candidates.items()]
    keys = tuple(guard for guard in candidates if guard.kind is GuardKind.UNIQUE)
    if len(keys) > 1 and not any(mend.verified for mend in tried):
        how = "; ".join(candidates[guard] for guard in keys)
        tried.append(_mend(keys, how, attempt(keys)))
    return tuple(tried)


def _mend(guards: tuple[Guard, ...], how: str, attempt: Attempt) -> Mend:
    verified = not attempt.obstacle and not attempt.fallen
    why = attempt.obstacle or attempt.shown
    return Mend(guards, verified, attempt.plans, attempt.fallen, how, why)
