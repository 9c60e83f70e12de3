"""The judgement: the same oracle as in a search, over all jobs at once, and told job by job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idemfuzz.checkers import Noise, Problem, State, compare
from idemfuzz.checkers.verdicts import duplicated
from idemfuzz.diagnose import CODES, summary_of
from idemfuzz.model import Difference, DifferenceKind, FactKind, Note, Verdict
from idemfuzz.stress.ledger import Ended, Ledger, Message
from idemfuzz.stress.report import Behaviour, Story, StressFinding, StressReport, TimelineEntry
from idemfuzz.stress.settings import Settings
from idemfuzz.stress.storm import Storm

__all__ = ["Clean", "judged"]

_STORIES_MAX = 3
_DIFFERENCES_MAX = 5
_TIMELINE_MAX = 40
_TEXT_LENGTH_MIN = 3
Arguments = Callable[[int], tuple[tuple[Any, ...], Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Clean:
    """What each job delivered once leaves behind."""

    state: State
    other_order: State | None
    """The same jobs in another order: what differs is the order's doing, and nobody's fault."""
    noise: Noise
    effects: tuple[Mapping[str, Any], ...]
    """Of the first job."""


def judged(
    name: str,
    clean: Clean,
    state: State,
    storm: Storm,
    settings: Settings,
    arguments: Arguments,
    *,
    stores: Sequence[str],
    seconds: float,
) -> StressReport:
    """The report of a run whose storm left ``state``."""
    ledger = storm.ledger
    jobs = sorted({m.job for m in ledger.messages.values() if m.job >= 0})
    notes: list[Note] = []
    sent_all = (
        not storm.interrupted and ledger.counts["sent"] + ledger.counts["refused"] >= settings.deliveries
    )
    differences, order_notes = _without_order(compare(clean.state, state, clean.noise).differences, clean)
    notes += order_notes
    owners = _Owners(arguments, _numbers(settings, clean, jobs))
    never_sent = {n for n in owners.numbers if n not in jobs and not ledger.forgotten}
    kept: dict[tuple[str, str, str], list[tuple[Difference, int | None]]] = defaultdict(list)
    owned = [(difference, owners.of(difference)) for difference in differences]
    undone = _undone(owned, clean, len(owners.numbers))
    never_done = _never_done(ledger)
    for difference, owner in owned:
        if owner in never_sent:
            continue
        code = _code(difference, None if owner is None else ledger.of_job(owner))
        if code is None:
            continue
        if code == "IDM202" and owner in undone:
            code = "IDM201"
        if code.startswith("IDM4"):
            notes.append(Note(code, f"a crash leaves {difference.group} behind until it expires"))
            continue
        if storm.unfinished and difference.kind is DifferenceKind.MISSING and owner is None:
            continue
        if (
            never_done
            and owner is None
            and difference.kind is DifferenceKind.CHANGED
            and not difference.twice
        ):
            notes.append(
                Note(
                    "IDM204",
                    f"{difference.store}: {difference.group} is made by several jobs, of which {len(never_done)} were never done: "
                    "it was not judged",
                )
            )
            continue
        kept[code, difference.store, difference.group].append((difference, owner))
    findings = [_finding(*key[:1], found, storm, arguments) for key, found in sorted(kept.items())]
    lost = _lost(
        storm, arguments, {owner for found in kept.values() for _, owner in found if owner is not None}
    )
    findings += lost
    behaviours = tuple(_behaviours(storm, arguments))
    duplicates = sum(m.queued + len(m.requeued) > 1 for m in ledger.messages.values())
    copies = sum(
        count > 1 for count in Counter(m.job for m in ledger.messages.values() if m.job >= 0).values()
    )
    why = _why_unknown(storm, sent_all, duplicates + copies + ledger.forgotten, ledger)
    verdict = Verdict.VIOLATED if findings else Verdict.UNKNOWN if why else Verdict.HOLDS
    if storm.crashes:
        notes.append(
            Note("IDM901", f"{len(storm.crashes)} workers ended by themselves; the first: {storm.crashes[0]}")
        )
    if ledger.counts["doubtful calls"]:
        notes.append(
            Note(
                "IDM901",
                f"{ledger.counts['doubtful calls']} outside calls were under way when their process was killed; whether they "
                "took place is not known, and they are not counted",
            )
        )
    return StressReport(
        name,
        verdict,
        tuple(findings),
        behaviours,
        tuple(dict.fromkeys(notes)),
        _counts(storm, len(jobs)),
        dict(ledger.strikes),
        tuple(stores),
        _bounds(settings),
        settings.seed,
        seconds,
        storm.seconds,
        _percentiles(ledger.latencies),
        why,
    )


# -- whose difference is it --------------------------------------------------------------------------------


class _Owners:
    """Finds the job that a fact belongs to, by the values of its arguments."""

    def __init__(self, arguments: Arguments, numbers: Sequence[int]) -> None:
        self.numbers = numbers
        words: dict[str, set[int]] = defaultdict(set)
        for number in numbers:
            args, kwargs = arguments(number)
            for leaf in _leaves([*args, *kwargs.values()]):
                words[leaf].add(number)
        # Only what tells jobs apart.
        self._words = {word: owners for word, owners in words.items() if len(owners) < max(2, len(numbers))}

    def of(self, difference: Difference) -> int | None:
        if len(self.numbers) == 1:
            return self.numbers[0]
        votes: Counter[int] = Counter()
        facts = [fact for fact in (difference.actual, difference.expected) if fact is not None]
        leaves = {leaf for fact in facts for leaf in _leaves(list(fact.fields.values()))}
        for leaf in leaves:
            for owner in self._words.get(leaf, ()):
                votes[owner] += 2
        if not votes:
            for word, owners in self._words.items():
                if len(word) >= _TEXT_LENGTH_MIN and any(word in leaf for leaf in leaves):
                    votes.update(owners)
        best = votes.most_common(2)
        if not best or (len(best) == 2 and best[0][1] == best[1][1]):
            return None
        return best[0][0]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _numbers(settings: Settings, clean: Clean, jobs: Sequence[int]) -> list[int]:
    if clean.other_order is None:
        return [0]
    top = max(jobs, default=0) + 1
    return list(range(max(top, settings.distinct or max(1, min(200, settings.deliveries // 2)))))


def _without_order(differences: Sequence[Difference], clean: Clean) -> tuple[list[Difference], list[Note]]:
    """Leave out what depends on the order of different jobs even when nothing goes wrong."""
    if clean.other_order is None:
        return list(differences), []
    ordered = {
        (d.store, d.group, d.columns)
        for d in compare(clean.state, clean.other_order, clean.noise).differences
    }
    kept = [d for d in differences if (d.store, d.group, d.columns) not in ordered]
    notes = [
        Note("IDM901", f"{store}: {group} depends on the order of different jobs, and was not judged")
        for store, group, _ in sorted(ordered)
    ]
    return kept, notes


# -- what is it called -------------------------------------------------------------------------------------


def _undone(owned: Sequence[tuple[Difference, int | None]], clean: Clean, jobs: int) -> set[int]:
    """The jobs of whose work (rows, mails, calls: no keys) nothing is there."""
    work = sum(fact.kind is not FactKind.KEY for fact in clean.state.delta.added) // max(1, jobs)
    missing = Counter(
        owner
        for difference, owner in owned
        if owner is not None
        and difference.kind is DifferenceKind.MISSING
        and difference.fact.kind is not FactKind.KEY
    )
    return {owner for owner, count in missing.items() if work and count >= work}


def _code(difference: Difference, messages: Sequence[Message] | None) -> str | None:
    """None for what is no fault of anybody's."""
    fact = difference.fact
    struck = messages is None or any(run.struck for m in messages for run in m.runs)
    if difference.kind is DifferenceKind.EXTRA:
        if fact.kind is FactKind.KEY and not difference.expected_count and not difference.removal and struck:
            return "IDM402" if fact.expires else "IDM302"
        return duplicated(difference)
    if difference.kind is DifferenceKind.CHANGED and difference.twice:
        return duplicated(difference)
    if difference.kind is DifferenceKind.MISSING and fact.kind is FactKind.KEY and fact.expires:
        return None
    if difference.kind is DifferenceKind.MISLINKED:
        return "IDM203"
    if messages is not None and not any(m.succeeded for m in messages):
        return None  # Never done at all: told by `_lost`.
    if difference.kind is DifferenceKind.CHANGED:
        return "IDM202" if struck else duplicated(difference)
    return "IDM202"


