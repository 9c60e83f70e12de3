"""The threads of one Execution: each has its Effects when no other one is at work, the one that was started first before the rest.

So what a job does on several threads comes in the same order in each Trial, a kill strikes when all of them stand, and no
connection is severed while another thread is in its driver. Between Effects threads run as they like.
"""

from __future__ import annotations

import itertools
import threading
import time

__all__ = ["Strand", "Strands"]

_LOOK_SECONDS = 0.0005
_PATIENCE_SECONDS = 0.05
"""After so long, whoever is inside may wait for a lock that another strand holds, or computes for long."""
_GIVING_WAY_SECONDS = 0.2
_IDLE_LOOKS = 10
_now = time.monotonic
_real_sleep = time.sleep


class Strand:
    """One thread, or one piece of work on a pool's thread, from when it was started."""

    def __init__(self, number: int, local: threading.local | None = None) -> None:
        self.number = number
        self._local = local
        self.native: int | None = None
        self.switches = -1
        self.waits = False
        self.begun = False
        self.ended = False

    def begin(self) -> None:
        self.native = threading.get_native_id()
        self.begun = True

    def __enter__(self) -> None:
        self.begin()
        if self._local is not None:
            self._local.strand = self

    def __exit__(self, *raised: object) -> None:
        self.ended = True
        if self._local is not None:
            self._local.strand = None

    def rests(self) -> bool:
        """Whether its thread has slept since this was last asked; True where that cannot be told."""
        try:
            with open(f"/proc/self/task/{self.native}/status") as status:
                told = dict(line.split(":", 1) for line in status)
        except OSError:
            return True
        switches = int(told["voluntary_ctxt_switches"]) + int(told["nonvoluntary_ctxt_switches"])
        same = switches == self.switches
        self.switches = switches
        return same and told["State"].split()[0] == "S"


class Strands:
    """Who of one Execution may have an Effect under way."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._local = threading.local()
        self._all: list[Strand] = []
        self._inside: dict[Strand, float] = {}
        self._guard = threading.Lock()
        self._over = 0
        self._free_since = 0.0
        self.standing = 0
        """How many of those inside stand before their Effect, as somebody else has to go on first."""

    @property
    def several(self) -> bool:
        return bool(self._all) and any(not strand.ended for strand in self._all)

    @property
    def mine(self) -> Strand | None:
        """The strand of the code at hand, where it is not the body's own thread."""
        found: Strand | None = getattr(self._local, "strand", None)
        return found

    def start(self) -> Strand:
        """A strand is about to be started."""
        strand = Strand(next(self._numbers), self._local)
        with self._guard:
            self._all = [known for known in self._all if not known.ended]
            self._all.append(strand)
        return strand

    def rest(self, body: Strand) -> bool:
        """Whether none of them has done anything since this was last asked."""
        looks = [strand.rests() for strand in (body, *self._all) if not strand.ended and strand.begun]
        return all(looks)

    def enter(self, body: Strand) -> None:
        """Until the code at hand may have its Effect; ``body`` is the strand of the body's own thread."""
        me = self.mine or body
        me.waits = True
        begun = _now()
        try:
            while not self._may_enter(me, body, begun):
                _real_sleep(_LOOK_SECONDS)
        finally:
            me.waits = False

    def leave(self, body: Strand) -> None:
        if not self._all:
            return
        with self._guard:
            self._over += 1
            self._free_since = _now()
            self._inside.pop(self.mine or body, None)

    def give_way(self, body: Strand) -> bool:
        """Let others have an Effect each; False if nobody had one: somebody else holds what they want."""
        if not self.several:
            return False
        over = self._over
        me = self.mine or body
        with self._guard:
            self._inside.pop(me, None)
        deadline = _now() + _GIVING_WAY_SECONDS
        idle = 0
        while self._over == over and not self.standing and idle < _IDLE_LOOKS and _now() < deadline:
            _real_sleep(_LOOK_SECONDS)
            others = [other for other in (body, *self._all) if other is not me]
            idle = idle + 1 if all(other.rests() and not other.waits for other in others) else 0
        self.enter(body)
        return self._over > over

    def _may_enter(self, me: Strand, body: Strand, begun: float) -> bool:
        with self._guard:
            if self._inside:
                stuck = not self.standing and all(
                    _now() - since > _PATIENCE_SECONDS for since in self._inside.values()
                )
                if not stuck:
                    return False
            elif not self._is_first(me, body):
                waited = _now() - max(begun, self._free_since)
                if waited < _PATIENCE_SECONDS:
                    return False
            self._inside[me] = _now()
            return True

    def _is_first(self, me: Strand, body: Strand) -> bool:
        """All others wait for their turn behind this one, or sleep until something happens."""
        for other in (body, *self._all):
            if other is me or other.ended:
                continue
            if other.waits:
                if other is body or (me is not body and other.number < me.number):
                    return False
            elif not other.begun:
                if me is not body and other.number < me.number:
                    return False
            elif not other.rests():
                return False
        return True
