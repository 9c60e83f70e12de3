"""The nouns of idemfuzz: frozen, slotted, standard library only.

===============  ==========================================================================
Job              a callable with its arguments, as enqueued: the subject of the claim
Delivery         one handing of a Job to a worker; at-least-once means one or more per Job
Execution        one Delivery's body running; it ends ok, failed, or cut by a fault
Effect           one observable action on the outside: a statement, a commit, a command, a mail
Step             the stretch of an Execution from one yield point to the next
Schedule         the ordered choice of which Execution takes the next Step (``Segment``)
Footprint        what an Effect reads and writes: ``Region`` s of a store; two that do not meet commute
Fault            a named deviation at a ``Point`` of one delivery
Plan             deliveries + schedule + faults: everything that a trial needs; pure data
Trial            one run of a Plan from restored state until nothing can move
History          the totally ordered record of a Trial's events
Store            an adapter to something with state; it captures, restores and describes
Fact, Delta      one row, key, file or outside call; what a Trial added and removed
Reference        the outcome of one clean Delivery, run at least twice to learn what is noise
Example          the arguments and the starting state of a Job in one search, as plain values
Verdict          holds / unknown / violated; the worst wins; unknown never counts as a pass
Finding          a violated Verdict with a stable code, the evidence, the cause and the remedy
Counterexample   the smallest Plan found that still shows a Finding, reproduced k of k times
Certificate      what a pass covered
Guard            what keeps a second delivery from doing the work again: a unique key, a lock, a condition
Proof, Mend      what the same search came to without a guard, or with one more
===============  ==========================================================================
"""

from idemfuzz.model.effect import Access, Effect, Source
from idemfuzz.model.example import Example
from idemfuzz.model.footprint import NOTHING, Footprint, Plane, Region, conflict
from idemfuzz.model.history import Ending, Event, EventKind, History, Step
from idemfuzz.model.plan import (
    DELIVERIES_MAX,
    PLAN_VERSION,
    SECONDS_MAX,
    Fault,
    FaultKind,
    Identity,
    Lapse,
    Plan,
    PlanError,
    Point,
    Segment,
    Side,
)
from idemfuzz.model.proof import Guard, GuardKind, Mend, Proof, Removal, Role
from idemfuzz.model.state import Delta, Fact, FactKind, Opaque
from idemfuzz.model.values import ValueFormError, decode, encode
from idemfuzz.model.verdict import (
    Certificate,
    Counterexample,
    Coverage,
    Difference,
    DifferenceKind,
    Finding,
    Note,
    Report,
    Verdict,
)

__all__ = [
    "DELIVERIES_MAX",
    "NOTHING",
    "PLAN_VERSION",
    "SECONDS_MAX",
    "Access",
    "Certificate",
    "Counterexample",
    "Coverage",
    "Delta",
    "Difference",
    "DifferenceKind",
    "Effect",
    "Ending",
    "Event",
    "EventKind",
    "Example",
    "Fact",
    "FactKind",
    "Fault",
    "FaultKind",
    "Finding",
    "Footprint",
    "Guard",
    "GuardKind",
    "History",
    "Identity",
    "Lapse",
    "Mend",
    "Note",
    "Opaque",
    "Plan",
    "PlanError",
    "Plane",
    "Point",
    "Proof",
    "Region",
    "Removal",
    "Report",
    "Role",
    "Segment",
    "Side",
    "Source",
    "Step",
    "ValueFormError",
    "Verdict",
    "conflict",
    "decode",
    "encode",
]