def _finding(
    code: str, found: Sequence[tuple[Difference, int | None]], storm: Storm, arguments: Arguments
) -> StressFinding:
    owners = list(dict.fromkeys(owner for _, owner in found if owner is not None))
    stories = [_story(owner, storm.ledger, arguments) for owner in owners]
    told = sorted(stories, key=lambda story: (story.cause == "", len(story.timeline)))
    first = found[0][0]
    problem = Problem(code, first.store, first.group, first)
    entry = CODES[code]
    return StressFinding(
        code,
        entry.title,
        summary_of(problem),
        len(found),
        len(owners),
        tuple(difference for difference, _ in found[:_DIFFERENCES_MAX]),
        tuple(told[:_STORIES_MAX]),
        _causes(stories),
        entry.remedy,
    )


def _causes(stories: Sequence[Story]) -> str:
    counts = Counter(story.cause for story in stories if story.cause)
    return "; ".join(f"{count} × {cause}" for cause, count in counts.most_common(4))


def _lost(storm: Storm, arguments: Arguments, told: set[int]) -> list[StressFinding]:
    """Jobs of which no Execution ended well: given up by the queue, or never begun."""
    groups: dict[str, list[int]] = defaultdict(list)
    by_job: dict[int, list[Message]] = defaultdict(list)
    for message in storm.ledger.messages.values():
        if message.job >= 0:
            by_job[message.job].append(message)
    for job, messages in sorted(by_job.items()):
        if any(m.succeeded for m in messages) or not any(m.sent for m in messages):
            continue
        why = _why_lost(messages, storm)
        # What the fault itself has taken away is no setting's doing; it is told message by message.
        if why and not (storm.restarts and why.startswith("Redis came back")):
            groups[why].append(job)
    findings = []
    for why, jobs in groups.items():
        code = "IDM301" if why.startswith("every execution fails") else "IDM204"
        stories = tuple(_story(job, storm.ledger, arguments) for job in jobs[:_STORIES_MAX])
        entry = CODES[code]
        summary = f"{len(jobs)} job{'s were' if len(jobs) > 1 else ' was'} never done"
        findings.append(
            StressFinding(code, entry.title, summary, len(jobs), len(jobs), (), stories, why, entry.remedy)
        )
    return findings


