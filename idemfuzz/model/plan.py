"""Plans: everything that a Trial needs, as pure data with a short text form and a JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import quote, unquote

PLAN_VERSION = 1
DELIVERIES_MAX = 1_000
"""Of a plan, and of the options that lead to plans: more can neither be waited for nor, at once, be held in threads."""
SECONDS_MAX = 1e8
"""Three years: the most that a plan lets pass at a time, so that no clock is moved past what a date can say."""


class PlanError(ValueError):
    """A plan text or file that cannot be read; the message says which part and what was expected."""


class FaultKind(StrEnum):
    """The named deviations that a gate can make happen at a Point."""

    KILL = "kill"
    """The worker process is gone: no except, no finally."""
    TIMEOUT = "timeout"
    """The queue's own time-limit exception."""
    SHUTDOWN = "shutdown"
    """The queue's own shutdown exception."""
    REFUSED = "refused"
    """A connection error; the Effect did not happen."""
    LOST = "lost"
    """A connection error; the Effect did happen (its reply was lost)."""
    RESENT = "resent"
    """The reply was lost and the client library silently sent the command again."""
    FAILOVER = "failover"
    """The store went on from an older state after the delivery: it lost its writes from this Effect on."""


class Side(StrEnum):
    """Before or after the Effect at a Point."""

    BEFORE = "before"
    AFTER = "after"


class Identity(StrEnum):
    """Whether a duplicate carries the first delivery's job id (a redelivery) or one of its own (a producer's retry)."""

    SAME = "same"
    NEW = "new"


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in a Trial: the k-th time that a label is reached by one delivery of one call (all count from 1)."""

    call: int
    delivery: int
    label: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.label}#{self.occurrence} of delivery {self.delivery}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A named deviation at one side of a Point."""

    kind: FaultKind
    point: Point
    side: Side

    def __str__(self) -> str:
        return f"{self.kind} {self.side} {self.point}"


@dataclass(frozen=True, slots=True)
class Segment:
    """Delivery ``delivery`` takes ``steps`` Steps, or goes on until it has done the Effect ``through``.

    With neither it goes on until it ends. Wherever it is blocked before that, the Segment is over.
    """

    delivery: int
    steps: int | None = None
    through: tuple[str, int] | None = None
    """A label and its occurrence: unlike a number of Steps it survives an edit elsewhere in the job."""

    def __str__(self) -> str:
        if self.through is not None:
            label, occurrence = self.through
            return f"{self.delivery}+{quote(label, safe=_SAFE)}#{occurrence}"
        return str(self.delivery) if self.steps is None else f"{self.delivery}x{self.steps}"


@dataclass(frozen=True, slots=True)
class Lapse:
    """Time passes between two Segments, for the jobs' clocks and for the leases in the stores."""

    seconds: float

    def __str__(self) -> str:
        return f"+{_seconds(self.seconds)}s"


