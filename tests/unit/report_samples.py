"""Reports made by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from idemfuzz.model import (
    Access,
    Certificate,
    Counterexample,
    Coverage,
    Delta,
    Difference,
    DifferenceKind,
    Effect,
    Ending,
    Event,
    EventKind,
    Fact,
    FactKind,
    Fault,
    FaultKind,
    Finding,
    History,
    Note,
    Plan,
    Point,
    Report,
    Segment,
    Side,
    Source,
    Verdict,
)

TWICE = Plan(2)
SOURCE = Source("shop/jobs.py", 18, "create_user")


def effect(delivery: int, detail: str, outcome: str = "", *, call: int = 1, label: str = "db.x") -> Event:
    made = Effect(label, "db", Access.PENDING, detail, source=SOURCE)
    point = Point(call, delivery, label, 1)
    return Event(EventKind.EFFECT, call, delivery, detail, outcome, made, point, stack=(SOURCE,))


def end(delivery: int, ending: Ending = Ending.OK, text: str = "") -> Event:
    return Event(EventKind.END, 1, delivery, text, ending=ending)


def row(**fields: Any) -> Fact:
    return Fact("db", FactKind.ROW, "users", fields, identity=("id",))


EXTRA = Difference(
    DifferenceKind.EXTRA,
    "db",
    "users",
    actual=row(id=2, email="ada@example.org"),
    expected_count=1,
    actual_count=2,
)


def finding(
    *events: Event, plan: Plan = TWICE, differences: tuple[Difference, ...] = (EXTRA,), **more: Any
) -> Finding:
    history = History(events or (effect(1, "INSERT", "1 row"), end(1), effect(2, "INSERT", "1 row"), end(2)))
    example = Counterexample(
        plan,
        history,
        3,
        3,
        command="idemfuzz run t.py::test --plan v1:x2",
        reference=Delta(added=tuple(d.expected for d in differences if d.expected)),
        changes=Delta(added=tuple(d.actual for d in differences if d.actual)),
    )
    summary = "db: users: 2 rows instead of 1"
    parts: dict[str, Any] = {"cause": "the ack is lost", "remedy": "Add a unique key", "source": SOURCE}
    return Finding("IDM101", "row duplicated", summary, differences, example, **{**parts, **more})


def report(*findings: Finding, **more: Any) -> Report:
    return Report("t.py::test", Verdict.VIOLATED if findings else Verdict.HOLDS, findings, **more)


CERTIFICATE = Certificate(
    jobs=("shop.create_user",),
    stores=("db (sql)",),
    references=2,
    effects=3,
    calls=1,
    trials=1037,
    executions=1090,
    redeliveries=3,
    coverage=(
        Coverage("replay", 1, 1),
        Coverage("crash", planned=1036, ran=1036, fired=1034, pruned=4, unreached=2),
    ),
    exhaustive=True,
    bounds=("1 fault",),
    ignored=("db.users.seen",),
    noise=("db.users.created_at",),
    seed=7,
    seconds=1.25,
)


HOSTILE = (
    "</script><script>alert(1)</script>",
    "]]><b>x</b>",
    "\x1b[31mred\x1b[0m \x00\x08",
    "a|b `c` **d** [e](javascript:f)",
    "one\n::error::two\r%0A%25 three",
    "<img src=x onerror=alert(2)>\u2028&amp; ' \" \ud800",
)
"""What names and values may hold, and no report may take for its own syntax."""


def hostile() -> Report:
    """A report in which everything that comes from users is hostile."""
    evil = " ".join(HOSTILE)
    fields = {evil: evil, "id": 7}
    fact = Fact("db", FactKind.ROW, evil, fields, identity=("id",))
    source = Source(evil, 18, evil)
    label = evil.replace("\ud800", "")
    made = Effect(label, "db", Access.DURABLE, evil, source=source)
    point = Point(1, 1, label, 1)
    fault = Fault(FaultKind.KILL, point, Side.AFTER)
    events = (
        Event(EventKind.EFFECT, 1, 1, evil, evil, made, point, failed=True, stack=(source,)),
        Event(EventKind.FAULT, 1, 1, evil, effect=made, point=point, fault=fault, stack=(source,)),
        Event(EventKind.END, 1, 1, evil, ending=Ending.KILLED),
        Event(EventKind.EFFECT, 1, 2, evil, evil, made, Point(1, 2, label, 1)),
        Event(EventKind.END, 1, 2, evil, ending=Ending.OK),
    )
    found = finding(
        *events,
        plan=Plan(1, faults=(fault,)),
        differences=(
            Difference(DifferenceKind.EXTRA, "db", evil, actual=fact, expected_count=0, actual_count=1),
        ),
        cause=evil,
        remedy=evil,
        source=source,
        also=(evil,),
    )
    certificate = Certificate(jobs=(evil,), stores=(evil,), ignored=(evil,), noise=(evil,), bounds=(evil,))
    notes = (Note("IDM901", evil),)
    return Report(
        f"t.py::test[{evil}]", Verdict.VIOLATED, (found,), notes, certificate, reference=History(events[-2:])
    )


OVERLAP = Plan(2, overlap=(Segment(1, 1), Segment(2, 1), Segment(1), Segment(2)))