def _never_done(ledger: Ledger) -> set[int]:
    """The jobs of which no Execution ended well."""
    sent = {m.job for m in ledger.messages.values() if m.job >= 0 and m.sent}
    return sent - {m.job for m in ledger.messages.values() if m.succeeded}


def _why_lost(messages: Sequence[Message], storm: Storm) -> str:
    """The setting of RQ, or the job's own doing, because of which nothing was done; empty if it was merely not yet."""
    message = messages[0]
    fate = storm.fate_of.get(message.job_id, {})
    status, lists = fate.get("status"), fate.get("lists", [])
    runs = [run for m in messages for run in m.runs]
    if runs and all(run.ending == Ended.FAILED for run in runs) and status == "failed":
        return f"every execution fails: {runs[-1].error}"
    if message.popped and status == "queued" and not lists:
        return (
            "a worker was killed after it had taken the job from the queue: listening on several queues, RQ takes it by BLPOP, "
            "and from then on it is in the worker's memory alone. Let each worker listen on one queue"
        )
    if storm.unfinished or storm.interrupted:
        return ""
    if status == "failed" and storm.settings.retries == 0:
        return (
            "its worker was killed and the message has no Retry: RQ moves it to the FailedJobRegistry and nobody runs it again. "
            "Enqueue with retry=Retry(max=...)"
        )
    if status == "failed":
        return "its retries were used up"
    if status == "gone" and storm.restarts:
        return "Redis came back with the state of before it was sent"
    if status == "gone":
        return "RQ no longer knows the message"
    return f"RQ says {status!r}" + (f", in its {', '.join(lists)}" if lists else ", in none of its lists")


# -- what the queue did ------------------------------------------------------------------------------------


