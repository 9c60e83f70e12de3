"""The judgement: the same oracle as in a search, over all jobs at once, and told job by job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.checkers import Noise, Problem, State, compare
from idemfuzz.checkers.verdicts import duplicated
from idemfuzz.diagnose import CODES, summary_of
from idemfuzz.model import Difference, DifferenceKind, FactKind, Note, Verdict
from idemfuzz.stress.ledger import Ended, Ledger, Message
from idemfuzz.stress.report import Behaviour, Story, StressFinding, StressReport, TimelineEntry
from idemfuzz.stress.settings import Settings
from idemfuzz.stress.storm import Storm

__all__ = ["Clean", "Judgement"]

_STORIES_MAX = 3
_DIFFERENCES_MAX = 5
_TIMELINE_MAX = 40
_TEXT_LENGTH_MIN = 3
Arguments = Callable[[int], tuple[tuple[Any, ...], Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Clean:
    """What each of some jobs delivered once leaves behind."""

    numbers: range
    state: State
    other_order: State | None
    """The same jobs in another order: what differs is the order's doing, and nobody's fault."""
    noise: Noise
    effects: tuple[Mapping[str, Any], ...]
    """Of the first job."""


@dataclass(slots=True)
class _Found:
    """One finding in the making: numbers, and a few examples."""

    summary: str = ""
    count: int = 0
    jobs: set[int] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)

    def tell(self, story: Story) -> None:
        """Keep the stories with a cause, and of these the short ones."""
        self.stories.append(story)
        self.stories.sort(key=lambda story: (story.cause == "", len(story.timeline)))
        del self.stories[_STORIES_MAX:]


@dataclass(slots=True)
class _Seen:
    """One of RQ's doings in the making."""

    count: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    story: Story | None = None
    length: int = 0


