"""All that happened to one job, in the order of time: enqueued, started, struck, given out again, ended."""

from __future__ import annotations

from collections.abc import Sequence

from idemfuzz.stress.ledger import Ledger, Message
from idemfuzz.stress.owners import Arguments
from idemfuzz.stress.report import Story, TimelineEntry

__all__ = ["cause_of", "story_of"]

_TIMELINE_MAX = 40


def story_of(job: int, ledger: Ledger, arguments: Arguments) -> Story:
    messages = ledger.of_job(job)
    args, kwargs = arguments(job)
    shown = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    begin = min((at for m in messages for at in m.sent), default=0.0)
    entries: list[TimelineEntry] = []
    for message in messages:
        entries += [TimelineEntry(at - begin, "enqueued", detail=message.job_id) for at in message.sent]
        entries += [
            TimelineEntry(at - begin, "sent again", detail="its reply was lost") for at in message.sent_again
        ]
        entries += [
            TimelineEntry(
                at - begin,
                "sent again",
                detail="its reply was lost; refused by unique=True, though it is queued",
            )
            for at in message.refused_again
        ]
        entries += [
            TimelineEntry(at - begin, "given out again", detail=path) for at, path in message.requeued
        ]
        for run in message.runs:
            who = f"{run.worker.rpartition('-')[2] or run.worker} pid {run.pid}"
            entries.append(TimelineEntry(run.started - begin, "started", who, message.job_id))
            for effect in run.effects:
                if effect["access"] != "read":
                    detail = effect["detail"] + (f" → {effect['outcome']}" if effect["outcome"] else "")
                    entries.append(TimelineEntry(effect["at"] - begin, effect["label"], who, detail))
            if run.struck and run.struck_at is not None:
                entries.append(TimelineEntry(run.struck_at - begin, "struck", who, run.struck))
            if run.ended is not None:
                entries.append(TimelineEntry(run.ended - begin, f"ended: {run.ending}", who, run.error or ""))
    entries.sort(key=lambda entry: entry.at)
    return Story(
        job,
        ", ".join(shown),
        tuple(entries[:_TIMELINE_MAX]),
        sum(len(m.runs) for m in messages),
        sum(m.succeeded for m in messages),
        cause_of(messages),
    )


def cause_of(messages: Sequence[Message]) -> str:
    sent = sum(m.queued for m in messages)
    parts = []
    struck = [run for m in messages for run in m.runs if run.struck]
    if struck:
        first = struck[0].struck or ""
        parts.append(first.replace("#1", ""))
    if any(m.overlaps for m in messages) or _overlap(messages):
        parts.append("two executions at once")
    elif sent > 1:
        ids = len([m for m in messages if m.sent])
        parts.append(f"enqueued {sent} times" + (" under one id" if ids == 1 else ""))
    return ", then ".join(parts)


def _overlap(messages: Sequence[Message]) -> bool:
    runs = [run for m in messages for run in m.runs]
    return any(one.overlaps(other) for n, one in enumerate(runs) for other in runs[n + 1 :])