def _seconds(value: float) -> str:
    """Up to milliseconds, and never with an exponent."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


_SAFE = "/*-_."
_ORDER = re.compile(
    r"\+(?P<lapse>\d+(?:\.\d+)?)s|(?P<delivery>[1-9]\d*)(?:x(?P<steps>\d+)|\+(?P<label>[^#,:]+)#(?P<n>[1-9]\d*))?"
)
_FAULT = re.compile(
    r"(?P<kind>[a-z]+)(?P<side>[+-])(?P<label>[^#]+)#(?P<n>\d+)@(?P<call>\d+)\.(?P<delivery>\d+)\Z"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the calls of a scenario are delivered in one Trial.

    ``deliveries`` counts what the queue delivers on its own account; a redelivery that answers a failed or
    killed Execution comes on top. ``overlap`` is empty when deliveries run one after another. ``call`` is the
    call (from 1) that the plan speaks of; None means every call of the scenario. ``late_seconds`` pass before each
    delivery but the first.
    """

    deliveries: int = 1
    identity: Identity = Identity.SAME
    faults: tuple[Fault, ...] = ()
    overlap: tuple[Segment | Lapse, ...] = ()
    call: int | None = None
    late_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what nobody can carry out.

        Raises:
            PlanError: too many deliveries, or too long a time.
        """
        for deliveries in (self.deliveries, self.overlapping or 1):
            if not 1 <= deliveries <= DELIVERIES_MAX:
                raise PlanError(
                    f"plan {str(self)!r:.200} asks for {deliveries} deliveries; expected 1 to {DELIVERIES_MAX}"
                )
        lapses = sum(part.seconds for part in self.overlap if isinstance(part, Lapse))
        for seconds in (self.late_seconds, lapses):
            if not 0 <= seconds <= SECONDS_MAX:
                raise PlanError(
                    f"plan {str(self)!r:.200} lets {seconds:g} seconds pass; expected 0 to {SECONDS_MAX:.0f}"
                )

    @property
    def overlapping(self) -> int:
        """How many deliveries overlap; 0 where all run one after another."""
        return max((s.delivery for s in self.overlap if isinstance(s, Segment)), default=0)

    def __str__(self) -> str:
        """The pasteable form: ``v1:x2:kill+db.commit#1@1.1``."""
        parts = [f"v{PLAN_VERSION}", f"x{self.deliveries}"]
        if self.call is not None:
            parts.append(f"call={self.call}")
        if self.identity is not Identity.SAME:
            parts.append(f"id={self.identity}")
        if self.late_seconds:
            parts.append(f"late={_seconds(self.late_seconds)}")
        for fault in self.faults:
            point, sign = fault.point, "-" if fault.side is Side.BEFORE else "+"
            label = quote(point.label, safe=_SAFE)
            parts.append(f"{fault.kind}{sign}{label}#{point.occurrence}@{point.call}.{point.delivery}")
        if self.overlap:
            parts.append("order=" + ",".join(map(str, self.overlap)))
        return ":".join(parts)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read the pasteable form.

        Raises:
            PlanError: the text is not a plan of this version.
        """
        head, *parts = text.strip().split(":")
        if head != f"v{PLAN_VERSION}":
            raise PlanError(
                f"plan {text!r} starts with {head!r}; this idemfuzz reads plans that start with 'v{PLAN_VERSION}'"
            )
        plan = cls()
        for part in parts:
            try:
                plan = _extend(plan, part, text)
            except PlanError:
                raise
            except ValueError as error:
                raise PlanError(f"cannot read {part!r:.100} in plan {text!r:.200}: {error}") from error
        return plan

    def to_json(self) -> dict[str, Any]:
        return {
            "version": PLAN_VERSION,
            "deliveries": self.deliveries,
            "identity": str(self.identity),
            "call": self.call,
            "faults": [
                {
                    "kind": str(f.kind),
                    "side": str(f.side),
                    "call": f.point.call,
                    "delivery": f.point.delivery,
                    "label": f.point.label,
                    "occurrence": f.point.occurrence,
                }
                for f in self.faults
            ],
            "overlap": [str(segment) for segment in self.overlap],
            "late_seconds": self.late_seconds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            PlanError: another version, or a part is missing or of the wrong type.
        """
        if data.get("version") != PLAN_VERSION:
            raise PlanError(
                f"plan version {data.get('version')!r}; this idemfuzz reads version {PLAN_VERSION}"
            )
        try:
            return cls(
                deliveries=int(data["deliveries"]),
                identity=Identity(data["identity"]),
                call=None if data["call"] is None else int(data["call"]),
                faults=tuple(
                    Fault(
                        FaultKind(f["kind"]),
                        Point(int(f["call"]), int(f["delivery"]), str(f["label"]), int(f["occurrence"])),
                        Side(f["side"]),
                    )
                    for f in data["faults"]
                ),
                overlap=tuple(map(_segment, data["overlap"])),
                late_seconds=float(data["late_seconds"]),
            )
        except PlanError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"not a plan: {error!r} in {dict(data)!r}") from error


def _segment(text: str) -> Segment | Lapse:
    match = _ORDER.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no part of an order; expected 1 (to its end), 1x3 (three steps), "
            "1+db.insert.users#1 (through that effect) or +60s (time passes)"
        )
    if match["lapse"] is not None:
        return Lapse(float(match["lapse"]))
    return Segment(
        int(match["delivery"]),
        int(match["steps"]) if match["steps"] is not None else None,
        (unquote(match["label"]), int(match["n"])) if match["label"] is not None else None,
    )


def _extend(plan: Plan, part: str, text: str) -> Plan:
    if re.fullmatch(r"x[1-9]\d*", part):
        return replace(plan, deliveries=int(part[1:]))
    if re.fullmatch(r"call=[1-9]\d*", part):
        return replace(plan, call=int(part[5:]))
    if part in ("id=same", "id=new"):
        return replace(plan, identity=Identity(part[3:]))
    if re.fullmatch(r"late=\d+(\.\d+)?", part):
        return replace(plan, late_seconds=float(part[5:]))
    if part.startswith("order="):
        return replace(plan, overlap=tuple(map(_segment, part[6:].split(","))))
    match = _FAULT.match(part)
    if match is None or match["kind"] not in set(FaultKind):
        raise PlanError(
            f"cannot read {part!r} in plan {text!r}; expected xN, call=N, id=new, late=SECONDS, "
            f"order=1+db.insert.users#1,2,1 or a fault such as kill+db.commit#1@1.1 (kinds: {', '.join(FaultKind)})"
        )
    point = Point(int(match["call"]), int(match["delivery"]), unquote(match["label"]), int(match["n"]))
    side = Side.BEFORE if match["side"] == "-" else Side.AFTER
    return replace(plan, faults=(*plan.faults, Fault(FaultKind(match["kind"]), point, side)))