class Judgement:
    """Takes one round after the other; `report` says what came of all of them.

    Invariant: what is kept of a round does not grow with its size, but for the numbers of the jobs.
    """

    def __init__(self, name: str, settings: Settings, arguments: Arguments) -> None:
        self._name = name
        self._settings = settings
        self._arguments = arguments
        self._found: dict[tuple[str, str, str], _Found] = {}
        self._lost: dict[tuple[str, str], _Found] = {}
        self._seen: dict[str, _Seen] = {}
        self._notes: dict[Note, None] = {}
        self._jobs: set[int] = set()
        self._rounds = 0
        self._overlapping = 0
        self._repeated = 0
        """Messages that were delivered more than once, and jobs of which copies were sent."""
        self._crashes: Sequence[str] = ()
        self._replaced = 0
        self._interrupted = False
        self._unfinished = False

    @property
    def findings(self) -> int:
        """How many there are until now."""
        return len(self._found) + len(self._lost)

    def interrupt(self) -> None:
        """The run ends before everything was judged."""
        self._interrupted = True

    def take(self, clean: Clean, state: State, storm: Storm) -> None:
        """Judge a round whose storm left ``state``."""
        ledger = storm.ledger
        jobs = ledger.jobs
        self._rounds += 1
        self._jobs.update(jobs)
        self._interrupted |= storm.interrupted
        self._unfinished |= storm.unfinished
        self._crashes, self._replaced = storm.crashes, self._replaced + storm.replaced
        self._overlapping += sum(m.overlaps for m in ledger.messages.values())
        self._repeated += sum(m.queued + len(m.requeued) > 1 for m in ledger.messages.values())
        self._repeated += sum(len(messages) > 1 for messages in jobs.values())
        told = self._compare(clean, state, storm)
        self._note_lost(storm, told)
        self._note_behaviours(storm)

    def report(
        self, ledger: Ledger, *, stores: Sequence[str], seconds: float, storm_seconds: float
    ) -> StressReport:
        """All rounds together."""
        findings = [self._finding(key[0], found) for key, found in sorted(self._found.items())]
        findings += [self._finding(code, found, why) for (code, why), found in self._lost.items()]
        why = self._why_unknown(ledger)
        if self._crashes:
            text = f"{len(self._crashes)} workers ended by themselves; the first: {self._crashes[0]}"
            self._notes[Note("IDM901", text)] = None
        if ledger.counts["doubtful calls"]:
            text = (
                f"{ledger.counts['doubtful calls']} outside calls were under way when their process was killed; whether they "
                "took place is not known, and they are not counted"
            )
            self._notes[Note("IDM901", text)] = None
        return StressReport(
            self._name,
            Verdict.VIOLATED if findings else Verdict.UNKNOWN if why else Verdict.HOLDS,
            tuple(findings),
            tuple(self._behaviour(code, seen) for code, seen in sorted(self._seen.items())),
            tuple(self._notes),
            self._counts(ledger),
            dict(ledger.strikes),
            tuple(stores),
            _bounds(self._settings, self._rounds),
            self._settings.seed,
            seconds,
            storm_seconds,
            _percentiles(ledger.latencies),
            why,
        )

    # -- the state ---------------------------------------------------------------------------------------

    def _compare(self, clean: Clean, state: State, storm: Storm) -> set[int]:
        """Find what differs and whose it is; the jobs of which something was found."""
        ledger = storm.ledger
        differences, notes = _without_order(compare(clean.state, state, clean.noise).differences, clean)
        self._notes |= dict.fromkeys(notes)
        owners = _Owners(self._arguments, clean.numbers)
        never_sent = set(clean.numbers) - set(ledger.jobs)
        owned = [(difference, owners.of(difference)) for difference in differences]
        undone = _undone(owned, clean)
        never_done = _never_done(ledger)
        pending = ledger.pending() if storm.cut_short else set()
        kept: dict[tuple[str, str, str], list[tuple[Difference, int | None]]] = defaultdict(list)
        for difference, owner in owned:
            if owner in never_sent:
                continue
            code = _code(difference, None if owner is None else ledger.of_job(owner))
            if code is None:
                continue
            if code == "IDM202" and owner in undone:
                code = "IDM201"
            if code.startswith("IDM4"):
                text = f"a crash leaves {difference.group} behind until it expires"
                self._notes[Note(code, text)] = None
                continue
            if (owner is None or owner in pending) and storm.cut_short and not _is_certain(difference):
                continue
            if (
                never_done
                and owner is None
                and difference.kind is DifferenceKind.CHANGED
                and not difference.twice
            ):
                text = (
                    f"{difference.store}: {difference.group} is made by several jobs, of which {len(never_done)} were never "
                    "done: it was not judged"
                )
                self._notes[Note("IDM204", text)] = None
                continue
            kept[code, difference.store, difference.group].append((difference, owner))
        for key, found in kept.items():
            self._keep(key, found, ledger)
        return {owner for found in kept.values() for _, owner in found if owner is not None}

    def _keep(
        self,
        key: tuple[str, str, str],
        found: Sequence[tuple[Difference, int | None]],
        ledger: Ledger,
    ) -> None:
        kept = self._found.setdefault(key, _Found())
        first = found[0][0]
        kept.summary = kept.summary or summary_of(Problem(key[0], first.store, first.group, first))
        kept.count += len(found)
        kept.differences += [
            difference for difference, _ in found[: _DIFFERENCES_MAX - len(kept.differences)]
        ]
        for owner in dict.fromkeys(owner for _, owner in found if owner is not None):
            kept.jobs.add(owner)
            messages = ledger.of_job(owner)
            if cause := _cause(messages):
                kept.causes[cause] += 1
            if len(kept.stories) < _STORIES_MAX or not kept.stories[-1].cause:
                kept.tell(_story(owner, ledger, self._arguments))

    def _finding(self, code: str, found: _Found, why: str = "") -> StressFinding:
        entry = CODES[code]
        causes = "; ".join(f"{count} × {cause}" for cause, count in found.causes.most_common(4))
        summary = found.summary
        if why:
            summary = f"{found.count} job{'s were' if found.count > 1 else ' was'} never done"
        return StressFinding(
            code,
            entry.title,
            summary,
            found.count,
            len(found.jobs),
            tuple(found.differences),
            tuple(found.stories),
            why or causes,
            entry.remedy,
        )

    # -- jobs never done ---------------------------------------------------------------------------------

    def _note_lost(self, storm: Storm, told: set[int]) -> None:
        """Jobs of which no Execution ended well: given up by the queue, or never begun."""
        for job, messages in sorted(storm.ledger.jobs.items()):
            if any(m.succeeded for m in messages) or not any(m.sent for m in messages):
                continue
            why = _why_lost(messages, storm)
            # What the fault itself has taken away is no setting's doing; it is told message by message.
            if not why or (storm.ledger.strikes["restart"] and why.startswith("Redis came back")):
                continue
            code = "IDM301" if why.startswith("every execution fails") else "IDM204"
            found = self._lost.setdefault((code, why), _Found())
            found.count += 1
            found.jobs.add(job)
            if len(found.stories) < _STORIES_MAX:
                found.tell(_story(job, storm.ledger, self._arguments))

    # -- what the queue did ------------------------------------------------------------------------------

    def _note_behaviours(self, storm: Storm) -> None:
        for message in storm.ledger.messages.values():
            if message.job < 0:
                continue
            for code in _behaviours(message, cut_short=storm.cut_short):
                seen = self._seen.setdefault(code, _Seen())
                seen.count += 1
                seen.ways.update(path for _, path in message.requeued)
                if code == "IDM506":
                    seen.reasons[_why_lost([message], storm)] += 1
                if seen.story is None or len(message.runs) < seen.length:
                    seen.story, seen.length = (
                        _story(message.job, storm.ledger, self._arguments),
                        len(message.runs),
                    )

    @staticmethod
    def _behaviour(code: str, seen: _Seen) -> Behaviour:
        ways = ", ".join(f"{path} × {count}" for path, count in seen.ways.most_common())
        text = CODES[code].meaning + (f" (given out again: {ways})" if ways and code < "IDM504" else "")
        if code == "IDM506":
            text = "; ".join(f"{count} × {why}" for why, count in seen.reasons.most_common(4))
        return Behaviour(code, CODES[code].title, seen.count, text, seen.story)

    # -- numbers -----------------------------------------------------------------------------------------

    def _counts(self, ledger: Ledger) -> dict[str, int]:
        counts = ledger.counts
        return {
            "jobs": len(self._jobs),
            "rounds": self._rounds,
            "messages": counts["sent"],
            "refused": counts["refused"],
            "executions": counts["started"],
            "ok": counts["ok"],
            "failed": counts["failed"],
            "killed": counts["killed"],
            "redelivered": counts["requeued"],
            "overlapping": self._overlapping,
            "effects": counts["effects"],
            "workers_replaced": self._replaced,
        }

    def _why_unknown(self, ledger: Ledger) -> str:
        settings = self._settings
        if self._interrupted:
            return "interrupted"
        if self._unfinished:
            return "the time was over before everything was done"
        if not ledger.counts["ok"]:
            return "no execution ended well"
        if settings.kill_at is not None and not ledger.strikes:
            return f"no execution came to {settings.kill_at}; a finding's timeline shows the labels of a job's effects"
        if not self._repeated:
            return "nothing was delivered twice: no copy was sent, and no execution was cut"
        sent_all = ledger.counts["sent"] + ledger.counts["refused"] >= settings.deliveries
        return "" if sent_all else "the time was over before everything was sent; what was sent is right"


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


