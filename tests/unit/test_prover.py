"""What is tried to tell which guards carry a job, and what it is taken to show."""

from __future__ import annotations

from collections.abc import Sequence

from idemfuzz.diagnose.prover import Attempt, mended, proven
from idemfuzz.model import Guard, GuardKind, Role

A, B, C = (Guard(GuardKind.UNIQUE, "db", name) for name in "ABC")


class World:
    """A job that falls over as soon as it is without all of one of these sets."""

    def __init__(self, *carrying: set[Guard], stuck: Sequence[Guard] = ()) -> None:
        self.carrying = carrying
        self.stuck = set(stuck)
        self.tried: list[tuple[Guard, ...]] = []

    def without(self, guards: tuple[Guard, ...]) -> Attempt:
        self.tried.append(guards)
        if self.stuck & set(guards):
            return Attempt(obstacle="refused")
        falls = any(some <= set(guards) for some in self.carrying)
        return Attempt(10, 3, (("IDM101", 3),), "twice") if falls else Attempt(10)


def told(world: World, *guards: Guard) -> set[tuple[Role, str]]:
    return {(r.role, "".join(g.name for g in r.guards)) for r in proven(guards, world.without)}


def test_one_that_carries_alone() -> None:
    world = World({A})
    assert told(world, A, B) == {(Role.CARRIES, "A"), (Role.DECORATION, "B")}
    assert world.tried == [(A,), (B,)]


def test_what_holds_without_all_is_decoration() -> None:
    world = World()
    assert told(world, A, B, C) == {(Role.DECORATION, name) for name in "ABC"}
    assert (A, B, C) in world.tried


def test_two_that_stand_in_for_each_other() -> None:
    """Goal: a guard that is neither of the two is not said to carry."""
    assert told(World({A, C}), A, B, C) == {(Role.TOGETHER, "AC"), (Role.DECORATION, "B")}


def test_three_that_only_carry_together() -> None:
    assert told(World({A, B, C}), A, B, C) == {(Role.TOGETHER, "ABC")}


def test_a_pair_beside_three() -> None:
    """Goal: what no pair shows is still found."""
    d, e = (Guard(GuardKind.UNIQUE, "db", name) for name in "DE")
    world = World({A, B}, {C, d, e})
    assert told(world, A, B, C, d, e) == {(Role.TOGETHER, "AB"), (Role.TOGETHER, "CDE")}


def test_what_cannot_be_taken_away_is_not_guessed_at() -> None:
    world = World({A, B}, stuck=[C])
    assert told(world, A, B, C) == {(Role.TOGETHER, "AB"), (Role.UNPROVABLE, "C")}


def test_no_guards_no_claim() -> None:
    assert proven([], World().without) == ()


def test_keys_are_tried_at_once_where_none_is_enough() -> None:
    def with_(guards: tuple[Guard, ...]) -> Attempt:
        return Attempt(10) if set(guards) == {A, B} else Attempt(10, 2, (), "twice")

    mends = mended({A: "create a", B: "create b"}, with_)
    assert [(len(m.guards), m.verified) for m in mends] == [(1, False), (1, False), (2, True)]
    assert mends[-1].how == "create a; create b"