def _behaviours(storm: Storm, arguments: Arguments) -> Iterator[Behaviour]:
    found: dict[str, list[Message]] = defaultdict(list)
    for message in storm.ledger.messages.values():
        if message.job < 0:
            continue
        killed = any(run.ending == Ended.KILLED for run in message.runs)
        if killed and len(message.runs) > 1 and message.requeued:
            found["IDM501"].append(message)
        ok = [run for run in message.runs if run.ending == Ended.OK]
        again = len(ok) > message.queued
        if again and message.overlaps and not message.callback_fails:
            found["IDM502"].append(message)
        elif again:
            found["IDM503"].append(message)
        if message.queued > 1 and len(message.runs) > 1:
            found["IDM504"].append(message)
        if message.refused:
            found["IDM505"].append(message)
        if not message.succeeded and message.sent and not storm.interrupted and not storm.unfinished:
            found["IDM506"].append(message)
    for code, messages in sorted(found.items()):
        paths = Counter(path for m in messages for _, path in m.requeued)
        ways = ", ".join(f"{path} × {count}" for path, count in paths.most_common())
        text = CODES[code].meaning + (f" (given out again: {ways})" if ways and code < "IDM504" else "")
        if code == "IDM506":
            reasons = Counter(_why_lost([m], storm) for m in messages)
            text = "; ".join(f"{count} × {why}" for why, count in reasons.most_common())
        messages.sort(key=lambda m: len(m.runs))
        yield Behaviour(
            code, CODES[code].title, len(messages), text, _story(messages[0].job, storm.ledger, arguments)
        )


def _story(job: int, ledger: Ledger, arguments: Arguments) -> Story:
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
            TimelineEntry(at - begin, "given out again", detail=path) for at, path in message.requeued
        ]
        for run in message.runs:
            who = f"{run.worker.rpartition('-')[2] or run.worker} pid {run.pid}"
            entries.append(TimelineEntry(run.started - begin, "started", who, message.job_id))
            for effect in run.effects:
                if effect["access"] != "read":
                    detail = effect["detail"] + (f" → {effect['outcome']}" if effect["outcome"] else "")
                    entries.append(TimelineEntry(effect["at"] - begin, effect["label"], who, detail))
            if run.struck:
                last = max([run.started, *(e["at"] for e in run.effects)])
                entries.append(TimelineEntry(last - begin, "struck", who, run.struck))
            if run.ended is not None:
                entries.append(TimelineEntry(run.ended - begin, f"ended: {run.ending}", who, run.error or ""))
    entries.sort(key=lambda entry: entry.at)
    return Story(
        job,
        ", ".join(shown),
        tuple(entries[:_TIMELINE_MAX]),
        sum(len(m.runs) + m.ran_before for m in messages),
        sum(m.succeeded for m in messages),
        _cause(messages),
    )


def _cause(messages: Sequence[Message]) -> str:
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


# -- numbers -----------------------------------------------------------------------------------------------


def _counts(storm: Storm, jobs: int) -> dict[str, int]:
    counts = storm.ledger.counts
    overlapping = sum(m.overlaps for m in storm.ledger.messages.values())
    return {
        "jobs": jobs,
        "messages": counts["sent"],
        "refused": counts["refused"],
        "executions": counts["started"],
        "ok": counts["ok"],
        "failed": counts["failed"],
        "killed": counts["killed"],
        "redelivered": counts["requeued"],
        "overlapping": overlapping,
        "effects": counts["effects"],
        "workers_replaced": storm.workers_replaced,
    }


def _why_unknown(storm: Storm, sent_all: bool, duplicates: int, ledger: Ledger) -> str:
    if storm.interrupted:
        return "interrupted"
    if storm.unfinished:
        return "the time was over before everything was done"
    if not ledger.counts["ok"]:
        return "no execution ended well"
    if storm.settings.kill_at is not None and not ledger.strikes:
        return f"no execution came to {storm.settings.kill_at}; a finding's timeline shows the labels of a job's effects"
    if not duplicates:
        return "nothing was delivered twice: no copy was sent, and no execution was cut"
    return "" if sent_all else "the time was over before everything was sent; what was sent is right"


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    ordered = sorted(latencies)
    at = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * p))]
        for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {**at, "max": ordered[-1]}


def _bounds(settings: Settings) -> tuple[str, ...]:
    lease = "RQ's own times" if settings.lease_seconds is None else f"lease {settings.lease_seconds:g} s"
    return (
        f"{settings.workers} workers ({settings.worker_class}), {settings.producers} producers",
        _faults(settings),
        f"Retry(max={settings.retries})" if settings.retries else "no Retry",
        lease,
        f"sent as {', '.join(settings.sending)}",
    )


def _faults(settings: Settings) -> str:
    if settings.kill_at is not None:
        return f"the first execution of each message struck {settings.kill_at} ({settings.faults[0]})"
    if not settings.kill_rate or not settings.faults:
        return "no faults"
    return f"{settings.kill_rate:.0%} of the executions struck by {', '.join(settings.faults)}"