def _undone(owned: Sequence[tuple[Difference, int | None]], clean: Clean) -> set[int]:
    """The jobs of whose work (rows, mails, calls: no keys) nothing is there."""
    work = sum(fact.kind is not FactKind.KEY for fact in clean.state.delta.added) // len(clean.numbers)
    missing = Counter(
        owner
        for difference, owner in owned
        if owner is not None
        and difference.kind is DifferenceKind.MISSING
        and difference.fact.kind is not FactKind.KEY
    )
    return {owner for owner, count in missing.items() if work and count >= work}


def _is_certain(difference: Difference) -> bool:
    """Whether it is wrong whatever would still have been done: what is there too often."""
    return difference.fact.kind is not FactKind.KEY and (
        difference.kind is DifferenceKind.EXTRA or difference.twice
    )


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


# -- what the queue did ------------------------------------------------------------------------------------


def _behaviours(message: Message, *, cut_short: bool) -> Iterator[str]:
    """The codes of what RQ did with it."""
    killed = any(run.ending == Ended.KILLED for run in message.runs)
    if killed and len(message.runs) > 1 and message.requeued:
        yield "IDM501"
    again = sum(run.ending == Ended.OK for run in message.runs) > message.queued
    if again:
        yield "IDM502" if message.overlaps and not message.callback_fails else "IDM503"
    if message.queued > 1 and len(message.runs) > 1:
        yield "IDM504"
    if message.refused:
        yield "IDM505"
    if not message.succeeded and message.sent and not cut_short:
        yield "IDM506"


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
        sum(len(m.runs) for m in messages),
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


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    ordered = sorted(latencies)
    at = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * p))]
        for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {**at, "max": ordered[-1]}


def _bounds(settings: Settings, rounds: int) -> tuple[str, ...]:
    lease = "RQ's own times" if settings.lease_seconds is None else f"lease {settings.lease_seconds:g} s"
    return (
        f"{settings.workers} workers ({settings.worker_class}), {settings.producers} producers",
        _faults(settings),
        f"Retry(max={settings.retries})" if settings.retries else "no Retry",
        lease,
        f"sent as {', '.join(settings.sending)}",
        *([f"in {rounds} rounds, each judged in full from the same state on"] if rounds > 1 else []),
    )


def _faults(settings: Settings) -> str:
    if settings.kill_at is not None:
        return f"the first execution of each message struck {settings.kill_at} ({settings.faults[0]})"
    if not settings.kill_rate or not settings.faults:
        return "no faults"
    return f"{settings.kill_rate:.0%} of the executions struck by {', '.join(settings.faults)}"
