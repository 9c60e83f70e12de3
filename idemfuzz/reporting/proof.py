"""What holds a job, and what would mend it, as labelled lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from idemfuzz.diagnose import CODES
from idemfuzz.model import Guard, GuardKind, Mend, Proof, Removal, Report, Role
from idemfuzz.reporting.certificate import counted

__all__ = ["mend_lines", "proof_lines", "proof_text"]

Line = tuple[str, str]
"""A label, and what it is about."""

_SINGLE = {
    Role.CARRIES: "held by",
    Role.TOGETHER: "held by",
    Role.DECORATION: "decoration",
    Role.UNPROVABLE: "not provable",
}


def proof_lines(proof: Proof) -> Iterator[Line]:
    """Each guard with what the search without it came to; what carries comes first."""
    if not proof.removals:
        yield (
            "none seen",
            "no guard of a kind that can be taken away was used: what holds the job is in its statements themselves",
        )
    for role in Role:
        for removal in proof.of(role):
            yield _SINGLE[role], _told(removal)


def mend_lines(mends: Sequence[Mend]) -> Iterator[Line]:
    """What was tried for a job that does not hold; what helps comes first."""
    for mend in sorted(mends, key=lambda mend: not mend.verified):
        names = _listed(mend.guards)
        if mend.verified:
            note = f" ({mend.why})" if mend.why else ""
            yield (
                "verified",
                f"{names}: the same search, {counted(mend.plans, 'plan')}, now holds{note}. {mend.how}",
            )
        elif mend.fallen:
            still = f"{mend.fallen} of {counted(mend.plans, 'plan')} still fall over"
            yield "not enough", f"{names}: {still}: {mend.why}"
        else:
            yield "not tried", f"{names}: {mend.why}"


def proof_text(report: Report) -> str:
    """Both, one line each; empty where neither was asked for."""
    lines = list(proof_lines(report.proof)) if report.proof is not None else []
    lines += mend_lines(report.mends)
    return "\n".join(f"{label}: {text}" for label, text in lines)


def _told(removal: Removal) -> str:
    names = _listed(removal.guards)
    where = next(
        (f" ({_place(guard)})" for guard in removal.guards if guard.source and len(removal.guards) == 1), ""
    )
    of = f"{removal.fallen} of {counted(removal.plans, 'plan')}"
    if removal.role is Role.CARRIES:
        return f"{names}{where}, proven: without it {of} fall over: {_shown(removal)}"
    if removal.role is Role.TOGETHER:
        return f"{names} together, proven: without one of them the job holds, without all of them {of} fall over: {_shown(removal)}"
    if removal.role is Role.DECORATION:
        note = f", {removal.why}" if removal.why else ""
        return f"{names}{where}: without it all {counted(removal.plans, 'plan')} still hold{note}"
    return f"{names}{where}: {removal.why}"


def _shown(removal: Removal) -> str:
    return ", ".join(
        f"{CODES[code].title} ({code})" for code, _ in sorted(removal.codes, key=lambda item: -item[1])
    )


def _listed(guards: Sequence[Guard]) -> str:
    return " and ".join(guard.name for guard in guards)


def _place(guard: Guard) -> str:
    """A key stands in the schema: the line is one of those that meet it."""
    assert guard.source is not None
    meets = "met at " if guard.kind is GuardKind.UNIQUE else ""
    return f"{meets}{guard.source.file}:{guard.source.line}"
