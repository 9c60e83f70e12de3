"""What RQ did with a message, by its code (IDM501 to IDM506); and because of which setting one was never done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from idemfuzz.model import FactKind
from idemfuzz.stress.ledger import Ended, Ledger, Message
from idemfuzz.stress.storm import Storm

__all__ = ["STRANGER", "behaviours", "is_taken", "never_done", "strange_executions", "why_lost"]

STRANGER = "a worker that is none of this run's listens on its queue; give it a Redis of its own, or leave --redis out"


def behaviours(message: Message, *, cut_short: bool) -> Iterator[str]:
    """The codes of what RQ did with it."""
    killed = any(run.ending == Ended.KILLED for run in message.runs)
    if killed and len(message.runs) > 1 and message.requeued:
        yield "IDM501"
    again = sum(run.ending == Ended.OK for run in message.runs) > message.queued
    if again:
        yield "IDM502" if message.overlaps and not message.callback_fails else "IDM503"
    if message.queued > 1 and len(message.runs) > 1:
        yield "IDM504"
    if message.refused or message.refused_again:
        yield "IDM505"
    if not message.succeeded and message.sent and not cut_short:
        yield "IDM506"


def is_taken(message: Message, fate: Mapping[str, Any]) -> bool:
    """Whether somebody else's worker has run it: RQ says that it is finished, and no Execution of the run ended well."""
    return not message.succeeded and fate.get("status") == "finished"


def strange_executions(ledger: Ledger) -> int:
    """How many messages were run that neither the run has sent nor the body of a job has enqueued."""
    enqueued = sum(call.kind is FactKind.JOB for call in ledger.calls) + ledger.counts["doubtful calls"]
    foreign = sum(message.job < 0 and bool(message.runs) for message in ledger.messages.values())
    return max(0, foreign - enqueued)


def never_done(ledger: Ledger) -> set[int]:
    """The jobs of which no Execution ended well."""
    sent = {m.job for m in ledger.messages.values() if m.job >= 0 and m.sent}
    return sent - {m.job for m in ledger.messages.values() if m.succeeded}


def why_lost(messages: Sequence[Message], storm: Storm) -> str:
    """The setting of RQ, or the job's own doing, because of which nothing was done; empty if it was merely not yet."""
    message = messages[0]
    fate = storm.fate_of.get(message.job_id, {})
    status, lists = fate.get("status"), fate.get("lists", [])
    runs = [run for m in messages for run in m.runs]
    if runs and all(run.ending == Ended.FAILED for run in runs) and status == "failed":
        return f"every execution fails, with {(runs[-1].error or '').partition(':')[0]}"
    if message.popped and status == "queued" and not lists:
        return (
            "a worker was killed after it had taken the job from the queue: listening on several queues, RQ takes it by BLPOP, "
            "and from then on it is in the worker's memory alone. Let each worker listen on one queue"
        )
    if storm.cut_short:
        return ""
    if status == "failed" and storm.settings.retries == 0:
        return (
            "its worker was killed and the message has no Retry: RQ moves it to the FailedJobRegistry and nobody runs it again. "
            "Enqueue with retry=Retry(max=...)"
        )
    if status == "failed":
        return "its retries were used up"
    if status == "gone" and storm.ledger.strikes["restart"]:
        return "Redis came back with the state of before it was sent"
    if status == "gone":
        return "RQ no longer knows the message"
    return f"RQ says {status!r}" + (f", in its {', '.join(lists)}" if lists else ", in none of its lists")
